/**
 * What a try came to, and where it is that a try would go: what `verify` judges by.
 *
 * @module
 */
import { shown } from "../shown.ts";
import { FishnetError } from "../errors.ts";
import type { System } from "../account.ts";
import type { Ask } from "../root.ts";
import type { Answer, Person } from "./tries.ts";

/** The families of IP. */
export type Family = 4 | 6;

/**
 * `refused`: this machine's own rules said no. `unanswered`: it waited in vain. `broken`: it
 * failed for another reason or was not tried, so it shows nothing.
 */
export type Outcome = "reached" | "refused" | "unanswered" | "broken";

/** What one try did. */
export interface Attempt {
  /** The account that tried. */
  readonly by: string;
  readonly outcome: Outcome;
  /** What it said, in a few words, fit to be shown. */
  readonly said: string;
  /** The call that failed, and the name of its error. */
  readonly call?: string;
  readonly word?: string;
  /** Where the kernel was asked for a route: the device that it leads to. */
  readonly device?: string;
  /** macOS: pf may have dropped it without a word. */
  readonly silent?: boolean;
  /** HTTP on Linux: the uids of those who listen on that port. */
  readonly listeners?: readonly number[] | undefined;
}

/** The calls that send: only their words are a refusal. */
const SENDING = ["connect", "send"];

/**
 * The words of a refusal. Linux answers so where a rule rejects or prohibits. On macOS pf answers a
 * blocked connection with a reset, where the packet has its checksum already (xnu, pf_test_rule), and a
 * datagram with ICMP; the sender is told nothing (ip_output). Others may say the same: a control must
 * get through.
 */
const REFUSALS: Readonly<Record<System, readonly string[]>> = {
  linux: ["EACCES", "EPERM"],
  macos: ["EACCES", "EPERM", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH"],
};

/**
 * Whether a connection was refused or reset before it stood, or ICMP refused a datagram. One that is
 * reset later was let through, and whoever listens there may do that.
 */
export function isReset({ call = "", word }: Attempt): boolean {
  return SENDING.includes(call) && (word === "ECONNREFUSED" || word === "ECONNRESET");
}

/** Reads what a try answered; `complaint` is why there is no answer. */
export function attemptOf(
  { name: by }: Person,
  answer: Answer | undefined,
  complaint: string,
  system: System,
): Attempt {
  if (answer === undefined) {
    return { by, outcome: "broken", said: `could not be tried (${shown(complaint)})` };
  }
  const { call, word = "" } = answer;
  const listeners = system === "linux" ? answer.listeners : undefined;
  if (call === "ok") {
    const said = answer.text ? `answered "${shown(answer.text, 80)}"` : "it went out";
    return { by, outcome: "reached", said, listeners };
  }
  if (call === "sent") return { by, outcome: "reached", said: "it was sent", silent: true };
  const words = shown(answer.words ?? "");
  const failed = { by, call, word, listeners };
  if (call === "wait") {
    return { ...failed, outcome: "unanswered", said: words, silent: system === "macos" };
  }
  return SENDING.includes(call) && REFUSALS[system].includes(word)
    ? { ...failed, outcome: "refused", said: `refused at once (${words})` }
    : { ...failed, outcome: "broken", said: `${call}: ${words}` };
}

/** Reads what `ip route get` printed. */
export function readRoute(
  { exitCode, stdout, stderr }: Awaited<ReturnType<Ask>>,
): Omit<Attempt, "by"> {
  const device = /\bdev ([!-~]+)/.exec(stdout)?.[1];
  if (exitCode === 0 && device !== undefined && device !== "lo") {
    return { outcome: "reached", said: `there is a route by ${device}`, device };
  }
  // The answer to a prohibit rule, and to no other (ip-rule(8)).
  if (exitCode !== 0 && /^RTNETLINK answers: Permission denied$/m.test(stderr)) {
    const said = "the kernel refuses a route (Permission denied)";
    return { outcome: "refused", said, word: "EACCES" };
  }
  if (exitCode !== 0 && /^RTNETLINK answers: Network is unreachable$/m.test(stderr)) {
    return { outcome: "broken", said: "Network is unreachable", word: "ENETUNREACH" };
  }
  const said = stderr.trim().split("\n").at(-1)?.replace("RTNETLINK answers: ", "");
  return { outcome: "broken", said: shown(said || "there is no route") };
}

/** The addresses of a host, one a family at most. Names are looked up as root: the account may not. */
export async function resolve(
  ask: Ask,
  host: string,
  system: System,
): Promise<ReadonlyMap<Family, string>> {
  if (/^[\d.]+$/.test(host)) return new Map([[4, host]]);
  if (host.includes(":")) return new Map([[6, host]]);
  if (host === "localhost") return new Map([[4, "127.0.0.1"]]);
  if (system === "macos") {
    throw new FishnetError(`'${host}' is a name, which is not looked up here: give its address`);
  }
  const found = new Map<Family, string>();
  for (const family of [4, 6] as const) {
    const words = ["getent", `ahostsv${family}`, "--", host];
    const address = (await ask(words, { seconds: 5 })).stdout.split(/\s/, 1)[0];
    // A name without IPv6 is answered with IPv4 addresses in IPv6's clothes.
    if (address && !address.startsWith("::ffff:")) found.set(family, address);
  }
  if (found.size === 0) throw new FishnetError(`'${host}' has no address here: give one instead`);
  return found;
}

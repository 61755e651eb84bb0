/**
 * Has root try what accounts may do, without anything running as them (`try.pl` takes an account's
 * effective uid for a moment, and its real one never), and says what each try came to.
 */
import { FishnetError } from "../errors.ts";
import type { Ask, Root } from "../root.ts";
import { shown } from "../shown.ts";
import script from "./try.pl" with { type: "text" };

/** The families of IP. */
export type Family = 4 | 6;

/** An account, as the kernel knows it. */
export interface Person {
  readonly name: string;
  readonly uid: number;
  /** The groups, the account's own first. */
  readonly groups: readonly number[];
}

/** Where to. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** One thing to try, whoever tries it. */
export type What =
  /** `told`: UDP to a peer, which hears ICMP's answer where a sender is told nothing of what is dropped. */
  | Endpoint & { readonly kind: "tcp" | "udp" | "told" }
  /** UDP by one device, whatever the routes say. */
  | Endpoint & { readonly kind: "device"; readonly device: string }
  | Endpoint & { readonly kind: "http"; readonly path: string }
  /** May it write to this file or Unix socket? */
  | { readonly kind: "write"; readonly path: string }
  /** May it call this name on the bus that listens on this Unix socket? */
  | { readonly kind: "bus"; readonly host: string; readonly name: string };

/** One thing to try, as somebody. */
export type Attempted = { readonly as: Person } & What;

/** What the very call said. */
interface Said {
  /** `ok`, or the call that failed; `wait` for no answer in time, `sent` where nobody said a thing. */
  readonly call: string;
  /** The name of its error (`EACCES`), and what that means. */
  readonly word?: string;
  readonly words?: string;
  /** HTTP: the first line of what was answered, 200 bytes of it at most. Somebody else's text. */
  readonly text?: string;
  /** HTTP, where that can be seen: the uids of those who listened on that port meanwhile. */
  readonly listeners: readonly number[];
}

/** Seconds for all the tries together; the script takes 7 at most, by itself. */
const SECONDS = 9;

/** Tries all at once; the answers in that order, undefined for a try that did not end. */
export async function tryAll(
  ask: Ask,
  what: readonly Attempted[],
): Promise<{ answers: (Said | undefined)[]; complaint: string }> {
  // The mark goes by standard input, which no account can read.
  const mark = crypto.randomUUID();
  const input = [script.trimEnd(), mark, ...what.map(lineOf), ""].join("\n");
  const { exitCode, stdout, stderr } = await ask(["perl", "-"], { input, seconds: SECONDS });
  const answers = parseAnswers(stdout, mark, what.length);
  const said = `${stdout}\n${stderr}`.split("\n").filter((line) => line && !line.startsWith(mark));
  return { answers, complaint: said.at(-1) ?? `perl ended with ${exitCode}` };
}

function lineOf(one: Attempted, number: number): string {
  const { host = "-", port = 0, device, path, name } = one as Partial<
    Record<"host" | "device" | "path" | "name", string> & { port: number }
  >;
  const more = device ?? path ?? name ?? "-";
  const words = [one.as.uid, one.as.groups.join(","), one.kind, host, port, more];
  return [number, ...words].map(String).map(word).join(" ");
}

/** @throws {Error} for what would be another word, or another line. */
function word(text: string): string {
  if (!/^[!-~]+$/.test(text)) throw new Error(`not a word for try.pl: ${JSON.stringify(text)}`);
  return text;
}

/** Reads what the script printed; the first answer to a try counts. */
export function parseAnswers(text: string, mark: string, count: number): (Said | undefined)[] {
  const answers = Array.from<Said | undefined>({ length: count });
  const listeners = answers.map(() => new Set<number>());
  for (const line of text.split("\n")) {
    const [first, number = "", call = "", word = "", ...words] = line.split(" ");
    const index = /^\d+$/.test(number) ? Number(number) : count;
    if (first !== mark || index >= count || call === "") continue;
    if (call === "listen") word.split(",").forEach((uid) => listeners[index]!.add(Number(uid)));
    else {
      answers[index] ??= call === "ok"
        ? { call, text: fromHex(word), listeners: [] }
        : { call, word, words: words.join(" "), listeners: [] };
    }
  }
  return answers.map((answer, i) => answer && { ...answer, listeners: [...listeners[i]!] });
}

function fromHex(digits: string): string {
  const bytes = (digits.match(/[0-9a-f]{2}/g) ?? []).map((pair) => Number.parseInt(pair, 16));
  return new TextDecoder().decode(new Uint8Array(bytes));
}

/** `unanswered`: waited in vain. `broken`: failed otherwise, or not tried, so it shows nothing. */
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
  /** A filter may have dropped it without a word. */
  readonly silent?: boolean;
  /** HTTP, where that can be seen: the uids of those who listen on that port. */
  readonly listeners?: readonly number[] | undefined;
}

/** One address a family. */
export type Addresses = ReadonlyMap<Family, string>;

/** Whether an address is loopback's, or `::`, which leads there: each machine's own. */
export const isLoopback = (address: string): boolean => /^(127\.|::1?$)/.test(address);

/** What a system knows of tries. */
export interface Trying {
  /** The errors by which its filter refuses a call that sends; a control must get through. */
  readonly refusals: readonly string[];
  /** Its filter may drop what is sent, and tell the sender nothing. */
  readonly drops?: true;
  /** The families in which there is a way out: those of a target, where nothing else tells. */
  familiesOf(look: Root["look"], targets: Addresses | undefined): Promise<Family[]>;
  /** The addresses of a name, as root looks it up; without this, names are refused. */
  addressesOf?(ask: Ask, name: string): Promise<Addresses>;
  /** Whether the kernel has a route to an address for somebody's socket; no packet is sent. */
  routeOf?(ask: Ask, family: Family, address: string, uid: number): Promise<Omit<Attempt, "by">>;
  /** Whether an address is this machine's own, so that what is sent there stays here. */
  isHere(ask: Ask, family: Family, address: string): Promise<boolean>;
}

/** The calls that send. */
const SENDING = ["connect", "send"];

/** Only their words are a refusal, and that of the call which asks whether a file may be written to. */
const REFUSING = [...SENDING, "access"];

/** Whether it was refused before it stood, or by ICMP: what is reset later was let through. */
export function isReset({ call = "", word }: Attempt): boolean {
  return SENDING.includes(call) && (word === "ECONNREFUSED" || word === "ECONNRESET");
}

/** Reads what a try answered; `complaint` is why there is no answer. */
export function attemptOf(
  { name: by }: Person,
  answer: Said | undefined,
  complaint: string,
  { refusals, drops }: Pick<Trying, "refusals" | "drops">,
): Attempt {
  if (answer === undefined) {
    return { by, outcome: "broken", said: `could not be tried (${shown(complaint)})` };
  }
  const { call, word = "" } = answer;
  const listeners = drops ? undefined : answer.listeners;
  if (call === "ok") {
    const said = answer.text ? `answered "${shown(answer.text, 80)}"` : "it went out";
    return { by, outcome: "reached", said, listeners };
  }
  if (call === "sent") return { by, outcome: "reached", said: "it was sent", silent: true };
  const words = shown(answer.words ?? "");
  const failed = { by, call, word, listeners };
  if (call === "wait") {
    return { ...failed, outcome: "unanswered", said: words, silent: drops ?? false };
  }
  return REFUSING.includes(call) && refusals.includes(word)
    ? { ...failed, outcome: "refused", said: `refused at once (${words})` }
    : { ...failed, outcome: "broken", said: `${call}: ${words}` };
}

/** The addresses of a host, one a family at most. Names are looked up as root: the account may not. */
export async function resolve(ask: Ask, host: string, { addressesOf }: Trying): Promise<Addresses> {
  if (/^[\d.]+$/.test(host)) return new Map([[4, host]]);
  if (host.includes(":")) return new Map([[6, host]]);
  if (host === "localhost") return new Map([[4, "127.0.0.1"]]);
  if (addressesOf === undefined) {
    throw new FishnetError(`'${host}' is a name, which is not looked up here: give its address`);
  }
  const found = await addressesOf(ask, host);
  if (found.size === 0) throw new FishnetError(`'${host}' has no address here: give one instead`);
  return found;
}

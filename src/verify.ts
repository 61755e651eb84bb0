/**
 * `verify`: the reference page's Testing section, done for you. It tries, as the
 * account, what must fail and what must work, each beside a control: the same
 * as somebody who is not locked. Where the control fails too, nothing is shown.
 *
 * Without `--target` no packet is sent off the machine: the kernel is asked
 * for a route, and only an account that it refuses one is let try for real.
 *
 * @module
 */
import { FishnetError } from "./errors.ts";
import type { System } from "./planner.ts";
import { type AccountStatus, type LockState, statusOf } from "./status.ts";
import { readAsRoot } from "./sudo.ts";
import {
  ADDRESSES,
  asPfRefuses,
  type Attempt,
  attempt,
  PAST_ROUTING,
  resolve,
  routeOf,
} from "./verify_attempts.ts";

/** What one line of a verification comes to. */
export type Verdict = "proven" | "failed" | "inconclusive" | "note";

/** One thing that was tried. */
export interface Try {
  /** What was tried, and where. */
  readonly what: string;
  readonly expected: "refused" | "reached";
  readonly verdict: Verdict;
  /** What the account's try did, and what the control's did. */
  readonly did: string;
}

/** What was tried for one account, and what it shows. */
export interface Verification {
  readonly name: string;
  /** What `status` says: a lock with a piece missing is not proven by tries that happen to fail. */
  readonly state: LockState;
  /** Fully locked, nothing got out, and something outside was shown to be refused. */
  readonly proven: boolean;
  readonly tries: readonly Try[];
}

/** What to try. */
export interface VerifyOptions {
  readonly system: System;
  readonly target: { readonly host: string; readonly port: number } | undefined;
  readonly proxy: URL;
}

/**
 * Verifies one account.
 *
 * @throws {FishnetError} for an account that does not exist, or a target that nothing resolves.
 */
export async function verify(name: string, options: VerifyOptions): Promise<Verification> {
  const { accounts: [status], reason } = await statusOf([name], options.system);
  const { state } = status!;
  if (state === "unknown") {
    const what = "the firewall's state";
    const did = reason ?? "it could not be read";
    const tries: Try[] = [{ what, expected: "reached", verdict: "inconclusive", did }];
    return { name, state, proven: false, tries };
  }
  if ((await readAsRoot("id", "-u", name)).exitCode !== 0) {
    throw new FishnetError(`the account '${name}' does not exist: nothing can be tried as it`);
  }
  const control = await controlAccount(options.system);
  const tries = [
    ...await outsideTries(status!, control, options),
    ...await loopbackTries(status!, control, options.proxy),
  ];
  return { name, state, proven: isProven(state, tries), tries };
}

/** Whether the tries show what the state says. */
export function isProven(state: LockState, tries: readonly Try[]): boolean {
  return state === "locked" && tries.every(({ verdict }) => verdict !== "failed") &&
    tries.some(({ verdict, expected }) => verdict === "proven" && expected === "refused");
}

/** An account that is not locked: nobody, or root where nobody is locked or not there. */
async function controlAccount(system: System): Promise<string> {
  try {
    const { state } = await statusOf(["nobody"], system);
    return state === "unlocked" ? "nobody" : "root";
  } catch (error) {
    if (error instanceof FishnetError) return "root";
    throw error;
  }
}

async function outsideTries(
  account: AccountStatus,
  control: string,
  { target, system }: VerifyOptions,
): Promise<Try[]> {
  const addresses = target === undefined
    ? ADDRESSES
    : await resolve(target.host, system, account.name);
  const tries: Try[] = [];
  for (const { family, address } of addresses) {
    const port = target?.port ?? 443;
    const label = `IPv${family}`;
    const [own, others] = system === "linux"
      ? [await routeOf(account.name, family, address), await routeOf(control, family, address)]
      : [undefined, undefined];
    if (own !== undefined && others !== undefined) {
      tries.push(judgeRefusal(`${label}: a route to ${address}, asked of the kernel`, own, others));
    }
    const device = others?.device;
    for (
      const [what, kind, to] of [
        [`TCP to ${address} port ${port}`, "tcp", port],
        [`UDP to ${address} port ${port}`, "udp", port],
        [`DNS over UDP to ${address} port 53`, "udp", 53],
        [`UDP by ${device} alone, which no routing rule sees`, "device", 9],
      ] as const
    ) {
      if (kind === "device" && device === undefined) continue;
      const host = kind === "device" ? PAST_ROUTING[family] : address;
      const send = async (as: string) => {
        const tried = await attempt(as, kind, host, to, device);
        return system === "macos" ? asPfRefuses(tried) : tried;
      };
      const mayTry = target !== undefined || own?.outcome === "refused";
      tries.push(
        mayTry
          ? judgeRefusal(
            `${label}: ${what}`,
            await send(account.name),
            // By default the control is the kernel's word, and no packet.
            target === undefined || kind === "device" ? others! : await send(control),
          )
          : notSent(`${label}: ${what}`, own),
      );
    }
  }
  return tries;
}

/** What is not tried without a target: a packet of an account that nothing would hold back. */
function notSent(what: string, route: Attempt | undefined): Try {
  const reached = route?.outcome === "reached";
  return {
    what,
    expected: "refused",
    verdict: reached ? "failed" : "inconclusive",
    did: reached
      ? `not sent: the kernel would have let it go (${route.said})`
      : "not sent: give --target HOST:PORT to try it for real",
  };
}

/** Judges a try that the lock must refuse. */
export function judgeRefusal(what: string, own: Attempt, control: Attempt): Try {
  const verdict = refusalVerdict(own, control);
  return { what, expected: "refused", verdict, did: describe(own, control) };
}

function refusalVerdict(own: Attempt, control: Attempt): Verdict {
  switch (own.outcome) {
    case "reached":
    case "unanswered": // a lock refuses at once: what waits for an answer was sent
      return "failed";
    case "refused":
      return control.outcome === "reached" ? "proven" : "inconclusive";
    case "broken":
      return "inconclusive";
  }
}

async function loopbackTries(
  { name, onlyPorts }: AccountStatus,
  control: string,
  proxy: URL,
): Promise<Try[]> {
  const host = proxy.hostname.replace(/^\[|\]$/g, "");
  const port = Number(proxy.port || 80);
  const get = (as: string) => attempt(as, "http", host, port, proxy.pathname + proxy.search);
  const own = await get(name);
  const limited = onlyPorts.length > 0;
  const allowed = !limited || onlyPorts.includes(port);
  const proxyTry = allowed
    ? judgeReach(`loopback: ${proxy.href}`, own, await get(control))
    : judgeRefusal(
      `loopback: ${proxy.href}, not a port of --only-port`,
      // A refusal on loopback is a reset, as from a port where nobody listens.
      own.outcome === "broken" ? { ...own, outcome: "refused" } : own,
      await get(control),
    );
  if (!limited) return [proxyTry];
  const dns = (as: string) => attempt(as, "udp", "127.0.0.1", 53);
  const asked = await dns(control);
  return [
    proxyTry,
    judgeRefusal(
      "loopback: UDP to 127.0.0.1 port 53, as to a DNS stub",
      await dns(name),
      // Nobody needs to listen: the refusal has a word of its own, and the control must not have it.
      asked.outcome === "refused" ? asked : { ...asked, outcome: "reached" },
    ),
  ];
}

/** Judges a try that must work; where nobody listens that is a note. */
export function judgeReach(what: string, own: Attempt, control: Attempt): Try {
  const verdict = own.outcome === "reached"
    ? "proven"
    : control.outcome === "reached"
    ? "failed"
    : "note";
  const did = verdict === "note"
    ? `nobody answers there, ${control.by} is not answered either (${control.said})`
    : describe(own, control);
  return { what, expected: "reached", verdict, did };
}

function describe(own: Attempt, control: Attempt): string {
  return `${own.by}: ${own.said}; control ${control.by}: ${control.said}`;
}

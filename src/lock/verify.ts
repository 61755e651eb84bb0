/**
 * `verify`: the reference page's Testing section, done for you. It tries, with the
 * account's uid, what must fail and what must work, each beside a control: the
 * same with the uid of somebody who is not locked.
 *
 * Without `--target` no packet is sent off the machine: the kernel is asked
 * for a route, and only an account that it refuses one is let try for real.
 */
import { PROXY_PORT } from "../account.ts";
import { FishnetError } from "../errors.ts";
import type { Root } from "../root.ts";
import { attemptOf, resolve, tryAll } from "./tries.ts";
import type { Addresses, Attempt, Attempted, Endpoint, Family } from "./tries.ts";
import type { Person, Trying, What } from "./tries.ts";
import type { Holder } from "./holder.ts";
import {
  isProven,
  judgeCall,
  judgeReach,
  judgeRefusal,
  judgeReset,
  judgeWriting,
} from "./judge.ts";
import type { Judged, Try, Verification, Way } from "./judge.ts";
import type { AccountStatus } from "./report.ts";
import { isOf } from "./uid_range.ts";

/** The account that is verified, with what `status` says of it. */
export type Verified = Person & Pick<AccountStatus, "state" | "onlyPorts"> & Pick<Holder, "ranges">;

/** What to try, and through whom. */
export interface VerifyOptions {
  readonly trying: Trying;
  readonly target: Endpoint | undefined;
  readonly proxy: URL;
  /** Whether the user named it: else it is at the first port that the lock leaves. */
  readonly proxyGiven: boolean;
  /** Services that reach other machines for whoever asks, which a lock with ports shuts. */
  readonly resolvers: readonly Resolver[];
  /** Somebody who is not locked. */
  readonly control: Person;
  readonly root: Root;
}

/** A service that looks names up, or prints: its socket, and its name on the bus that has one of its own. */
export interface Resolver {
  readonly socket: string;
  readonly call?: { readonly name: string; readonly bus: string };
}

/** A try before it is made: what is asked as each of the two, but where it is known without. */
interface Planned {
  readonly what: string;
  readonly asked?: What;
  readonly own?: Attempt | undefined;
  readonly control?: Attempt | undefined;
  /** Whose uid it is tried with, where that is not the account's own. */
  readonly as?: Person;
  /** How it is judged; by default as what the lock must refuse. */
  readonly judge?: (what: string, own: Attempt, control: Attempt) => Try;
  readonly part?: Judged["part"];
}

/** Of so many ranges of subordinate uids the first uid is tried, too. */
const MOST_RANGES = 5;

/** Addresses reserved for documentation (RFC 5737, RFC 3849): nobody has them. */
const NOBODYS: Readonly<Record<Family, string>> = { 4: "203.0.113.9", 6: "2001:db8::9" };

/**
 * What a socket bound to a device reaches without asking a routing rule (measured): in IPv4 any
 * address, in IPv6 a multicast one, here of those reserved for documentation (RFC 6676).
 */
const MULTICAST = "ff02::db8:0:9";

/** Takes 12 s at most, whatever the account does. @throws {FishnetError} for unknown names. */
export async function verify(account: Verified, options: VerifyOptions): Promise<Verification> {
  const { root: { ask, look }, trying, target } = options;
  const targets = target && await resolve(ask, target.host, trying);
  const families = await trying.familiesOf(look, targets);
  const planned: (Planned | Try)[] = [
    ...await outside(account, families, targets, options),
    ...families.includes(6) || trying.routeOf === undefined ? [] : [NO_IPV6],
    ...await loopback(account, options),
    ...account.onlyPorts.length === 0 ? [] : await resolvers(options),
  ];
  const asks = planned.flatMap((one): Attempted[] => {
    if ("verdict" in one || one.asked === undefined) return [];
    const who = [...one.own ? [] : [one.as ?? account], ...one.control ? [] : [options.control]];
    return who.map((as) => ({ as, ...one.asked! }));
  });
  const { answers, complaint } = await tryAll(ask, asks);
  const attempts = asks.map(({ as }, i) => attemptOf(as, answers[i], complaint, trying)).values();
  const next = () => attempts.next().value!; // they come in the order in which they were asked
  const judged = planned.map((one): Judged => {
    if ("verdict" in one) return one;
    const { what, own = next(), control = next(), judge = judgeRefusal, part } = one;
    return { ...judge(what, own, control), part };
  });
  // Only where the kernel tells of a route is a device known that leads outside.
  const ways: Way[] = trying.routeOf ? ["tcp", "udp", "device"] : ["tcp", "udp"];
  const proven = isProven(account.state, judged, families, ways);
  const tries = judged.map(({ part: _, ...one }) => one);
  return { name: account.name, state: account.state, proven, tries };
}

const NO_IPV6: Try = {
  what: "IPv6",
  expected: "refused",
  verdict: "note",
  did: "no device but loopback has an IPv6 address, so there is no way out to try",
};

/** How a datagram is tried: so that what refuses it is heard. */
const datagram = ({ drops }: Trying) => drops ? "told" : "udp";

async function outside(
  account: Verified,
  families: readonly Family[],
  targets: Addresses | undefined,
  { control, target, trying, root: { ask } }: VerifyOptions,
): Promise<Planned[]> {
  const asked = [...new Set([...families, ...targets?.keys() ?? []])];
  const routes = await Promise.all(asked.map(async (family) => {
    const address = targets?.get(family) ?? NOBODYS[family];
    const routeOf = async ({ name: by, uid }: Person): Promise<Attempt | undefined> => {
      const said = await trying.routeOf?.(ask, family, address, uid);
      return said && { by, ...said };
    };
    const [own, others] = await Promise.all([account, control].map(routeOf));
    return { family, address, own, others };
  }));
  const anyDevice = routes.find(({ others }) => others?.device)?.others?.device;
  return routes.flatMap(({ family, address, own, others }) => {
    const isTarget = targets?.has(family) ?? false;
    const port = isTarget ? target!.port : 443;
    const device = others?.device ?? anyDevice;
    const planned = (what: string, way: Way | undefined, asked: What): Planned => {
      // A socket bound to a device asks no route: the word of the kernel does not hold it back.
      const isHeld = own?.outcome === "refused" &&
        (asked.kind !== "device" || account.state === "locked");
      return {
        what: `IPv${family}: ${what}`,
        asked,
        own: isTarget || isHeld ? undefined : notSent(account, own, account.state === "partial"),
        // By default the control is the kernel's word, and no packet.
        control: isTarget ? undefined : others ?? notSent(control, own),
        part: way && { family, way },
      };
    };
    const to = { host: address, port };
    const dns = { kind: datagram(trying), host: address, port: 53 } as const;
    const byRoute = [
      planned(`TCP to ${address} port ${port}`, "tcp", { kind: "tcp", ...to }),
      planned(`UDP to ${address} port ${port}`, "udp", { kind: datagram(trying), ...to }),
      planned(`DNS over UDP to ${address} port 53`, undefined, dns),
    ];
    if (own === undefined) return byRoute;
    const asked = `IPv${family}: a route to ${address}, asked of the kernel`;
    const route = { what: asked, own, control: others };
    if (device === undefined) {
      const none = (who: Person) => notTried(who, "not tried: no device leads outside");
      const what = `IPv${family}: UDP by a device alone`;
      return [route, ...byRoute, { what, own: none(account), control: none(control) }];
    }
    const host = family === 6 ? MULTICAST : address;
    const byDevice = { kind: "device", host, port: 9, device } as const;
    // The filter has rules of their own for them.
    const subordinates = account.ranges.slice(0, MOST_RANGES).map(({ first: uid }) => ({
      ...planned(`the same as its subordinate uid ${uid}`, undefined, byDevice),
      as: { name: `uid ${uid}`, uid, groups: [uid] },
    }));
    return [
      route,
      ...byRoute,
      planned(`UDP by ${device} alone, which no routing rule sees`, "device", byDevice),
      ...subordinates,
    ];
  });
}

/** Not tried without a target; where a part of a lock is there, the packet filter may hold it. */
function notSent(who: Person, route: Attempt | undefined, isHalf = false): Attempt {
  if (route?.outcome !== "reached") {
    return notTried(who, "not sent: give --target HOST:PORT to try it for real");
  }
  if (isHalf) return notTried(who, `not sent: ${route.said}, which the packet filter may shut`);
  const said = `not sent: the kernel would have let it go (${route.said})`;
  return { by: who.name, outcome: "reached", said };
}

function notTried({ name: by }: Person, said: string): Attempt {
  return { by, outcome: "broken", said };
}

/** The doors to these services that are there: no packet is needed for them. */
async function resolvers({ root, resolvers }: VerifyOptions): Promise<Planned[]> {
  const places = resolvers.flatMap(({ socket, call }) => call ? [socket, call.bus] : [socket]);
  const files = await root.look(places);
  const isThere = (path: string) => files.get(path)?.type === "s";
  return resolvers.filter(({ socket }) => isThere(socket)).flatMap(({ socket: path, call }) => {
    const may = { kind: "write", path } as const;
    const writing: Planned = { what: `the socket ${path}`, asked: may, judge: judgeWriting };
    if (call === undefined || !isThere(call.bus)) return [writing];
    const asked = { kind: "bus", host: call.bus, name: call.name } as const;
    return [writing, { what: `${call.name} on D-Bus`, asked, judge: judgeCall }];
  });
}

async function loopback(
  account: Verified,
  { proxy: given, proxyGiven, trying, root: { ask } }: VerifyOptions,
): Promise<Planned[]> {
  const proxy = new URL(given);
  const { onlyPorts } = account;
  const [first] = onlyPorts;
  if (!proxyGiven && first !== undefined && !onlyPorts.includes(PROXY_PORT)) {
    proxy.port = `${first}`;
  }
  const addresses = await resolve(ask, proxy.hostname.replace(/^\[|\]$/g, ""), trying);
  const [[family, host]] = [...addresses] as [[Family, string]];
  if (!await trying.isHere(ask, family, host)) {
    throw new FishnetError(
      `the proxy '${proxy.hostname}' is not on this machine: give an address of this machine's, ` +
        "or --target HOST:PORT for what is elsewhere",
    );
  }
  const port = Number(proxy.port || 80);
  const path = proxy.pathname + proxy.search;
  const isLimited = onlyPorts.length > 0;
  const isAllowed = !isLimited || onlyPorts.includes(port);
  const reaching: Planned = {
    what: `loopback: ${proxy.href}${isAllowed ? "" : ", not a port of --only-port"}`,
    asked: { kind: "http", host, port, path },
    judge: isAllowed ? judgeReach((uid) => isOf(account, uid)) : judgeReset,
  };
  if (!isLimited) return [reaching];
  const asked = { kind: datagram(trying), host: "127.0.0.1", port: 53 } as const;
  const what = "loopback: UDP to 127.0.0.1 port 53, as to a DNS stub";
  return [reaching, { what, asked, judge: judgeCall }];
}

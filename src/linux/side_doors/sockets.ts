/**
 * What `ss` tells: connections from before the lock, and services on loopback that pass things on.
 *
 * @module
 */
import { PROXY_PORT } from "../../account.ts";
import type { Warning } from "../../lock/report.ts";
import { isOf } from "../../lock/uid_range.ts";
import { type Locked, whose } from "./locked.ts";

/** The states of sockets without a peer. */
const WAITING = ["LISTEN", "UNCONN"];

/** One socket as `ss -HneS` prints it. */
interface Socket {
  readonly protocol: string;
  readonly state: string;
  readonly localAddress: string;
  readonly localPort: number;
  readonly peerAddress: string;
  readonly peerPort: number;
  readonly uid: number;
}

function parseSockets(text: string): Socket[] {
  return text.split("\n").flatMap((line) => {
    // "s": at its end stands the cgroup's name, which the account may have chosen.
    const match = /^(\S+)\s+(\S+)\s+\d+\s+\d+\s+(\S+):(\d+)\s+(\S+):(\d+|\*)(.*)$/s.exec(line);
    if (match === null) return [];
    const [, protocol = "", state = "", local = "", port = "", peer = "", to = "", more = ""] =
      match;
    return [{
      protocol,
      state,
      localAddress: plainAddress(local),
      localPort: Number(port),
      peerAddress: plainAddress(peer),
      peerPort: Number(to) || 0,
      uid: Number(/\buid:(\d+)/.exec(more)?.[1] ?? 0), // ss leaves root's out
    }];
  });
}

/** An address without its brackets, its device, and IPv6's clothes for IPv4. */
function plainAddress(text: string): string {
  return text.replace(/^\[|\]$/g, "").replace(/%.*$/, "").replace(/^::ffff:/, "");
}

const isLoopback = (address: string) => address.startsWith("127.") || address === "::1";

/**
 * Connections from before the lock, of the account and of its subordinate uids: its processes may
 * still read what comes in, and SCTP goes on sending when they have ended.
 *
 * @param sockets undefined where `ss` failed
 * @param enabling whether the lock was just made: then sockets of UDP are from before, too
 */
export function connectionWarnings(
  accounts: readonly Pick<Locked, "name" | "uid" | "ranges" | "onlyPorts">[],
  sockets: string | undefined,
  addresses: string,
  enabling = false,
): Warning[] {
  if (sockets === undefined) {
    return [{
      reason: "connections from before the lock cannot be told without ss",
      remedy: "install ss (the package iproute2)",
    }];
  }
  const own = new Set(
    [...addresses.matchAll(/\binet6? ([0-9a-f.:]+)/g)].map(([, address]) => address),
  );
  const all = parseSockets(sockets);
  const open = all.filter(({ state }) => !WAITING.includes(state));
  const ends = new Set(
    all.map((one) => `${one.localAddress} ${one.localPort} ${one.peerAddress} ${one.peerPort}`),
  );
  // Somebody's DNAT may lead elsewhere what is for an address of this machine's own.
  const isHere = ({ protocol, state, localAddress, localPort, peerAddress, peerPort }: Socket) =>
    isLoopback(peerAddress) || own.has(peerAddress) &&
      (protocol !== "tcp" || state !== "ESTAB" ||
        ends.has(`${peerAddress} ${peerPort} ${localAddress} ${localPort}`));
  return accounts.flatMap((one) => {
    const held = open.filter((socket) => isOf(one, socket.uid));
    // What comes to a server of its own is no way out.
    const serves = new Set(
      all.filter(({ state, uid }) => state === "LISTEN" && isOf(one, uid))
        .map(({ localPort }) => localPort),
    );
    const outside = held.filter((socket) => !isHere(socket));
    const isLimited = one.onlyPorts.length > 0;
    const inside = held.filter((socket) =>
      isLimited && socket.protocol === "tcp" && socket.state === "ESTAB" && isHere(socket) &&
      !one.onlyPorts.includes(socket.peerPort) && !serves.has(socket.localPort)
    );
    const warning = (some: readonly Socket[], where: string, those: (socket: Socket) => unknown) =>
      some.length === 0 ? [] : [{
        account: one.name,
        reason: `still holds ${some.length} connection(s)${
          some.some(({ protocol }) => protocol === "sctp") ? " (SCTP)" : ""
        } ${where} ${[...new Set(some.map(those))].slice(0, 3).join(", ")}`,
        remedy: "restart its processes",
      }];
    // Whoever spoke first after the lock has begun a connection for the kernel: what answers is a reply.
    const datagrams = all.filter(({ protocol, uid }) => protocol === "udp" && isOf(one, uid));
    return [
      ...(enabling && isLimited && datagrams.length > 0
        ? [{
          account: one.name,
          reason: `holds ${datagrams.length} UDP socket(s) from before the lock, and may answer ` +
            "by them whoever here sends to it",
          remedy: "restart its processes",
        }]
        : []),
      ...warning(outside, "to outside, to", ({ peerAddress }) => peerAddress),
      ...warning(inside, "to this machine's port", ({ peerPort }) => peerPort),
    ];
  });
}

/** Ports that relays are known by. */
const RELAYS: Readonly<Record<number, string>> = {
  25: "a mail server, which passes on what it is given",
  53: "a DNS server, which asks other machines whatever it is asked",
  631: "CUPS, which prints to any address",
  1080: "the port of SOCKS proxies",
  2375: "Docker, which starts a container as root, in any network",
  3128: "the port of HTTP proxies (Squid)",
  3142: "apt-cacher-ng, which fetches from any host",
  5001: "IPFS, which connects to any peer",
  6379: "Redis, which is told whom to follow (REPLICAOF)",
  6600: "mpd, which opens any address",
  6800: "aria2, which fetches from any host",
  8080: "a port of HTTP proxies",
  8118: "the port of HTTP proxies (Privoxy)",
  8888: "the port of HTTP proxies (Tinyproxy)",
  9050: "the port of SOCKS proxies (Tor)",
  9090: "Cockpit, whose login page connects to any host",
  9091: "Transmission, which connects to any tracker",
  9115: "the blackbox exporter, which probes any address",
  9222: "a browser that opens any page (remote debugging)",
  9515: "ChromeDriver, which has a browser open any page",
  11434: "Ollama, which pulls models from any host",
};

/** Services that an account reaches by loopback and that may pass things on. */
export function relayWarnings(
  accounts: readonly Pick<Locked, "name" | "onlyPorts">[],
  sockets: string,
): Warning[] {
  const found = new Map<string, { protocol: string; port: number }>();
  for (const { protocol, state, localPort: port } of parseSockets(sockets)) {
    if (WAITING.includes(state) && Object.hasOwn(RELAYS, port)) {
      found.set(`${protocol} ${port}`, { protocol, port });
    }
  }
  return [...found.values()].flatMap(({ protocol, port }) => {
    const reaching = accounts.filter(({ onlyPorts }) =>
      onlyPorts.length === 0 || (protocol === "tcp" && onlyPorts.includes(port))
    );
    if (reaching.length === 0) return [];
    return [{
      ...whose(reaching),
      reason: `${protocol} port ${port} on this machine may relay: ${RELAYS[port]}`,
      remedy: "enable again with --only-port and the proxy's port alone",
    }];
  });
}

/** An account that is left with nobody to talk to: nobody else listens on the port of its proxy. */
export function proxyWarnings(accounts: readonly Locked[], sockets: string): Warning[] {
  const listening = parseSockets(sockets)
    .filter(({ protocol, state }) => protocol === "tcp" && state === "LISTEN");
  return accounts.flatMap((account) => {
    const wanted = account.onlyPorts.length > 0 ? account.onlyPorts : [PROXY_PORT];
    const there = listening.filter(({ localPort }) => wanted.includes(localPort));
    if (there.some((socket) => !isOf(account, socket.uid))) return [];
    return [{
      account: account.name,
      reason: `${there.length === 0 ? "nothing" : "only itself"} listens on port ` +
        `${wanted.join(" or ")} of this machine`,
      remedy: "start the proxy there: without it the agent reaches nothing outside",
    }];
  });
}

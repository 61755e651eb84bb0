/** What `ss` tells: connections from before the lock, and services on loopback that pass things on. */
import { PROXY_PORT } from "../../account.ts";
import type { Warning } from "../../lock/report.ts";
import { isOf } from "../../lock/uid_range.ts";
import { type Locked, ONLY_PORT, warningOf } from "./locked.ts";

/** The states of sockets without a peer. */
const WAITING = ["LISTEN", "UNCONN"];

type Socket = ReturnType<typeof parseSockets>[number];

/** The sockets that `ss -HneS` printed. */
function parseSockets(text: string) {
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
 * Connections from before the lock: processes may read what comes in, and SCTP goes on sending when
 * they have ended. Just after an enable, sockets of UDP are from before, too.
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
  const ends = new Set(
    all.map((one) => `${one.localAddress} ${one.localPort} ${one.peerAddress} ${one.peerPort}`),
  );
  // Somebody's DNAT may lead elsewhere what is for an address of this machine's own.
  const isHere = ({ protocol, state, localAddress, localPort, peerAddress, peerPort }: Socket) =>
    isLoopback(peerAddress) || own.has(peerAddress) &&
      (protocol !== "tcp" || state !== "ESTAB" ||
        ends.has(`${peerAddress} ${peerPort} ${localAddress} ${localPort}`));
  return accounts.flatMap((account) => {
    const { name, onlyPorts } = account;
    const isLimited = onlyPorts.length > 0;
    const its = all.filter(({ uid }) => isOf(account, uid));
    const held = its.filter(({ state }) => !WAITING.includes(state));
    // What comes to a server of its own is no way out.
    const serves = new Set(
      its.filter(({ state }) => state === "LISTEN").map(({ localPort }) => localPort),
    );
    const outside = held.filter((socket) => !isHere(socket));
    const inside = held.filter((socket) =>
      isLimited && socket.protocol === "tcp" && socket.state === "ESTAB" && isHere(socket) &&
      !onlyPorts.includes(socket.peerPort) && !serves.has(socket.localPort)
    );
    // Whoever spoke first after the lock has begun a connection for the kernel: what answers is a reply.
    const udp = enabling && isLimited ? its.filter(({ protocol }) => protocol === "udp").length : 0;
    const mayAnswer = `holds ${udp} UDP socket(s) from before the lock, and may answer by them ` +
      "whoever here sends to it";
    return [
      ...(udp > 0 ? [mayAnswer] : []),
      ...stillHeld(outside, "to outside, to", "peerAddress"),
      ...stillHeld(inside, "to this machine's port", "peerPort"),
    ].map((reason) => ({ account: name, reason, remedy: "restart its processes" }));
  });
}

/** Says of sockets, if there are any, how many they are and where three of them lead to. */
function stillHeld(
  some: readonly Socket[],
  where: string,
  end: "peerAddress" | "peerPort",
): string[] {
  if (some.length === 0) return [];
  const kind = some.some(({ protocol }) => protocol === "sctp") ? " (SCTP)" : "";
  const ends = [...new Set(some.map((socket) => socket[end]))].slice(0, 3).join(", ");
  return [`still holds ${some.length} connection(s)${kind} ${where} ${ends}`];
}

const RELAYS: Readonly<Record<number, string>> = {
  25: "a mail server, which passes on what it is given",
  53: "a DNS server, which asks other machines whatever it is asked",
  631: "CUPS, which prints to any address",
  1080: "the port of SOCKS proxies",
  2375: "Docker, which starts a container as root, in any network",
  3128: "the port of HTTP proxies (Squid)",
  3142: "apt-cacher-ng, which fetches from any host",
  3632: "distcc, which runs compilers as its own account",
  4444: "Selenium, which has a browser open any page",
  5001: "IPFS, which connects to any peer",
  6379: "Redis, which is told whom to follow (REPLICAOF)",
  6600: "mpd, which opens any address",
  6800: "aria2, which fetches from any host",
  8080: "a port of HTTP proxies",
  8118: "the port of HTTP proxies (Privoxy)",
  8123: "ClickHouse, which reads from any address (url, remote)",
  8500: "Consul, which checks any address",
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
  const waiting = parseSockets(sockets).filter(({ state }) => WAITING.includes(state));
  const byPort = Map.groupBy(waiting, ({ protocol, localPort }) => `${protocol} port ${localPort}`);
  return [...byPort].flatMap(([which, [socket]]) => {
    const { protocol, localPort: port } = socket!;
    if (RELAYS[port] === undefined) return [];
    const reason = `${which} on this machine may relay: ${RELAYS[port]}`;
    const isOpen = ({ onlyPorts }: Pick<Locked, "onlyPorts">) => onlyPorts.length === 0;
    const allowed = accounts.filter(({ onlyPorts }) =>
      protocol === "tcp" && onlyPorts.includes(port)
    );
    return [
      ...warningOf(accounts.filter(isOpen), reason, `${ONLY_PORT} alone`),
      ...warningOf(allowed, reason, `unless it is your proxy, leave port ${port} out of its lock`),
    ];
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

/**
 * What the rules of the iptables backend do: where each stands, its words, and how it is known again
 * among rules that were saved.
 *
 * @module
 */
import type { Rule } from "./iptables_rules.ts";
import type { Family } from "./machine.ts";

/** What a comment of ours begins with; the account's name is the rest. */
export const MARK = "fishnet:";

/** The chain of our own that judges what an account may not reach on loopback. */
export const CHAIN = "fishnet";

/** What one rule of a lock does: its place, its words, and how it is known again. */
export interface Layer {
  /** Behind the family: `DROP in mangle POSTROUTING`. */
  readonly is: string;
  readonly why: string;
  readonly table: "mangle" | "filter";
  readonly chain: string;
  /** The one family that needs it. */
  readonly family?: Family;
  readonly words: (owner: string, name: string, ports: readonly number[]) => readonly string[];
  /** What a saved rule says that does what this layer is for, and no more than that. */
  readonly shape: Pick<Rule, "device" | "protocol" | "source" | "syn" | "strips">;
  /** Whether it names ports that are left. */
  readonly hasPorts?: true;
  readonly targets: readonly string[];
}

/** Sees what OUTPUT cannot. */
export const DROP: Layer = {
  is: "DROP in mangle POSTROUTING",
  why: "drop what leaves by a real device, also after another program's DNAT",
  table: "mangle",
  chain: "POSTROUTING",
  words: (owner, name) => [
    ...["-m", "owner", "--uid-owner", owner, "!", "-o", "lo"],
    ...["-m", "comment", "--comment", `${MARK}${name}`, "-j", "DROP"],
  ],
  shape: { device: "!lo" },
  targets: ["DROP"],
};

/** Shuts the way out by MPTCP. */
export const STRIP: Layer = {
  is: "TCPOPTSTRIP of MPTCP in mangle POSTROUTING",
  why: "no MPTCP on loopback: the kernel would open a second path, off this machine, by itself",
  table: "mangle",
  chain: "POSTROUTING",
  // 30 is MPTCP's option (RFC 8684).
  words: (owner) => [
    ...["-o", "lo", "-p", "tcp", "-m", "owner", "--uid-owner", owner],
    ...["--tcp-flags", "SYN", "SYN", "-j", "TCPOPTSTRIP", "--strip-options", "30"],
  ],
  shape: { device: "lo", protocol: "tcp", syn: true, strips: "30" },
  targets: ["TCPOPTSTRIP"],
};

/** Shuts the way out by SCTP. */
export const SCTP: Layer = {
  is: "DROP of SCTP in mangle POSTROUTING",
  why: "no SCTP, on loopback either: it asks for its routes without a uid",
  table: "mangle",
  chain: "POSTROUTING",
  words: (owner) => ["-p", "sctp", "-m", "owner", "--uid-owner", owner, "-j", "DROP"],
  shape: { protocol: "sctp" },
  targets: ["DROP"],
};

/**
 * Shuts the way out by the kernel's own answers. It stands before the table filter, where a REJECT would
 * be such an answer. Of IPv4, the kernel itself takes no such source (ip_route_output_key).
 */
export const FOREIGN_SOURCE: Layer = {
  is: "DROP of foreign sources in mangle OUTPUT",
  why:
    "no source that is not this machine's, on loopback: the answer to it would leave, as nobody's",
  table: "mangle",
  chain: "OUTPUT",
  family: 6,
  words: (owner) => [
    ...["-o", "lo", "-m", "owner", "--uid-owner", owner],
    ...["-m", "addrtype", "!", "--src-type", "LOCAL", "-j", "DROP"],
  ],
  shape: { device: "lo", source: "!LOCAL" },
  targets: ["DROP"],
};

/** `--only-port`: its TCP. */
export const LOOPBACK_TCP: Layer = {
  is: "loopback limited to TCP",
  why: "on loopback, refuse TCP to any other port",
  table: "filter",
  chain: "OUTPUT",
  words: (owner, _name, ports) => [
    ...["-o", "lo", "-p", "tcp", "-m", "owner", "--uid-owner", owner],
    ...["-m", "multiport", "!", "--dports", ports.join(","), "-j", CHAIN],
  ],
  shape: { device: "lo", protocol: "tcp" },
  hasPorts: true,
  targets: [CHAIN],
};

/** `--only-port`: all else. */
export const LOOPBACK_OTHER: Layer = {
  is: "loopback shut for all but TCP",
  why: "on loopback, refuse what is not TCP (a DNS stub, say)",
  table: "filter",
  chain: "OUTPUT",
  words: (
    owner,
  ) => ["-o", "lo", "!", "-p", "tcp", "-m", "owner", "--uid-owner", owner, "-j", CHAIN],
  shape: { device: "lo", protocol: "!tcp" },
  targets: [CHAIN],
};

/** The reference page's own rule. */
export const REFUSE: Layer = {
  is: "REJECT in OUTPUT",
  why: "first in its chain: everything but loopback is refused, and the program is told at once",
  table: "filter",
  chain: "OUTPUT",
  words: (owner) => ["-m", "owner", "--uid-owner", owner, "!", "-o", "lo", "-j", "REJECT"],
  shape: { device: "!lo" },
  targets: ["REJECT", "DROP"],
};

/** What every lock has, for all its uids. */
export const BASE = [DROP, STRIP, SCTP, FOREIGN_SOURCE];
/** What `--only-port` adds. */
export const LIMITS = [LOOPBACK_TCP, LOOPBACK_OTHER];
const LAYERS = [...BASE, ...LIMITS, REFUSE];

/** The layer that a saved rule is of, whosever it is. */
export function layerOf(rule: Rule): Layer | undefined {
  if (rule.narrower || rule.owner === undefined) return undefined;
  return LAYERS.find(({ table, chain, shape, hasPorts = false, targets }) =>
    rule.table === table && rule.chain === chain && targets.includes(rule.target ?? "") &&
    rule.device === shape.device && rule.protocol === shape.protocol && rule.syn === shape.syn &&
    rule.strips === shape.strips && rule.source === shape.source &&
    (rule.otherThanPorts !== undefined) === hasPorts
  );
}

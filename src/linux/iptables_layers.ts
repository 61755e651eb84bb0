/**
 * What the rules of the iptables backend do: where each stands, its words, and how it is known again
 * among rules that were saved.
 *
 * @module
 */
import type { Rule } from "./iptables_rules.ts";

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
  readonly words: (owner: string, name: string, ports: readonly number[]) => readonly string[];
  /** Whether a saved rule does what this layer is for, at least. */
  readonly matches: (rule: Rule) => boolean;
  /** Only the account's own uid: another layer sees whatever this one sees. */
  readonly ownUidOnly?: true;
}

const isFor = (place: string, { table, chain }: Rule) => `${table} ${chain}` === place;
const refuses = ({ target }: Rule) => target === "REJECT" || target === "DROP";

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
  matches: (rule) =>
    isFor("mangle POSTROUTING", rule) && rule.device === "!lo" && rule.protocol === undefined &&
    rule.target === "DROP",
};

/** Shuts the way out by MPTCP. */
export const STRIP: Layer = {
  is: "TCPOPTSTRIP of MPTCP in mangle OUTPUT",
  why: "no MPTCP on loopback: the kernel would open a second path, off this machine, by itself",
  table: "mangle",
  chain: "OUTPUT",
  // 30 is MPTCP's option (RFC 8684).
  words: (owner) => [
    ...["-o", "lo", "-p", "tcp", "-m", "owner", "--uid-owner", owner],
    ...["--tcp-flags", "SYN", "SYN", "-j", "TCPOPTSTRIP", "--strip-options", "30"],
  ],
  matches: (rule) =>
    isFor("mangle OUTPUT", rule) && rule.device === "lo" && rule.protocol === "tcp" &&
    rule.syn === true && rule.target === "TCPOPTSTRIP" && rule.strips === "30",
};

/** Shuts the way out by SCTP. */
export const SCTP: Layer = {
  is: "DROP of SCTP in mangle OUTPUT",
  why: "no SCTP, on loopback either: it asks for its routes without a uid",
  table: "mangle",
  chain: "OUTPUT",
  words: (owner) => ["-p", "sctp", "-m", "owner", "--uid-owner", owner, "-j", "DROP"],
  matches: (rule) =>
    isFor("mangle OUTPUT", rule) && rule.device === undefined && rule.protocol === "sctp" &&
    rule.target === "DROP",
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
  matches: (rule) =>
    isFor("filter OUTPUT", rule) && rule.device === "lo" && rule.protocol === "tcp" &&
    rule.target === CHAIN && rule.otherThanPorts !== undefined,
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
  matches: (rule) =>
    isFor("filter OUTPUT", rule) && rule.device === "lo" && rule.protocol === "!tcp" &&
    rule.target === CHAIN && rule.otherThanPorts === undefined,
};

/** The reference page's own rule. */
export const REFUSE: Layer = {
  is: "REJECT in OUTPUT",
  why: "first in its chain: everything but loopback is refused, and the program is told at once",
  table: "filter",
  chain: "OUTPUT",
  words: (owner) => ["-m", "owner", "--uid-owner", owner, "!", "-o", "lo", "-j", "REJECT"],
  matches: (rule) =>
    isFor("filter OUTPUT", rule) && rule.device === "!lo" && rule.protocol === undefined &&
    refuses(rule),
  ownUidOnly: true,
};

/** What every lock has, for all its uids. */
export const BASE = [DROP, STRIP, SCTP];
/** What `--only-port` adds. */
export const LIMITS = [LOOPBACK_TCP, LOOPBACK_OTHER];
/** All of them. */
export const LAYERS = [...BASE, ...LIMITS, REFUSE];

/**
 * What pf does with a packet, by pf.conf(5) and xnu's own pf.c: the last rule that
 * matches decides, `quick` decides at once, states come before rules. A test's
 * stand-in for a kernel that is not here; it knows no more than its sources.
 *
 * @module
 */
import type { FilterRule, Line, Range } from "./pf_language.ts";

/** A packet as pf sees it, once on its way out and once on its way in. */
export interface Packet {
  readonly direction: "in" | "out";
  /** This machine's own addresses go over lo0 too. */
  readonly interface: string;
  readonly family: "inet" | "inet6";
  readonly protocol: "tcp" | "udp" | "icmp" | "icmp6";
  /** Of a later fragment, pf sees neither ports nor flags, nor whose it is. */
  readonly fragment: boolean;
  readonly port: number;
  /** The flags of TCP's that are set, of `SA` alone: `S` opens a connection. */
  readonly flags: "S" | "SA" | "A";
  /** Whose socket sends it or receives it: the effective uid of the one who made it. */
  readonly uid: number;
  /** The connection that it belongs to. */
  readonly connection: string;
}

/** What is loaded. */
export interface Ruleset {
  readonly main: readonly Line[];
  /** By their full names. */
  readonly anchors?: ReadonlyMap<string, readonly Line[]>;
  /** The connections that rules with `keep state` have let through. */
  readonly states?: Set<string>;
}

/** What becomes of a packet: `return` is a block that answers. */
export type Verdict = "pass" | "drop" | "return";

/** Judges one packet, and keeps a state where the rule that lets it pass says so. */
export function judge(packet: Packet, ruleset: Ruleset): Verdict {
  if (ruleset.states?.has(packet.connection)) return "pass";
  const rule = deciding(packet, ruleset.main, ruleset)?.rule;
  if (rule === undefined) return "pass"; // pf's implicit last rule, which keeps no state
  if (rule.kind === "block") return rule.answer;
  if (rule.state !== "none") ruleset.states?.add(packet.connection);
  return "pass";
}

interface Decision {
  readonly rule: FilterRule;
  readonly quick: boolean;
}

function deciding(
  packet: Packet,
  lines: readonly Line[],
  ruleset: Ruleset,
): Decision | undefined {
  let last: Decision | undefined;
  for (const line of lines) {
    if (line.kind === "other") continue;
    const found = line.kind === "anchor"
      ? inAnchors(packet, line.name, ruleset)
      : matches(packet, line)
      ? { rule: line, quick: line.quick }
      : undefined;
    if (found?.quick) return found;
    last = found ?? last;
  }
  return last;
}

/** `name/*` calls every anchor directly below `name`, in the order of their names. */
function inAnchors(packet: Packet, name: string, ruleset: Ruleset): Decision | undefined {
  const parent = name.endsWith("/*") ? name.slice(0, -1) : undefined;
  let last: Decision | undefined;
  for (const [anchor, lines] of [...ruleset.anchors ?? []].toSorted()) {
    const called = parent === undefined
      ? anchor === name
      : anchor.startsWith(parent) && !anchor.slice(parent.length).includes("/");
    if (!called) continue;
    const found = deciding(packet, lines, ruleset);
    if (found?.quick) return found;
    last = found ?? last;
  }
  return last;
}

function matches(packet: Packet, rule: FilterRule): boolean {
  if (rule.direction && rule.direction !== packet.direction) return false;
  if (rule.interface && (rule.interface.name === packet.interface) === rule.interface.not) {
    return false;
  }
  if (rule.family && rule.family !== packet.family) return false;
  if (rule.protocols.length > 0 && !rule.protocols.includes(packet.protocol)) return false;
  if (rule.to && !reaches(packet, rule.to)) return false;
  // A pass rule for TCP has "flags S/SA" unless it says otherwise.
  const flags = rule.flags ?? (rule.kind === "pass" && rule.state !== "none" &&
      packet.protocol === "tcp"
    ? { set: "S", of: "SA" }
    : undefined);
  // A fragment is judged by its addresses, interface and protocol: a rule with ports or flags is
  // skipped, and one with a user matches everybody's.
  if (packet.fragment) return rule.ports.length === 0 && flags === undefined;
  if (rule.ports.length > 0 && !within(packet.port, rule.ports)) return false;
  if (flags && packet.protocol === "tcp" && packet.flags !== flags.set) return false;
  if (rule.users.length === 0) return true;
  return (packet.protocol === "tcp" || packet.protocol === "udp") &&
    within(packet.uid, rule.users);
}

const within = (number: number, ranges: readonly Range[]) =>
  ranges.some(({ first, last }) => first <= number && number <= last);

/** An address in a rule makes it a rule for that family alone. */
function reaches(packet: Packet, to: NonNullable<FilterRule["to"]>): boolean {
  if (packet.family !== (to.network.includes(":") ? "inet6" : "inet")) return false;
  return (packet.interface === "lo0") !== to.not; // 127.0.0.0/8 is all that a test writes
}

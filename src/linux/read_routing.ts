/**
 * Parses what `ip rule show` prints.
 *
 * @module
 */
import { ROUTING_PREFERENCE } from "./routing.ts";
import { parseRange, type UidRange } from "./uid_range.ts";

/** One routing rule, in the order in which the kernel asks them. */
export interface RoutingRule {
  readonly preference: number;
  /** What stands behind the preference, and makes the rule again behind `ip rule add`. */
  readonly text: string;
  readonly uids?: UidRange;
  /** The rule refuses all packets of these uids, whatever else they are. */
  readonly prohibits: boolean;
  /** The rule may give a packet of this machine's own a route off the machine. */
  readonly mayRoute: boolean;
}

/** The rules of one family. Lines that are no rule are left out. */
export function parseRoutingRules(text: string): RoutingRule[] {
  return text.split("\n").flatMap((line) => {
    const match = /^(\d{1,10}):\s*(.*\S)\s*$/.exec(line);
    if (match === null) return [];
    const rule = match[2]!;
    const uids = parseRange(/\buidrange (\S+)/.exec(rule)?.[1] ?? "");
    return [{
      preference: Number(match[1]),
      text: rule,
      ...(uids === undefined ? {} : { uids }),
      prohibits: uids !== undefined &&
        /^from all uidrange \S+ prohibit( proto \S+)?$/.test(rule),
      mayRoute: mayRoute(rule),
    }];
  });
}

/** The rule that finds loopback and this machine's own addresses. */
const LOCAL = /^from all lookup (local|255)( proto \S+)?$/;

/** Whether an account that our rules hold still finds loopback: they may have come before it. */
export function reachesLoopback(rules: readonly RoutingRule[]): boolean {
  return rules.some(({ preference, text }) => preference < ROUTING_PREFERENCE && LOCAL.test(text));
}

function mayRoute(rule: string): boolean {
  if (/ (prohibit|unreachable|blackhole|nop)\b/.test(rule)) return false;
  if (LOCAL.test(rule)) return false;
  if (rule.startsWith("not ")) return true;
  // What this machine sends itself comes in by lo; any other device is of forwarded packets.
  const device = /\biif (\S+)/.exec(rule)?.[1];
  return device === undefined || device === "lo";
}

/**
 * The routing layer: `ip rule … uidrange … prohibit`. It goes by the uid of the socket, which
 * outlives the process, so it also stops what the kernel still sends for a connection whose process
 * is gone; and no firewall tool flushes it.
 *
 * The kernel asks the rules one after another whenever anybody looks up a route. So uids that adjoin
 * share a rule, whosever they are: a thousand accounts that were made in a row take two rules, one
 * for them and one for their ranges.
 */
import { sudo } from "../line.ts";
import type { Found, Kind, Piece, Step } from "../lock/piece.ts";
import { overlap, parseRange, type UidRange, UidSet } from "../lock/uid_range.ts";
import { allUids, RANGE } from "./accounts.ts";
import { FAMILIES, familiesOf, type Family, type Machine } from "./machine.ts";
import { type Answer, UnreadableError } from "../root.ts";

/** After the `local` table's 0, which has this machine's addresses, and before a VPN's rules. */
export const ROUTING_PREFERENCE = 77;

const nameOf = (family: Family) => `IPv${family}: routing rule (prohibit)`;

const WHY = "the kernel finds no route off this machine for its sockets, also when their process " +
  "is gone";

/** The routing rules. */
export const routing: Kind<Machine> = {
  questions: ({ files }) =>
    Object.fromEntries(
      familiesOf(files).map((family) => [`rule${family}`, ["ip", `-${family}`, "rule", "show"]]),
    ),

  wanted(lock, machine) {
    const families = machine?.families ?? FAMILIES;
    return allUids(lock).flatMap((uids) =>
      families.map((family): Piece => (
        { is: nameOf(family), why: `IPv${family}: ${WHY}`, uids, owner: lock.name }
      ))
    );
  },

  found: (machine) =>
    machine.families.flatMap((family) => foundIn(rulesOf(machine, family), family)),

  make: (pieces, machine) => stepsOf("add", pieces, machine),
  unmake: (pieces, machine) => stepsOf("del", pieces, machine),
};

interface Change {
  readonly add: readonly UidRange[];
  readonly del: readonly UidRange[];
}

function stepsOf(verb: keyof Change, pieces: readonly Piece[], machine?: Machine): Step[] {
  const whyNot = "take it out of the routing rules";
  if (machine === undefined) {
    return pieces.map(({ is, uids, owner, why }) => {
      const uid = `$(id -u ${owner})`;
      const range = uids === "ranges" ? RANGE : `${uid}-${uid}`;
      return stepOf(verb, is === nameOf(4) ? 4 : 6, range, verb === "add" ? why : whyNot);
    });
  }
  const ours = routing.found(machine).filter(({ foreign }) => !foreign);
  return machine.families.flatMap((family) => {
    const rangesIn = (some: readonly Piece[]) =>
      some.filter(({ is }) => is === nameOf(family)).map(({ uids }) => uids as UidRange);
    const change = (verb === "add" ? added : cut)(rangesIn(ours), rangesIn(pieces));
    const merged = change.del.length > 0 ? `${WHY}; uids that adjoin share a rule` : WHY;
    const why = verb === "add" ? merged : whyNot;
    const narrower = narrowerThanOurs(machine, family);
    // What both hold is never open: the new rules are made before the old ones go.
    return (["add", "del"] as const).flatMap((verb) =>
      change[verb].map(({ first, last }) => {
        const range = `${first}-${last}`;
        return stepOf(verb, family, range, why, narrower[verb].has(range));
      })
    );
  });
}

/**
 * The ranges of rules in the place of ours that say more. The kernel deletes the first rule of which
 * all is true that is said: where such a one stands before ours, what only ours says is said, too.
 */
function narrowerThanOurs(machine: Machine, family: Family): Record<keyof Change, Set<string>> {
  const here = rulesOf(machine, family).filter(({ preference, uids, text }) =>
    preference === ROUTING_PREFERENCE && uids && / prohibit( proto \S+)?$/.test(text)
  );
  const rangeOf = ({ uids }: RoutingRule) => `${uids!.first}-${uids!.last}`;
  const narrower = here.filter(({ prohibits }) => !prohibits);
  // What is added stands behind all of them.
  const before = narrower.filter((one) =>
    here.slice(here.indexOf(one)).some((other) =>
      other.prohibits && rangeOf(other) === rangeOf(one)
    )
  );
  return { add: new Set(narrower.map(rangeOf)), del: new Set(before.map(rangeOf)) };
}

/** One rule more, or one less: alone a command, with others the lines of one. */
function stepOf(
  verb: keyof Change,
  family: Family,
  range: string,
  why: string,
  exact = false,
): Step {
  const ip = ["ip", `-${family}`];
  const there = ruleWords(verb, range, exact);
  const back = ruleWords(verb === "add" ? "del" : "add", range, exact);
  return {
    line: sudo(...ip, ...there),
    why,
    undo: [sudo(...ip, ...back)],
    // With -force one that fails stops no other: the undo of a part takes back that part.
    batch: { words: [...ip, "-force", "-batch", "-"], text: there.join(" "), undo: back.join(" ") },
  };
}

/** "protocol kernel": else systemd-networkd removes a rule as foreign (seen on 252 and 257). */
function ruleWords(verb: keyof Change, range: string, exact: boolean): string[] {
  // One that somebody made by hand, without it, goes as well: the kernel deletes by what is said.
  const isThere = verb === "del" && /^\d/.test(range) && !exact;
  const kernel = isThere ? [] : ["protocol", "kernel"];
  return ["rule", verb, "pref", `${ROUTING_PREFERENCE}`, "uidrange", range, "prohibit", ...kernel];
}

/** Rules that go do so backwards: the undo, backwards again, makes them in the order they stood in. */
const gone = (there: readonly UidRange[], changed: readonly UidRange[]) =>
  there.filter((range) => changed.some((one) => overlap(one, range))).toReversed();

/** The rules to add, and those that they make needless, so that `missing` is held. */
export function added(there: readonly UidRange[], missing: readonly UidRange[]): Change {
  const held = new UidSet(there);
  const open = missing.filter((range) => !held.covers(range));
  const add = new UidSet([...there, ...open]).ranges
    .filter((range) => open.some((one) => overlap(one, range)));
  return { add, del: gone(there, add) };
}

/** The rules to remove, and what is to be kept of them, so that nothing of `open` is held. */
export function cut(there: readonly UidRange[], open: readonly UidRange[]): Change {
  const set = new UidSet(open);
  const del = gone(there, open);
  const kept = new UidSet(there.filter((range) => !del.includes(range)));
  const parts = new UidSet(del.flatMap((range) => set.without(range))).ranges;
  return { add: parts.filter((range) => !kept.covers(range)), del };
}

/** One routing rule, in the order in which the kernel asks them. */
export interface RoutingRule {
  readonly preference: number;
  /** What stands behind the preference, and makes the rule again behind `ip rule add`. */
  readonly text: string;
  readonly uids: UidRange | undefined;
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
    // What ip adds of its own it does not take back: a device, or the aim of a goto, that is gone.
    const rule = match[2]!.replace(/ \[(?:detached|unresolved)\]/g, "");
    // What is not of a range is of everybody.
    const range = rule.startsWith("not ") ? undefined : /\buidrange (\S+)/.exec(rule)?.[1];
    const uids = parseRange(range ?? "");
    return [{
      preference: Number(match[1]),
      text: rule,
      uids,
      prohibits: /^from all uidrange \S+ prohibit( proto \S+)?$/.test(rule),
      mayRoute: mayRoute(rule),
    }];
  });
}

/** Each answer is parsed once: every account asks for it. */
const parsed = new WeakMap<Answer, readonly RoutingRule[]>();

/** @throws {UnreadableError} where `ip` does not print them: it is there wherever a lock is. */
function rulesOf({ answers }: Machine, family: Family): readonly RoutingRule[] {
  const answer = answers.get(`rule${family}`)!;
  if (answer.exitCode !== 0) {
    const why = answer.exitCode === 127
      ? "ip is not installed: install the package iproute2"
      : answer.stderr.trim();
    throw new UnreadableError(`the routing rules could not be read: ${why}`);
  }
  const rules = parsed.get(answer) ?? parseRoutingRules(answer.stdout);
  parsed.set(answer, rules);
  return rules;
}

/** Where a rule is moved that stood before ours. */
const BEHIND = ROUTING_PREFERENCE + 1;

function foundIn(rules: readonly RoutingRule[], family: Family): Found[] {
  const routes: RoutingRule[] = [];
  // What has been moved before may come again.
  const behind = new Set(
    rules.filter(({ preference }) => preference === BEHIND).map(({ text }) => text),
  );
  return rules.flatMap((rule) => {
    const { uids, preference } = rule;
    if (rule.mayRoute) routes.push(rule);
    if (!rule.prohibits || uids === undefined) return [];
    const shadows = routes.filter((other) => other.uids === undefined || overlap(other.uids, uids));
    // A rule may hold the name of a device, and that anything but a blank.
    const ip = (verb: string, preference: number, text: string) =>
      sudo("ip", `-${family}`, "rule", verb, "pref", `${preference}`, ...text.split(/\s+/));
    const moved = new Set(shadows.map(({ text }) => text)).difference(behind);
    return [{
      is: nameOf(family),
      why: WHY,
      uids,
      divisible: true as const,
      ...(preference === ROUTING_PREFERENCE ? {} : { foreign: true as const }),
      ...(shadows.length === 0 ? {} : {
        fault: `shadowed by an earlier rule: ${
          shadows.map(({ preference, text }) => `${preference}: ${text}`).join(", ")
        }`,
        mend: [
          ...[...moved].map((text) => ip("add", BEHIND, text)),
          ...shadows.map(({ preference, text }) => ip("del", preference, text)),
        ].join(" && "),
      }),
    }];
  });
}

/** The rule that finds loopback and this machine's own addresses. */
const LOCAL = /^from all lookup (local|255)( proto \S+)?$/;

/** The families in which a lock would cut an account off loopback as well, and what mends that. */
export function withoutLoopback(machine: Machine): { family: Family; mend: string }[] {
  const reaches = ({ preference, text }: RoutingRule) =>
    preference < ROUTING_PREFERENCE && LOCAL.test(text);
  return machine.families.filter((family) => !rulesOf(machine, family).some(reaches))
    .map((family) => ({ family, mend: `sudo ip -${family} rule add pref 0 lookup local` }));
}

function mayRoute(rule: string): boolean {
  // A table may have any of these names.
  const refuses = !rule.includes(" lookup ") &&
    / (prohibit|unreachable|blackhole|nop)( proto \S+)?$/.test(rule);
  // What this machine sends itself comes in by lo; any other device is of forwarded packets.
  const device = /\biif (\S+)/.exec(rule)?.[1] ?? "lo";
  return !refuses && !LOCAL.test(rule) && (rule.startsWith("not ") || device === "lo");
}

/** The loop's head in a dry-run: each subordinate range of the account, as `$range`. */
export function rangeLoop(name: string, lines: readonly string[]): string {
  return [
    `grep -E "^(${name}|$(id -u ${name})):" /etc/subuid | while IFS=: read -r _ first count; do`,
    "  last=$((first + count - 1))",
    `  ${RANGE.slice(1)}=$first-$last`,
    ...lines.map((line) => `  ${line}`),
    "done",
  ].join("\n");
}

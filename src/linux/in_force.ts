/**
 * From the machine's state to what of a lock is in force: which uids each
 * layer holds, and which of its rules stand where they have no effect.
 *
 * @module
 */
import type { Backend } from "../planner.ts";
import { FAMILIES, familiesOf, type Family, type Machine, type Variant } from "./inspect.ts";
import { LOCK, LOOPBACK, type Table as TableOfOurs, tableLine } from "./nftables.ts";
import { type PasswdEntry, subordinateRanges } from "./read_accounts.ts";
import { type Rule, Shadows } from "./read_iptables.ts";
import type { Element, Table } from "./read_nftables.ts";
import { reachesLoopback, type RoutingRule } from "./read_routing.ts";
import { ROUTING_PREFERENCE } from "./routing.ts";
import { overlap, UidSet } from "./uid_range.ts";
import type { UidRange } from "./uid_range.ts";

/** What one rule of a lock does. */
export type Layer = "routing" | "drop" | "refuse" | "loopbackTcp" | "loopbackOther";

/** Something that holds uids: a rule, or an element of a set. */
export interface Held extends UidRange {
  readonly layer: Layer;
  readonly family: Family;
  /** Undefined for a routing rule, which both backends take. */
  readonly backend?: Backend;
  readonly variant?: Variant;
  /** The account that it was made for, where the rule tells. */
  readonly owner?: string;
  /** The ports that loopback is limited to. */
  readonly ports?: readonly number[];
  /** Why it has no effect: what lets packets pass before it is asked, say. */
  readonly shadow?: string;
  /** The command that gives it effect again, where `enable` would not. */
  readonly mend?: string;
  /** The command that removes it. */
  readonly removal?: string;
}

/** All that the machine holds, of every account. */
export function heldBy(machine: Machine): Held[] {
  return [
    ...machine.saved.flatMap(({ rules, family, variant }) => {
      const shadows = new Shadows(rules);
      return [["mangle", "POSTROUTING"], ["filter", "OUTPUT"]].flatMap(([table, chain]) =>
        shadows.withShadows(table!, chain!).flatMap(({ rule, shadow }) =>
          heldByRule(rule, shadow, family, variant)
        )
      );
    }),
    ...heldByLockTable(machine.lockTable),
    ...heldByLoopbackTable(machine.loopbackTable),
    ...FAMILIES.flatMap((family) => heldByRouting(machine.routing[family], family)),
  ];
}

function heldByRule(
  rule: Rule,
  shadow: Rule | undefined,
  family: Family,
  variant: Variant,
): Held[] {
  const layer = layerOf(rule);
  if (layer === undefined || rule.owner === undefined) return [];
  const command = `${family === 4 ? "iptables" : "ip6tables"}-${variant}`;
  return [{
    ...rule.owner,
    layer,
    family,
    backend: "iptables",
    variant,
    ...(rule.comment?.startsWith(MARK) ? { owner: rule.comment.slice(MARK.length) } : {}),
    ...(layer === "loopbackTcp" ? { ports: rule.otherThanPorts ?? [] } : {}),
    ...(shadow === undefined ? {} : {
      shadow: `shadowed by what stands above it in ${command}: ${shadow.text}`,
    }),
    removal: `sudo ${command} -w -t ${rule.table} -D ${rule.text.slice("-A ".length)}`,
  }];
}

const MARK = "fishnet:";

/** The layer that a rule is of; one that is narrower than ours in any way is none. */
function layerOf(rule: Rule): Layer | undefined {
  const { table, chain, device, protocol, direction, anyState, otherThanPorts, target } = rule;
  if (rule.narrower) return undefined;
  const refuses = target === "REJECT" || target === "DROP";
  const place = `${table} ${chain}`;
  if (device === "!lo") {
    if ((protocol ?? direction ?? anyState ?? otherThanPorts) !== undefined) return undefined;
    if (place === "mangle POSTROUTING" && target === "DROP") return "drop";
    return place === "filter OUTPUT" && refuses ? "refuse" : undefined;
  }
  const judges = direction === "ORIGINAL" && anyState;
  if (device !== "lo" || place !== "filter OUTPUT" || !judges || !refuses) return undefined;
  if (protocol === "tcp" && otherThanPorts !== undefined) return "loopbackTcp";
  return protocol === "!tcp" && otherThanPorts === undefined ? "loopbackOther" : undefined;
}

function heldByLockTable(table: Table | undefined): Held[] {
  if (table === undefined) return [];
  const jail = defect(table, LOCK, "jail");
  return ([["drop", "post"], ["refuse", "out"]] as const).flatMap(([layer, chain]) => {
    const shadow = defect(table, LOCK, chain) ??
      (layer === "refuse" ? jail : undefined);
    const fault = shadow === undefined ? {} : { shadow, mend: tableLine(LOCK) };
    return elementsOf(table, LOCK).flatMap((element) => heldByElement(element, layer, fault));
  });
}

/** The elements that the table's rules look for. */
function elementsOf(table: Table, { uids, ranges }: TableOfOurs): Element[] {
  return [...new Set([uids, ranges])].flatMap(({ name, first = 0 }) =>
    (table.elements.get(name) ?? []).filter((element) => element.first >= first)
  );
}

/** What an element holds in a layer: our tables cover both families. */
function heldByElement(
  { first, last, comment }: Element,
  layer: Layer,
  more: Partial<Held>,
): Held[] {
  const owner = comment === undefined ? {} : { owner: comment };
  return FAMILIES.map((family): Held => (
    { first, last, layer, family, backend: "nftables", ...owner, ...more }
  ));
}

function heldByLoopbackTable(table: Table | undefined): Held[] {
  if (table === undefined) return [];
  const broken = defect(table, LOOPBACK, "out");
  return elementsOf(table, LOOPBACK).flatMap((element) => {
    // The chain's name is what is left of the ports when its rules are gone.
    const ports = element.goto?.match(/\d+/g)?.map(Number) ?? [];
    const found = portsOf(table.chains.get(element.goto ?? ""));
    const shadow = broken ??
      (found?.join() === ports.join()
        ? undefined
        : `${LOOPBACK.name}: chain ${element.goto} was changed`);
    const fault = {
      ...(shadow === undefined ? {} : { shadow }),
      ...(broken === undefined ? {} : { mend: tableLine(LOOPBACK) }),
    };
    return (["loopbackTcp", "loopbackOther"] as const)
      .flatMap((layer) => heldByElement(element, layer, { ports, ...fault }));
  });
}

/** The ports that a chain lets pass, where it refuses everything else. */
function portsOf(chain: readonly string[] | undefined): number[] | undefined {
  const [allow, tcp, other] = chain ?? [];
  const ports = /^tcp dport (?:\{ ([\d, -]+) \}|(\d+)) return$/.exec(allow ?? "");
  const refused = tcp === "meta l4proto tcp reject with tcp reset" &&
    other === "reject with icmpx admin-prohibited";
  if (ports === null || !refused) return undefined;
  return (ports[1] ?? ports[2]!).split(",").flatMap((port) => {
    const [first, last] = port.trim().split("-").map(Number);
    return Array.from({ length: (last ?? first!) - first! + 1 }, (_, i) => first! + i);
  });
}

/**
 * Why a chain of ours does nothing, or not what it was made for: compared with the lines that made
 * it, which nft prints back as they were written.
 */
function defect(
  table: Table,
  { name, body }: TableOfOurs,
  chain: string,
): string | undefined {
  if (table.dormant) return `${name}: the table is dormant`;
  const rules = body.flatMap((line) => afterPrefix(line, `add rule ${name} ${chain} `));
  const hook = body.flatMap((line) => afterPrefix(line, `add chain ${name} ${chain} { `))
    .map((line) => line.replace(/ priority .*/, ""));
  const found = table.chains.get(chain);
  if (found === undefined) return `${name}: chain ${chain} is missing`;
  const sound = hook.every((line) => found[0]?.startsWith(`${line} `)) &&
    rules.every((rule, i) => found[hook.length + i] === rule);
  return sound ? undefined : `${name}: chain ${chain} was changed`;
}

function afterPrefix(line: string, prefix: string): string[] {
  return line.startsWith(prefix) ? [line.slice(prefix.length)] : [];
}

function heldByRouting(rules: readonly RoutingRule[], family: Family): Held[] {
  const routes: RoutingRule[] = [];
  return rules.flatMap((rule) => {
    const { uids } = rule;
    if (rule.mayRoute) routes.push(rule);
    if (!rule.prohibits || uids === undefined) return [];
    const shadow = routes.find((other) => other.uids === undefined || overlap(other.uids, uids));
    const ip = `sudo ip -${family} rule`;
    return [{
      ...uids,
      layer: "routing" as const,
      family,
      ...(shadow === undefined ? {} : {
        shadow: `shadowed by an earlier rule: ${shadow.preference}: ${shadow.text}`,
        mend: `${ip} add pref ${ROUTING_PREFERENCE + 1} ${shadow.text} && ` +
          `${ip} del pref ${shadow.preference} ${shadow.text}`,
      }),
      removal: `${ip} del pref ${rule.preference} uidrange ${uids.first}-${uids.last} prohibit`,
    }];
  });
}

/** The families in which a lock cuts an account off loopback as well, and what mends that. */
export function withoutLoopback(machine: Machine): { family: Family; remedy: string }[] {
  return familiesOf(machine).filter((family) => !reachesLoopback(machine.routing[family]))
    .map((family) => ({ family, remedy: `sudo ip -${family} rule add pref 0 lookup local` }));
}

/** For each name, the uids that it was ever locked with. */
export type Remembered = ReadonlyMap<string, ReadonlySet<number>>;

/** The single uids that rules, and scripts for boot, hold for each name: also those of before. */
export function rememberedUids(held: readonly Held[], { bootScripts }: Machine): Remembered {
  const uids = new Map<string, Set<number>>();
  const remember = (name: string, uid: number) => {
    const known = uids.get(name);
    if (known === undefined) uids.set(name, new Set([uid]));
    else known.add(uid);
  };
  for (const { owner, first, last } of held) {
    // A comment may hold anything; only a name can stand in a plan.
    if (first === last && owner !== undefined && /^[A-Za-z_][\w-]{0,31}$/.test(owner)) {
      remember(owner, first);
    }
  }
  for (const [uid, { name }] of bootScripts) remember(name, uid);
  return uids;
}

/**
 * The uids that an account was locked with and has no more: it was deleted, or got another uid.
 * Where somebody else is locked with one, it is theirs.
 */
export function formerUids(
  name: string,
  entry: PasswdEntry | undefined,
  { subuid }: Machine,
  remembered: Remembered,
): number[] {
  const own = entry === undefined ? [] : subordinateRanges(subuid, entry);
  return [...remembered.get(name) ?? []]
    .filter((uid) =>
      uid !== entry?.uid && !own.some(({ first, last }) => first <= uid && uid <= last)
    )
    .filter((uid) => otherNames(name, uid, remembered).length === 0);
}

/** The other names that a uid is locked for: the account was renamed, or the uid is a new account's. */
export function otherNames(name: string, uid: number, remembered: Remembered): string[] {
  return [...remembered].flatMap(([other, uids]) => other !== name && uids.has(uid) ? [other] : []);
}

/** Answers, for any range of uids, which layers hold it. */
export class InForce {
  readonly #held = new Map<string, Held[]>();
  readonly #sets = new Map<string, { effective: UidSet; all: UidSet }>();

  constructor(held: readonly Held[]) {
    for (const one of held) {
      const key = keyOf(one.layer, one.family, one.backend);
      const others = this.#held.get(key);
      if (others === undefined) this.#held.set(key, [one]);
      else others.push(one);
    }
    for (const [key, all] of this.#held) {
      const effective = all.filter(({ shadow }) => shadow === undefined);
      this.#sets.set(key, { effective: new UidSet(effective), all: new UidSet(all) });
    }
  }

  /** Whether a layer stops every uid of the range, has rules that do not count, or lacks them. */
  judge(
    layer: Layer,
    family: Family,
    backend: Backend,
    range: UidRange,
  ): { readonly state: "effective" | "missing" } | {
    readonly state: "shadowed";
    readonly by: Held;
  } {
    const key = keyOf(layer, family, layer === "routing" ? undefined : backend);
    const sets = this.#sets.get(key);
    if (sets?.effective.covers(range)) return { state: "effective" };
    if (!sets?.all.covers(range)) return { state: "missing" };
    const by = this.#held.get(key)?.find((one) => one.shadow !== undefined && overlap(one, range));
    return by === undefined ? { state: "missing" } : { state: "shadowed", by };
  }

  /** What a layer has for any uid of the range. */
  of(layer: Layer, family: Family, backend: Backend, range: UidRange): Held[] {
    const key = keyOf(layer, family, layer === "routing" ? undefined : backend);
    return this.#held.get(key)?.filter((one) => overlap(one, range)) ?? [];
  }
}

const keyOf = (layer: Layer, family: Family, backend: Backend | undefined) =>
  `${layer} ${family} ${backend ?? ""}`;

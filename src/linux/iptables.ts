/**
 * The iptables backend: the reference page's own rule in OUTPUT, the DROP in mangle POSTROUTING that
 * sees what OUTPUT cannot, and what holds for loopback, in both families.
 *
 * A rule stores numbers. The comment `fishnet:NAME` tells whose they are, so that the rules of a
 * range that has left /etc/subuid can still be found.
 */
import { feed, printed, sudo } from "../line.ts";
import type { Found, Kind, Lock, Piece, Step, Uids } from "../lock/piece.ts";
import { allUids, ownerWord, ownUids, subordinateUids } from "./accounts.ts";
import {
  chainPiece,
  chainsIn,
  type Change,
  isChain,
  leadsTo,
  makeChain,
  thereOf,
  unmakeChain,
} from "./iptables_chain.ts";
import {
  CHAIN,
  EARLY,
  FOR_UIDS,
  type Layer,
  layerOf,
  LIMIT,
  LOOPBACK_TCP,
  MARK,
  OWN_CHAINS,
  type OwnChain,
  REFUSE,
  SHARED,
  wordsOf,
} from "./iptables_layers.ts";
import { type Rule, Shadows, splitWords } from "./iptables_rules.ts";
import { commandOf, LEGACY_TABLES, savedQuestions, savedRules } from "./iptables_saved.ts";
import type { SavedRules } from "./iptables_saved.ts";
import { FAMILIES, type Family, type Machine } from "./machine.ts";

/** A piece of this kind knows its layer, and what changes it. */
interface RulePiece extends Piece {
  readonly layer: Layer;
  readonly family: Family;
  readonly command: string;
  /** What stands behind the chain's name. */
  readonly words: string;
}

/** The base chains that rules of ours stand in, by table. */
const PLACES = { filter: ["OUTPUT"], mangle: ["INPUT", "OUTPUT", "POSTROUTING"] };

/** The rules of the iptables backend, and the chains of our own that they lead to. */
export const iptables: Kind<Machine> = {
  questions: savedQuestions,
  files: LEGACY_TABLES,

  wanted(lock, machine) {
    if (lock.backend !== "iptables") return [];
    const families = machine?.families ?? FAMILIES;
    const isWanted = (own: OwnChain | undefined) => own !== LIMIT || lock.onlyPorts.length > 0;
    const pieces = (layers: readonly Layer[], uids?: Uids) =>
      layers.filter(({ own, beside }) => isWanted(own) && isWanted(beside)).flatMap((layer) =>
        families.filter((family) => (layer.family ?? family) === family)
          .map((family) => rulePiece(lock, layer, family, uids))
      );
    return [
      ...OWN_CHAINS.filter(isWanted)
        .flatMap((own) => families.map((family) => chainPiece(own, family))),
      ...pieces(SHARED),
      ...allUids(lock).flatMap((uids) => pieces(FOR_UIDS, uids)),
      ...subordinateUids(lock).flatMap((uids) => pieces([EARLY], uids)),
      ...pieces([REFUSE], ownUids(lock)),
    ];
  },

  found(machine) {
    const rules = read.get(machine) ?? foundIn(machine);
    read.set(machine, rules);
    return rules;
  },

  make(pieces, machine) {
    const inserted = machine === undefined ? insert : onTop(machine, standing(machine));
    const changeOf = (piece: Piece) =>
      isChain(piece) ? makeChain(piece, machine) : inserted(piece as RulePiece);
    return machine === undefined
      ? stepsByName(pieces, changeOf)
      : stepsOf([...chainsFor(pieces, machine), ...pieces].map(changeOf));
  },

  unmake(pieces, machine, made = []) {
    const chains = machine && standing(machine);
    if (machine !== undefined && made.length > 0) {
      const inserted = onTop(machine, chains!);
      made.forEach((piece) => isChain(piece) || inserted(piece as RulePiece));
    }
    const changeOf = (piece: Piece) =>
      isChain(piece) ? unmakeChain(piece) : remove(piece as RulePiece, chains);
    // Nothing leads to a chain any more before it goes.
    const rank = (piece: Piece) => isChain(piece) ? 2 : piece.uids === undefined ? 1 : 0;
    const ordered = pieces.toSorted((one, other) => rank(one) - rank(other));
    return chains === undefined ? stepsByName(ordered, changeOf) : stepsOf(ordered.map(changeOf));
  },
};

/** What was found on a machine: a plan that moves rules asks for it again. */
const read = new WeakMap<Machine, Found[]>();

function foundIn(machine: Machine): Found[] {
  const all = savedRules(machine).flatMap(chainsIn);
  return savedRules(machine).flatMap((saved) => {
    const { rules, family, variant, command } = saved;
    const shadows = new Shadows(rules, variant);
    const chains = chainsIn(saved);
    const faultOf = (own: OwnChain) => {
      const { is, fault } = chains.find((there) => there.own === own) ?? {};
      // What leads to a chain that is mended in its place is sound then.
      const isSound = (chain: Found) => chain.is === is && chain.fault === undefined;
      return command === commandOf(family) && !all.some(isSound) ? undefined : fault;
    };
    return [
      ...chains,
      ...Object.entries(PLACES)
        .flatMap(([table, names]) => names.flatMap((name) => shadows.withShadows(table, name)))
        // A chain of somebody's may have a target's name.
        .filter(({ rule: { table, target } }) =>
          target === CHAIN || !saved.chains.has(`${table} ${target}`)
        )
        .flatMap(({ rule, shadow }) => foundRule(rule, shadow, saved, faultOf)),
    ];
  });
}

/** The chains that rules lead to, and that are sound in the other variant alone. */
function chainsFor(pieces: readonly Piece[], machine: Machine): Piece[] {
  const led = pieces.flatMap((piece) => {
    if (isChain(piece)) return [];
    const { family, layer: { own } } = piece as RulePiece;
    return own === undefined ? [] : [chainPiece(own, family)];
  });
  const distinct = new Map(led.map((chain) => [chain.is, chain]));
  for (const { is } of pieces) distinct.delete(is);
  return [...distinct.values()].filter((chain) => {
    const there = thereOf(chain, machine);
    return there === undefined || there.fault !== undefined;
  });
}

/** What accounts share comes as a whole before the rest, and goes as a whole behind it. */
function stepsByName(pieces: readonly Piece[], changeOf: (piece: Piece) => Change): Step[] {
  return [...Map.groupBy(pieces, ({ uids }) => uids === undefined)].flatMap(([shared, those]) => {
    const changes = those.map(changeOf);
    return shared ? stepsOf(changes) : changes.map((change) => stepOf([change]));
  });
}

/** What a wanted rule and one that is there have in common. */
const ruleOf = (layer: Layer, family: Family, command: string, ports: readonly number[]) => ({
  is: `IPv${family}: ${layer.is}${layer === LOOPBACK_TCP ? ` ${ports.join(", ")}` : ""}`,
  ...(layer.beside && { serves: leadsTo(layer.beside) }),
  ...{ layer, family, command },
});

const rulePiece = (lock: Lock, layer: Layer, family: Family, uids?: Uids): RulePiece => ({
  ...ruleOf(layer, family, commandOf(family), lock.onlyPorts),
  why: `IPv${family}: ${layer.why}`,
  ...(uids && { uids, owner: lock.name }),
  words: wordsOf(layer, ownerWord(uids, lock.name), lock.name, lock.onlyPorts),
});

/** Puts a rule on top of its chain, or where it stood. */
function insert({ is, why, uids, command, layer, words }: RulePiece, position = 1): Change {
  const { table, chain } = layer;
  return {
    command,
    table,
    there: [`-I ${chain} ${position} ${words}`],
    back: [`-D ${chain} ${words}`],
    why,
    ...(typeof uids === "object" ? { counts: { is, uids } } : {}),
  };
}

/** Puts rules on top of their chains, and takes away in the same moment what stands below in vain. */
function onTop(machine: Machine, chains: Chains): (piece: RulePiece) => Change {
  const keyOf = ({ is, uids, command }: RulePiece) => JSON.stringify([is, uids, command]);
  const rules = iptables.found(machine).filter((piece) => !isChain(piece)) as Found[];
  const inVain = rules.filter(({ fault, foreign }) => fault && !foreign) as (RulePiece & Found)[];
  const below = Map.groupBy(inVain, keyOf);
  return (piece) => {
    const { is, uids } = piece;
    const change = insert(piece);
    const gone = (below.get(keyOf(piece)) ?? [])
      .filter(({ owner = piece.owner }) => owner === piece.owner)
      .map((old) => remove(old, chains));
    chains.get(placeOf(piece.command, piece.layer))?.unshift("");
    return {
      ...change,
      there: [...gone.flatMap(({ there }) => there), ...change.there],
      back: [...change.back, ...gone.toReversed().flatMap(({ back }) => back)],
      counts: { is, ...(typeof uids === "object" && { uids }), sound: true },
    };
  };
}

/** Takes a rule away; the undo puts it back where it stood. */
function remove(piece: RulePiece, chains: Chains | undefined): Change {
  const { there, back, ...rest } = insert(piece, chains && take(piece, chains));
  return { ...rest, there: back, back: there, why: `remove it: ${piece.is}` };
}

/** The words of each chain's rules, as they stand while one after another is taken away. */
type Chains = ReadonlyMap<string, string[]>;

const placeOf = (command: string, { table, chain }: Pick<Rule, "table" | "chain">) =>
  `${command} ${table} ${chain}`;

function standing(machine: Machine): Chains {
  const chains = new Map<string, string[]>();
  for (const { rules, command } of savedRules(machine)) {
    for (const [place, chain] of Map.groupBy(rules, (rule) => placeOf(command, rule))) {
      chains.set(place, chain.map(({ words }) => words));
    }
  }
  return chains;
}

/** The position, from 1, of the first such rule, which is gone from now on: `-D` takes that. */
function take({ command, layer, words }: RulePiece, chains: Chains): number {
  const chain = chains.get(placeOf(command, layer)) ?? [];
  const index = Math.max(0, chain.indexOf(words));
  chain.splice(index, 1);
  return index + 1;
}

function foundRule(
  rule: Rule,
  shadow: Rule | undefined,
  { family, variant, command }: SavedRules,
  faultOf: (own: OwnChain) => string | undefined,
): (RulePiece & Found)[] {
  const layer = layerOf(rule);
  if (layer === undefined) return [];
  const { owner: uids, comment, otherThanPorts = [] } = rule;
  const fault = shadow === undefined
    ? layer.own && faultOf(layer.own)
    : `shadowed by what stands above it in ${commandOf(family, variant)}: ${shadow.text}`;
  const isMarked = comment?.startsWith(MARK);
  // The page's own rule is for one uid.
  const isOurs = isMarked ??
    (layer === REFUSE
      ? rule.target === "REJECT" && uids?.first === uids?.last
      : !layer.words.includes(MARK));
  return [{
    ...ruleOf(layer, family, command, otherThanPorts),
    why: layer.why,
    ...(uids && { uids }),
    ...(isMarked ? { owner: comment!.slice(MARK.length) } : {}),
    ...(fault === undefined ? {} : { fault }),
    ...(isOurs ? {} : { foreign: true }),
    says: {
      backend: "iptables",
      ...(layer === LOOPBACK_TCP ? { onlyPorts: otherThanPorts } : {}),
    },
    words: rule.words,
  }];
}

function stepsOf(changes: readonly Change[]): Step[] {
  const tables = Map.groupBy(changes, ({ command, table }) => `${command} ${table}`);
  return [...tables.values()].map(stepOf);
}

function stepOf(changes: readonly Change[]): Step {
  const [first] = changes as readonly [Change];
  // All of them or none: one tells.
  const counts = changes.find((change) => change.counts !== undefined)?.counts;
  return {
    line: lineOf(first, changes.flatMap(({ there }) => there)),
    why: [...new Set(changes.map(({ why }) => why))].join("; "),
    undo: [lineOf(first, changes.toReversed().flatMap(({ back }) => back))],
    ...(counts && { counts }),
  };
}

/** One rule by its own command; many by iptables-restore: all or nothing, and others left alone. */
function lineOf({ command, table }: Change, lines: readonly string[]): string {
  if (lines.length === 1 && /^-[ID] /.test(lines[0]!)) {
    const place = table === "filter" ? [] : ["-t", table];
    return sudo(command, "-w", ...place, ...splitWords(lines[0]!));
  }
  const text = [`*${table}`, ...lines, "COMMIT"].join("\n");
  const restore = [`${command}-restore`, "-w", "--noflush"];
  // A rule of somebody else's that comes back may hold what `echo` changes.
  return text.includes("\\")
    ? `${printed(`${text}\n`)} | ${sudo(...restore)}`
    : feed(text, ...restore);
}

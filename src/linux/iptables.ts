/**
 * The iptables backend: the reference page's own rule in OUTPUT, the DROP in mangle POSTROUTING that
 * sees what OUTPUT cannot, and what holds for loopback, in both families.
 *
 * A rule stores numbers. The comment `fishnet:NAME` tells whose they are, so that the rules of a
 * range that has left /etc/subuid can still be found.
 *
 * @module
 */
import type { Found, Kind, Lock, Piece, Step, Uids } from "../lock/piece.ts";
import { allUids, ownerWord, ownUids } from "./accounts.ts";
import {
  chainPiece,
  chainsFound,
  isChain,
  makeChain,
  plainChain,
  unmakeChain,
} from "./iptables_chain.ts";
import { type Change, commandOf, stepOf, stepsOf } from "./iptables_changes.ts";
import {
  BASE,
  CHAIN,
  DROP,
  type Layer,
  layerOf,
  LIMITS,
  LOOPBACK_TCP,
  MARK,
  OWN_CHAINS,
  type OwnChain,
  REFUSE,
  SHARED,
} from "./iptables_layers.ts";
import { type Rule, Shadows } from "./iptables_rules.ts";
import {
  LEGACY_TABLES,
  plainVariant,
  Positions,
  savedQuestions,
  savedRules,
} from "./iptables_saved.ts";
import { FAMILIES, type Family, type Machine, type Variant } from "./machine.ts";

/** A piece of this kind knows its layer, and one that is there the rule that it was found as. */
interface RulePiece extends Piece {
  readonly layer: Layer;
  readonly family: Family;
  readonly ports: readonly number[];
}
interface FoundRule extends Found {
  readonly layer: Layer;
  readonly family: Family;
  readonly variant: Variant;
  readonly rule: Rule;
}
const nameOf = (family: Family, layer: Layer, ports: readonly number[]) =>
  `IPv${family}: ${layer.is}${layer === LOOPBACK_TCP ? ` ${ports.join(", ")}` : ""}`;

/** The base chains that rules of ours stand in. */
const PLACES = [
  ["filter", "OUTPUT"],
  ["mangle", "INPUT"],
  ["mangle", "OUTPUT"],
  ["mangle", "POSTROUTING"],
] as const;

/** The rules of the iptables backend, and the chains of our own that they lead to. */
export const iptables: Kind<Machine> = {
  questions: savedQuestions,
  files: LEGACY_TABLES,

  wanted(lock, machine) {
    if (lock.backend !== "iptables") return [];
    const families = machine?.families ?? FAMILIES;
    const limited = lock.onlyPorts.length > 0;
    const layers = limited ? [...BASE, ...LIMITS] : BASE;
    const pieces = (layer: Layer, uids?: Uids) =>
      families.filter((family) => (layer.family ?? family) === family)
        .map((family) => rulePiece(lock, layer, family, uids));
    return [
      ...OWN_CHAINS.filter((own) => layers.some((layer) => layer.own === own))
        .flatMap((own) => families.map((family) => chainPiece(own, family))),
      ...SHARED.filter(({ forLimits }) => !forLimits || limited).flatMap((layer) => pieces(layer)),
      ...allUids(lock).flatMap((uids) => layers.flatMap((layer) => pieces(layer, uids))),
      ...pieces(REFUSE, ownUids(lock)),
    ];
  },

  found(machine) {
    const plain = plainVariant(machine);
    const all = savedRules(machine).flatMap(chainsFound);
    return savedRules(machine).flatMap((saved) => {
      const { rules, family, variant } = saved;
      const shadows = new Shadows(rules, variant);
      const chains = all.filter((chain) => chain.family === family && chain.variant === variant);
      const faultOf = (own: OwnChain) => {
        const { is, fault } = chains.find((there) => there.own === own) ?? {};
        // What leads to a chain that is mended in its place is sound then.
        const isSound = (chain: Found) => chain.is === is && chain.fault === undefined;
        return variant === plain && !all.some(isSound) ? undefined : fault;
      };
      return [
        ...chains,
        ...PLACES.flatMap(([table, name]) => shadows.withShadows(table, name))
          // A chain of somebody's may have a target's name.
          .filter(({ rule: { table, target } }) =>
            target === CHAIN || !saved.chains.has(`${table} ${target}`)
          )
          .flatMap(({ rule, shadow }) => foundRule(rule, shadow, family, variant, faultOf)),
      ];
    });
  },

  make(pieces, machine) {
    const all = machine === undefined ? pieces : [...chainsFor(pieces, machine), ...pieces];
    const changes = all.map((piece) =>
      isChain(piece) ? makeChain(piece, machine) : insert(piece as RulePiece)
    );
    return machine === undefined ? stepsByName(pieces, changes) : stepsOf(changes);
  },

  unmake(pieces, machine, made = []) {
    const chains = machine === undefined ? undefined : new Positions(machine);
    for (const piece of made) {
      if (isChain(piece)) continue;
      const { family, layer } = piece as RulePiece;
      chains?.putFirst(family, layer);
    }
    // Nothing leads to a chain any more before it goes.
    const rank = (piece: Piece) => isChain(piece) ? 2 : piece.uids === undefined ? 1 : 0;
    const ordered = pieces.toSorted((one, other) => rank(one) - rank(other));
    const changes = ordered.map((piece) => {
      if (isChain(piece)) return unmakeChain(piece, chains?.named(piece.variant));
      if (chains === undefined) return removeByName(piece as RulePiece);
      return remove(piece as FoundRule, chains);
    });
    return chains === undefined ? stepsByName(ordered, changes) : stepsOf(changes);
  },
};

/** The chains that rules lead to, and that are sound in the other variant alone. */
function chainsFor(pieces: readonly Piece[], machine: Machine): Piece[] {
  const names = new Set(pieces.map(({ is }) => is));
  const led = pieces.flatMap((piece) => {
    if (isChain(piece)) return [];
    const { family, layer: { own } } = piece as RulePiece;
    return own === undefined ? [] : [chainPiece(own, family)];
  });
  const distinct = new Map(led.map((chain) => [chain.is, chain]));
  return [...distinct.values()].filter(({ own, family, is }) => {
    if (names.has(is)) return false;
    const there = plainChain(own, family, machine);
    return there === undefined || there.fault !== undefined;
  });
}

/** What accounts share comes as a whole before the rest, and goes as a whole behind it. */
function stepsByName(pieces: readonly Piece[], changes: readonly Change[]): Step[] {
  const groups = Map.groupBy(changes.keys(), (i) => pieces[i]!.uids === undefined);
  return [...groups].flatMap(([shared, places]) => {
    const those = places.map((i) => changes[i]!);
    return shared ? stepsOf(those) : those.map(stepOf);
  });
}

function rulePiece(
  { name, onlyPorts }: Lock,
  layer: Layer,
  family: Family,
  uids?: Uids,
): RulePiece {
  return {
    is: nameOf(family, layer, onlyPorts),
    why: `IPv${family}: ${layer.why}`,
    ...(uids === undefined ? {} : { uids, owner: name }),
    ...servesOf(layer),
    layer,
    family,
    ports: onlyPorts,
  };
}

/** What accounts share by ports alone serves those that have ports. */
const servesOf = ({ forLimits }: Layer): Pick<Piece, "serves"> =>
  forLimits === undefined ? {} : {
    serves: (piece) => "layer" in piece && LIMITS.includes(piece.layer as Layer),
  };

function wordsOf(piece: RulePiece): readonly string[] {
  const { layer, uids, owner = "", ports } = piece;
  return layer.words(uids === undefined ? "" : ownerWord(piece), owner, ports);
}

function insert(piece: RulePiece): Change {
  const { is, why, uids, family, layer: { table, chain } } = piece;
  const words = wordsOf(piece);
  return {
    family,
    table,
    there: [["-I", chain, "1", ...words]],
    back: [["-D", chain, ...words]],
    why,
    ...(typeof uids === "object" ? { counts: { is, uids } } : {}),
  };
}

function removeByName(piece: RulePiece): Change {
  const { there, back, ...rest } = insert(piece);
  return { ...rest, there: back, back: there, why: `remove it: ${piece.is}` };
}

/** `-D` takes the first of several copies; the undo puts it back where it stood. */
function remove({ is, uids, family, variant, layer, rule }: FoundRule, chains: Positions): Change {
  const { chain, words } = rule;
  const position = chains.take(family, variant, rule);
  return {
    family,
    variant: chains.named(variant),
    table: layer.table,
    there: [["-D", chain, ...words]],
    back: [["-I", chain, `${position}`, ...words]],
    why: `remove it: ${is}`,
    ...(uids === undefined ? {} : { counts: { is, uids } }),
  };
}

function foundRule(
  rule: Rule,
  shadow: Rule | undefined,
  family: Family,
  variant: Variant,
  faultOf: (own: OwnChain) => string | undefined,
): FoundRule[] {
  const layer = layerOf(rule);
  if (layer === undefined) return [];
  const command = commandOf(family, variant);
  const fault = shadow === undefined
    ? layer.own && faultOf(layer.own)
    : `shadowed by what stands above it in ${command}: ${shadow.text}`;
  const isOurs = rule.comment === undefined
    ? layer !== DROP && !(layer === REFUSE && rule.target === "DROP")
    : rule.comment.startsWith(MARK);
  return [{
    is: nameOf(family, layer, rule.otherThanPorts ?? []),
    why: layer.why,
    ...(rule.owner === undefined ? {} : { uids: rule.owner }),
    ...(rule.comment?.startsWith(MARK) ? { owner: rule.comment.slice(MARK.length) } : {}),
    ...(fault === undefined ? {} : { fault }),
    ...(isOurs ? {} : { foreign: true }),
    ...servesOf(layer),
    says: {
      backend: "iptables",
      ...(layer === LOOPBACK_TCP ? { onlyPorts: rule.otherThanPorts ?? [] } : {}),
    },
    layer,
    family,
    variant,
    rule,
  }];
}

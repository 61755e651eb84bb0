/**
 * What is wanted beside what was found: which pieces are in force, and the commands that make the
 * one into the other.
 *
 * @module
 */
import { type Holder, Holdings, type There } from "./holder.ts";
import type { Action, Asked, Found, Kind, Lock, LockOptions, Piece, Step } from "./piece.ts";
import { joined } from "./steps.ts";
import { overlap, UidSet } from "./uid_range.ts";

/** How a piece that is wanted stands; a piece that is there and has no effect says why. */
export type Judgement = "in force" | "missing" | Found;

/** Answers, for any piece that is wanted, whether what is there does what it is for. */
export class InForce {
  readonly #found = new Map<string, { sound: UidSet; all: UidSet; pieces: readonly Found[] }>();

  constructor(found: readonly Found[]) {
    const uidsOf = (pieces: readonly Found[]) =>
      new UidSet(pieces.flatMap(({ uids }) => uids ?? []));
    for (const [is, pieces] of Map.groupBy(found, ({ is }) => is)) {
      const sound = uidsOf(pieces.filter(({ fault }) => fault === undefined));
      this.#found.set(is, { sound, all: uidsOf(pieces), pieces });
    }
  }

  /** Whether every uid of the piece is held; a piece without uids is there or not. */
  judge({ is, uids }: Piece): Judgement {
    const there = this.#found.get(is);
    if (there === undefined) return "missing";
    const { sound, all, pieces } = there;
    if (typeof uids !== "object") {
      return pieces.some(({ fault }) => fault === undefined) ? "in force" : pieces[0]!;
    }
    if (sound.covers(uids)) return "in force";
    if (!all.covers(uids)) return "missing";
    const isInTheWay = (one: Found) =>
      one.fault !== undefined && one.uids !== undefined && overlap(one.uids, uids);
    return pieces.find(isInTheWay) ?? "missing";
  }
}

/** A lock that is to be made, and which of its options were asked for just now. */
export interface Wish {
  readonly lock: Lock;
  readonly holder: Holder;
  readonly asked: Asked;
}

/** The commands that make locks of what is there: the new stands before the old goes. */
export function stepsToEnable<M>(
  there: readonly There<M>[],
  machine: M,
  wishes: readonly Wish[],
): Step[] {
  const holdings = new Holdings(there);
  const make: Step[] = [];
  const wanted = new Map<Kind<M>, Piece[]>();
  const made = new Map<Kind<M>, Piece[]>();
  for (const { kind, found } of there) {
    const inForce = new InForce(found);
    const pieces = piecesOf(kind, wishes.map(({ lock }) => lock), machine);
    wanted.set(kind, pieces);
    const missing = pieces.filter((piece) => inForce.judge(piece) !== "in force");
    made.set(kind, missing);
    if (missing.length > 0) make.push(...kind.make(missing, machine));
  }
  const gone = new Set(wishes.flatMap(({ lock, holder, asked }) => {
    const own = holdings.of(holder);
    return there.flatMap(({ kind }) => {
      const names = new Set(wanted.get(kind)!.map(({ is }) => is));
      return own.get(kind)!.filter((piece) =>
        !names.has(piece.is) && isReplaced(piece, lock, asked)
      );
    });
  }));
  return joined([...make, ...takeAway(there, machine, gone, wanted, made)]);
}

/** What another backend, or other ports, make needless: only where it was asked for. */
function isReplaced({ says, foreign }: Found, lock: LockOptions, asked: Asked): boolean {
  // What keeps a lock over a reboot is one file, whose new text has replaced the old one.
  if (foreign || says === undefined || says.persist) return false;
  if (says.backend !== undefined && says.backend !== lock.backend) {
    return asked.backend !== undefined;
  }
  return says.onlyPorts !== undefined && (asked.onlyPorts ?? []).length > 0;
}

/** The commands that take away all that is there of accounts, whatever it is. */
export function stepsToDisable<M>(
  there: readonly There<M>[],
  machine: M,
  holders: readonly Holder[],
): Step[] {
  const holdings = new Holdings(there);
  const gone = new Set(
    holders.flatMap((holder) =>
      [...holdings.of(holder).values()].flat().filter(({ foreign }) => !foreign)
    ),
  );
  return joined(takeAway(there, machine, gone, new Map()));
}

/** Takes pieces away, and what accounts share with the last that needs it. */
function takeAway<M>(
  there: readonly There<M>[],
  machine: M,
  gone: ReadonlySet<Found>,
  wanted: ReadonlyMap<Kind<M>, readonly Piece[]>,
  made?: ReadonlyMap<Kind<M>, readonly Piece[]>,
): Step[] {
  const steps = ({ kind, found }: There<M>): Step[] => {
    // A part that is cut out of a piece is none of the list: it goes by its name.
    const names = new Set(found.map(({ is }) => is));
    const own = [...gone].filter((piece) => names.has(piece.is));
    const left = [
      ...found.filter((piece) => !gone.has(piece) && piece.uids !== undefined),
      ...wanted.get(kind)?.filter((piece) => piece.uids !== undefined) ?? [],
    ];
    const shared = found.filter((piece) =>
      piece.uids === undefined && !piece.foreign &&
      !left.some((other) => other.is !== piece.is && (piece.serves?.(other) ?? true))
    );
    const all = [...own, ...own.length > 0 || wanted.size === 0 ? shared : []];
    return all.length === 0 ? [] : kind.unmake(all, machine, made?.get(kind));
  };
  return backwards(there).flatMap(steps);
}

/** The order in which kinds go. */
function backwards<T extends { readonly kind: { readonly goesLast?: true } }>(
  all: readonly T[],
): T[] {
  const reversed = all.toReversed();
  return [
    ...reversed.filter(({ kind }) => !kind.goesLast),
    ...reversed.filter(({ kind }) => kind.goesLast),
  ];
}

/** A plan for accounts that are known by name alone: nothing was found. */
export function stepsByName<M>(
  kinds: readonly Kind<M>[],
  locks: readonly Lock[],
  action: Action,
  loop: (name: string, lines: readonly string[]) => string,
): Step[] {
  const together = kinds.some(({ together }) => together);
  const groups = together ? [locks] : locks.map((lock) => [lock]);
  const steps = groups.flatMap((group) => planByName(kinds, group, action, loop));
  return distinct(steps, ({ line }) => line);
}

/** The plan of one account, or of all whose pieces one command makes: those have no ranges. */
function planByName<M>(
  kinds: readonly Kind<M>[],
  locks: readonly Lock[],
  action: Action,
  loop: (name: string, lines: readonly string[]) => string,
): Step[] {
  const disabling = action === "disable";
  const all = kinds.map((kind) => ({ kind, pieces: piecesOf(kind, locks) }));
  const ordered = disabling
    ? backwards(all).map(({ kind, pieces }) => ({ kind, pieces: pieces.toReversed() }))
    : all;
  const stepsOf = (kind: Kind<M>, pieces: readonly Piece[]) =>
    pieces.length === 0 ? [] : disabling ? kind.unmake(pieces) : kind.make(pieces);
  const isRange = ({ uids }: Piece) => uids === "ranges";
  const inLoop = ordered.flatMap(({ kind, pieces }) => stepsOf(kind, pieces.filter(isRange)));
  const [{ name }] = locks as readonly [Lock];
  const theLoop: Step = {
    line: loop(name, inLoop.map(({ line }) => line)),
    why: "the same for each range of subordinate uids (rootless containers, say)",
    loop: true,
    undo: [loop(name, inLoop.toReversed().flatMap(({ undo }) => undo))],
  };
  // The loop stands where the last of its commands would: before the rule that has to come first.
  const withRanges = ordered.filter(({ pieces }) => pieces.some(isRange));
  const place = disabling ? withRanges[0] : withRanges.at(-1);
  return ordered.flatMap((one) => {
    const { kind, pieces } = one;
    const others = (some: readonly Piece[]) =>
      stepsOf(kind, some.filter((piece) => !isRange(piece)));
    if (one !== place) return others(pieces);
    const at = disabling ? pieces.findIndex(isRange) : pieces.findLastIndex(isRange);
    return [...others(pieces.slice(0, at)), theLoop, ...others(pieces.slice(at))];
  });
}

/** The pieces of locks; what accounts share is one. */
function piecesOf<M>(kind: Kind<M>, locks: readonly Lock[], machine?: M): Piece[] {
  const pieces = locks.flatMap((lock) => kind.wanted(lock, machine));
  return distinct(pieces, (piece) => piece.uids === undefined ? piece.is : piece);
}

/** The first of each that have the same key. */
function distinct<T>(all: readonly T[], keyOf: (one: T) => unknown): T[] {
  return [...Map.groupBy(all, keyOf).values()].map(([first]) => first!);
}

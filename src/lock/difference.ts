/**
 * What is wanted beside what was found: which pieces are in force, and the commands that make the
 * one into the other.
 *
 * @module
 */
import { type Holder, Holdings, type There } from "./holder.ts";
import type { Found, Kind, Lock, LockOptions, Piece, Step } from "./piece.ts";
import { joined } from "./steps.ts";
import { overlap, UidSet } from "./uid_range.ts";

/** How a piece that is wanted stands. */
export type Judgement =
  | { readonly state: "in force" | "missing" }
  | { readonly state: "without effect"; readonly by: Found };

/** Answers, for any piece that is wanted, whether what is there does what it is for. */
export class InForce {
  readonly #found = new Map<string, Found[]>();
  readonly #sets = new Map<string, { effective: UidSet; all: UidSet }>();

  constructor(found: readonly Found[]) {
    for (const piece of found) {
      const others = this.#found.get(piece.is);
      if (others === undefined) this.#found.set(piece.is, [piece]);
      else others.push(piece);
    }
    const uidsOf = (pieces: readonly Found[]) =>
      new UidSet(pieces.flatMap(({ uids }) => uids ?? []));
    for (const [is, all] of this.#found) {
      const effective = uidsOf(all.filter(({ fault }) => fault === undefined));
      this.#sets.set(is, { effective, all: uidsOf(all) });
    }
  }

  /** Whether every uid of the piece is held; a piece without uids is there or not. */
  judge({ is, uids }: Piece): Judgement {
    const there = this.#found.get(is);
    if (there === undefined) return { state: "missing" };
    if (typeof uids !== "object") {
      if (there.some(({ fault }) => fault === undefined)) return { state: "in force" };
      return { state: "without effect", by: there[0]! };
    }
    const sets = this.#sets.get(is)!;
    if (sets.effective.covers(uids)) return { state: "in force" };
    if (!sets.all.covers(uids)) return { state: "missing" };
    const by = there.find((one) =>
      one.fault !== undefined && one.uids !== undefined && overlap(one.uids, uids)
    );
    return by === undefined ? { state: "missing" } : { state: "without effect", by };
  }
}

/** A lock that is to be made, and which of its options were asked for just now. */
export interface Wish {
  readonly lock: Lock;
  readonly holder: Holder;
  readonly asked: { readonly backend: boolean; readonly onlyPorts: boolean };
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
    const pieces = distinct(wishes.flatMap(({ lock }) => kind.wanted(lock, machine)));
    wanted.set(kind, pieces);
    const missing = pieces.filter((piece) => inForce.judge(piece).state !== "in force");
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
function isReplaced({ says, foreign }: Found, lock: LockOptions, asked: Wish["asked"]): boolean {
  // What keeps a lock over a reboot is one file, whose new text has replaced the old one.
  if (foreign || says === undefined || says.persist) return false;
  if (says.backend !== undefined && says.backend !== lock.backend) return asked.backend;
  return says.onlyPorts !== undefined && asked.onlyPorts;
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

/** Takes pieces away, last kind first, and what accounts share with the last that needs it. */
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
  const backwards = there.toReversed();
  return [
    ...backwards.filter(({ kind }) => !kind.goesLast),
    ...backwards.filter(({ kind }) => kind.goesLast),
  ].flatMap(steps);
}

/** What accounts share is one piece. */
function distinct(pieces: readonly Piece[]): Piece[] {
  const seen = new Set<string>();
  return pieces.filter(({ is, uids }) => uids !== undefined || (!seen.has(is) && seen.add(is)));
}

/** A plan for accounts that are known by name alone: nothing was found. */
export function stepsByName<M>(
  kinds: readonly Kind<M>[],
  locks: readonly Lock[],
  action: "enable" | "disable",
  loop: (name: string, lines: readonly string[]) => string,
): Step[] {
  const steps = kinds.some(({ together }) => together)
    ? planTogether(kinds, locks, action)
    : locks.flatMap((lock) => planByName(kinds, lock, action, loop));
  const seen = new Set<string>();
  return steps.filter(({ line }) => !seen.has(line) && seen.add(line));
}

/** The same where one file, say, holds the pieces of all accounts. */
function planTogether<M>(
  kinds: readonly Kind<M>[],
  locks: readonly Lock[],
  action: "enable" | "disable",
): Step[] {
  const disabling = action === "disable";
  return (disabling ? kinds.toReversed() : kinds).flatMap((kind) => {
    const pieces = distinct(locks.flatMap((lock) => kind.wanted(lock)));
    if (pieces.length === 0) return [];
    return disabling ? kind.unmake(pieces) : kind.make(pieces);
  });
}

function planByName<M>(
  kinds: readonly Kind<M>[],
  lock: Lock,
  action: "enable" | "disable",
  loop: (name: string, lines: readonly string[]) => string,
): Step[] {
  const disabling = action === "disable";
  const all = kinds.map((kind) => ({ kind, pieces: kind.wanted(lock) }));
  const ordered = disabling
    ? [
      ...all.filter(({ kind }) => !kind.goesLast).toReversed(),
      ...all.filter(({ kind }) => kind.goesLast),
    ]
      .map(({ kind, pieces }) => ({ kind, pieces: pieces.toReversed() }))
    : all;
  const stepsOf = (kind: Kind<M>, pieces: readonly Piece[]) =>
    pieces.length === 0 ? [] : disabling ? kind.unmake(pieces) : kind.make(pieces);
  const isRange = ({ uids }: Piece) => uids === "ranges";
  const inLoop = ordered.flatMap(({ kind, pieces }) => stepsOf(kind, pieces.filter(isRange)));
  const theLoop: Step = {
    line: loop(lock.name, inLoop.map(({ line }) => line)),
    why: "the same for each range of subordinate uids (rootless containers, say)",
    loop: true,
    undo: [loop(lock.name, inLoop.toReversed().flatMap(({ undo }) => undo))],
  };
  // The loop stands where the last of its commands would: before the rule that has to come first.
  const withRanges = ordered.filter(({ pieces }) => pieces.some(isRange));
  const place = disabling ? withRanges[0] : withRanges.at(-1);
  return ordered.flatMap((one) => {
    const { kind, pieces } = one;
    if (one !== place) return stepsOf(kind, pieces.filter((piece) => !isRange(piece)));
    const at = disabling ? pieces.findIndex(isRange) : pieces.findLastIndex(isRange);
    return [
      ...stepsOf(kind, pieces.slice(0, at).filter((piece) => !isRange(piece))),
      theLoop,
      ...stepsOf(kind, pieces.slice(at).filter((piece) => !isRange(piece))),
    ];
  });
}

/** Wanted beside found: which pieces are in force, and what makes the one into the other. */
import type { There } from "./holder.ts";
import type { Action, Asked, Found, Kind, Lock, LockOptions, Piece, Step } from "./piece.ts";
import type { System } from "../system.ts";
import { feed } from "../line.ts";
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

/** A lock that is to be made. */
export interface Wish {
  readonly lock: Lock;
  readonly own: readonly Found[];
  /** Which options of the lock were asked for just now. */
  readonly asked: Asked;
}

/** What is there of one kind, what is wanted of it, and what of that is made, if not all goes. */
type Balance<M> = There<M> & { readonly wanted: readonly Piece[]; made?: readonly Piece[] };

/** The commands that make locks of what is there: the new stands before the old goes. */
export function stepsToEnable<M>(
  there: readonly There<M>[],
  machine: M,
  wishes: readonly Wish[],
): Step[] {
  const locks = wishes.map(({ lock }) => lock);
  const balances = there.map(({ kind, found }) => {
    const inForce = new InForce(found);
    const wanted = piecesOf(kind, locks, machine);
    const made = wanted.filter((piece) => inForce.judge(piece) !== "in force");
    return { kind, found, wanted, made };
  });
  const make = balances.flatMap(({ kind, made }) =>
    made.length === 0 ? [] : kind.make(made, machine)
  );
  const names = new Set(balances.flatMap(({ wanted }) => wanted.map(({ is }) => is)));
  const gone = wishes.flatMap(({ lock, own, asked }) =>
    own.filter((piece) => !names.has(piece.is) && isReplaced(piece, lock, asked))
  );
  return joined([...make, ...takeAway(balances, machine, gone)]);
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

/** Takes away all that accounts have; what `staying` locks may lack and will need stays. */
export function stepsToDisable<M>(
  there: readonly There<M>[],
  machine: M,
  own: readonly Found[],
  staying: readonly Lock[] = [],
): Step[] {
  const balances = there.map((one) => ({ ...one, wanted: piecesOf(one.kind, staying, machine) }));
  return joined(takeAway(balances, machine, own.filter(({ foreign }) => !foreign)));
}

/** Takes pieces away, and what accounts share with the last that needs it. */
function takeAway<M>(
  balances: readonly Balance<M>[],
  machine: M,
  pieces: readonly Found[],
): Step[] {
  const gone = new Set(pieces);
  return backwards(balances).flatMap(({ kind, found, wanted, made }) => {
    // A part that is cut out of a piece is none of the list: it goes by its name.
    const names = new Set(found.map(({ is }) => is));
    const own = [...gone].filter((piece) => names.has(piece.is));
    const left: readonly (Piece & Pick<Found, "foreign">)[] = [
      ...found.filter((piece) => !gone.has(piece)),
      ...wanted,
    ].filter(({ uids }) => uids !== undefined);
    // Somebody else's rule needs nothing of ours, unless it leads there.
    const shared = found.filter((piece) =>
      piece.uids === undefined && !piece.foreign &&
      !left.some((other) => other.is !== piece.is && (piece.serves?.(other) ?? !other.foreign))
    );
    const all = [...own, ...own.length > 0 || made === undefined ? shared : []];
    return all.length === 0 ? [] : kind.unmake(all, machine, made);
  });
}

function backwards<T extends { readonly kind: Pick<Kind<never>, "goesLast"> }>(
  all: readonly T[],
): T[] {
  const late = ({ kind }: T) => Number(kind.goesLast ?? false);
  return all.toReversed().sort((a, b) => late(a) - late(b));
}

/** A plan for accounts that are known by name alone: nothing was found. */
export function stepsByName<M>(
  system: Pick<System<M>, "kinds" | "loop">,
  locks: readonly Lock[],
  action: Action,
): Step[] {
  const together = system.kinds.some(({ together }) => together);
  const groups = together ? [locks] : locks.map((lock) => [lock]);
  return distinct(groups.flatMap((group) => planByName(system, group, action)), ({ line }) => line);
}

/** The plan of one account, or of all whose pieces one command makes: those have no ranges. */
function planByName<M>(
  { kinds, loop }: Pick<System<M>, "kinds" | "loop">,
  locks: readonly Lock[],
  action: Action,
): Step[] {
  const disabling = action === "disable";
  const all = kinds.map((kind) => ({ kind, pieces: piecesOf(kind, locks) }));
  const ordered = (disabling ? backwards(all) : all).flatMap(({ kind, pieces }) =>
    (disabling ? pieces.toReversed() : pieces).map((piece) => ({ kind, piece }))
  );
  const stepsOf = (some: typeof ordered) =>
    [...Map.groupBy(some, ({ kind }) => kind)].flatMap(([kind, ones]) =>
      kind[disabling ? "unmake" : "make"](ones.map(({ piece }) => piece))
    );
  const isRange = ({ piece }: typeof ordered[number]) => piece.uids === "ranges";
  const others = (some: typeof ordered) => stepsOf(some.filter((one) => !isRange(one)));
  // The loop stands where the last of its commands would: before the rule that has to come first.
  const at = disabling ? ordered.findIndex(isRange) : ordered.findLastIndex(isRange);
  if (at < 0 || loop === undefined) return others(ordered);
  const inLoop = stepsOf(ordered.filter(isRange));
  const [{ name }] = locks as readonly [Lock];
  const theLoop: Step = {
    line: loop(name, inLoop.map(({ line }) => line)),
    why: "the same for each range of subordinate uids (rootless containers, say)",
    loop: true,
    undo: [loop(name, inLoop.toReversed().flatMap(({ undo }) => undo))],
  };
  return [...others(ordered.slice(0, at)), theLoop, ...others(ordered.slice(at))];
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

/** The same commands, those that one call can carry out in a row joined; their undo goes backwards. */
function joined(steps: readonly Step[]): Step[] {
  const wordsOf = ({ batch }: Step) => batch?.words.join(" ");
  const rows: Step[][] = [];
  for (const step of steps) {
    const row = rows.at(-1);
    if (step.batch !== undefined && row !== undefined && wordsOf(row[0]!) === wordsOf(step)) {
      row.push(step);
    } else rows.push([step]);
  }
  return rows.map((row) => {
    if (row.length === 1) return row[0]!;
    const batches = row.map(({ batch }) => batch!);
    const { words } = batches[0]!;
    return {
      line: feed(batches.map(({ text }) => text).join("\n"), ...words),
      why: [...new Set(row.map(({ why }) => why))].join("; "),
      undo: [feed(batches.map(({ undo }) => undo).toReversed().join("\n"), ...words)],
    };
  });
}

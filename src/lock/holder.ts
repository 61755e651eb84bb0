/**
 * Whose pieces are whose: those that tell it, and those that only hold a uid.
 *
 * @module
 */
import type { Found, Kind } from "./piece.ts";
import { common, overlap, UidIndex, type UidRange, UidSet } from "./uid_range.ts";

/** An account, and all that it may be known by: pieces hold the numbers and names of their day. */
export interface Holder {
  readonly name: string;
  /** Undefined where nothing tells it any more. */
  readonly uid: number | undefined;
  /** The subordinate ranges that it has now. */
  readonly ranges: readonly UidRange[];
  /** Of all these uids, those that other accounts have too: what is locked for them is not its own. */
  readonly shared?: readonly UidRange[];
  /** False for an account that was deleted, or renamed. */
  readonly exists: boolean;
  /** The names under which its pieces may be: its own, and those that its uid had before. */
  readonly names: readonly string[];
  /** The uids that it was locked with and has no more. */
  readonly formerUids: readonly number[];
}

/** All that is there of one kind. */
export interface There<M> {
  readonly kind: Kind<M>;
  readonly found: readonly Found[];
}

/** A piece, and whose it says it is. */
interface Held<M> {
  readonly kind: Kind<M>;
  readonly piece: Found;
  readonly owner: string | undefined;
}
type WithUids<T> = T & { readonly uids: UidRange };

const withUids = <T extends { readonly piece: Found }>(all: readonly T[]): WithUids<T>[] =>
  all.flatMap((one) => one.piece.uids === undefined ? [] : [{ ...one, uids: one.piece.uids }]);

/** A comment may hold anything; only a name can stand in a plan. */
const nameIn = (text: string | undefined) =>
  text !== undefined && /^[A-Za-z_][\w-]{0,31}$/.test(text) ? text : undefined;

const single = (uid: number): UidRange => ({ first: uid, last: uid });

/** Answers which pieces an account has. */
export class Holdings<M> {
  readonly #there: readonly There<M>[];
  readonly #byOwner: ReadonlyMap<string, readonly Held<M>[]>;
  readonly #owned: UidIndex<WithUids<Held<M>>>;
  readonly #unowned: UidIndex<WithUids<Held<M>>>;
  /** What holds uids and does not tell whose they are. */
  readonly unowned: readonly Found[];

  constructor(there: readonly There<M>[]) {
    this.#there = there;
    const all = there.flatMap(({ kind, found }) =>
      found.map((piece) => ({ kind, piece, owner: nameIn(piece.owner) }))
    );
    const owned = all.filter(({ owner }) => owner !== undefined);
    const unowned = withUids(all.filter(({ owner }) => owner === undefined));
    this.#byOwner = Map.groupBy(owned, ({ owner }) => owner!);
    this.#owned = new UidIndex(withUids(owned));
    this.#unowned = new UidIndex(unowned);
    this.unowned = unowned.map(({ piece }) => piece);
  }

  /** The names that pieces are there for. */
  get owners(): string[] {
    return [...this.#byOwner.keys()];
  }

  /** The single uids that pieces remember for a name. */
  uidsOf(name: string): number[] {
    const uids = withUids(this.#byOwner.get(name) ?? []).map(({ uids }) => uids);
    return [...new Set(uids.filter(({ first, last }) => first === last).map(({ first }) => first))];
  }

  /** The names that pieces remember for a uid. */
  namesOf(uid: number): string[] {
    const alone = this.#owned.overlapping(single(uid)).filter(({ uids }) =>
      uids.first === uids.last
    );
    return [...new Set(alone.flatMap(({ owner }) => owner ?? []))];
  }

  /** The names, but for the one, that any of these uids are locked for. */
  othersWith(range: UidRange, name: string): string[] {
    return this.#ofOthers(range, [name]).flatMap(({ owner }) => owner ?? []);
  }

  #ofOthers(range: UidRange, names: readonly string[]): WithUids<Held<M>>[] {
    return this.#owned.overlapping(range).filter(({ owner }) => !names.includes(owner!));
  }

  /** The account's uids: those it has, and those that its pieces remember and no other's hold. */
  uids({ names, uid, ranges, shared = [], exists, formerUids }: Holder): UidSet {
    const own = uid === undefined ? [] : [single(uid)];
    const pieces = names.flatMap((name) => this.#byOwner.get(name) ?? []);
    const recorded = new UidSet([
      ...(exists ? [] : own),
      ...formerUids.map(single),
      ...withUids(pieces).map(({ uids }) => uids),
    ]);
    const ofOthers = (range: UidRange) => this.#ofOthers(range, names).map(({ uids }) => uids);
    const free = recorded.ranges.flatMap((range) => new UidSet(ofOthers(range)).without(range));
    const others = new UidSet(
      shared.flatMap((range) => ofOthers(range).map((uids) => common(range, uids))),
    );
    const has = [...(exists ? own : []), ...ranges].flatMap((range) => others.without(range));
    return new UidSet([...has, ...free]);
  }

  /** The account's own pieces, by kind; of those that hold many accounts' uids, its part. */
  of(holder: Holder): Map<Kind<M>, Found[]> {
    const uids = this.uids(holder);
    const own = new Map<Kind<M>, Found[]>(this.#there.map(({ kind }) => [kind, []]));
    for (const { kind, piece } of holder.names.flatMap((name) => this.#byOwner.get(name) ?? [])) {
      own.get(kind)!.push(piece);
    }
    const unowned = new Set(uids.ranges.flatMap((range) => this.#unowned.overlapping(range)));
    for (const { kind, piece, uids: held } of unowned) {
      if (piece.foreign) continue;
      if (piece.divisible) {
        const parts = uids.ranges.filter((range) => overlap(range, held));
        own.get(kind)!.push(...parts.map((range) => ({ ...piece, uids: common(range, held) })));
      } else if (uids.covers(held)) own.get(kind)!.push(piece);
    }
    return own;
  }
}

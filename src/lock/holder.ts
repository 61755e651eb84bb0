/**
 * Whose pieces are whose: those that tell it, and those that only hold a uid.
 *
 * @module
 */
import type { Found, Kind } from "./piece.ts";
import { overlap, UidIndex, type UidRange, UidSet } from "./uid_range.ts";

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

const isName = (text: string | undefined): text is string =>
  text !== undefined && /^[A-Za-z_][\w-]{0,31}$/.test(text);
const hasUids = (piece: Found): piece is Found & { uids: UidRange } => piece.uids !== undefined;

function remember<K, V>(into: Map<K, Set<V>>, key: K, value: V): void {
  const known = into.get(key);
  if (known === undefined) into.set(key, new Set([value]));
  else known.add(value);
}

/** Answers which pieces an account has. */
export class Holdings<M> {
  readonly #there: readonly There<M>[];
  readonly #byOwner = new Map<string, { kind: Kind<M>; piece: Found }[]>();
  readonly #remembered = {
    uids: new Map<string, Set<number>>(),
    names: new Map<number, Set<string>>(),
  };
  readonly #unowned: { kind: Kind<M>; piece: Found & { uids: UidRange } }[] = [];

  readonly #index: UidIndex<{ readonly piece: Found }>;
  readonly #unownedIndex: UidIndex<{ kind: Kind<M>; piece: Found & { uids: UidRange } }>;

  constructor(there: readonly There<M>[]) {
    this.#there = there;
    for (const { kind, found } of there) {
      for (const piece of found) {
        // A comment may hold anything; only a name can stand in a plan.
        const owner = isName(piece.owner) ? piece.owner : undefined;
        if (owner === undefined) {
          if (hasUids(piece)) this.#unowned.push({ kind, piece });
          continue;
        }
        const others = this.#byOwner.get(owner);
        if (others === undefined) this.#byOwner.set(owner, [{ kind, piece }]);
        else others.push({ kind, piece });
        const { uids } = piece;
        if (uids !== undefined && uids.first === uids.last) {
          remember(this.#remembered.uids, owner, uids.first);
          remember(this.#remembered.names, uids.first, owner);
        }
      }
    }
    const owned = [...this.#byOwner].flatMap(([owner, pieces]) =>
      pieces.flatMap(({ piece }) =>
        piece.uids === undefined
          ? []
          : [{ uids: piece.uids, value: { piece: { ...piece, owner } } }]
      )
    );
    this.#index = new UidIndex(owned);
    this.#unownedIndex = new UidIndex(
      this.#unowned.map((value) => ({ uids: value.piece.uids, value })),
    );
  }

  /** The names that pieces are there for. */
  get owners(): string[] {
    return [...this.#byOwner.keys()];
  }

  /** The single uids that pieces remember for a name. */
  uidsOf(name: string): number[] {
    return [...this.#remembered.uids.get(name) ?? []];
  }

  /** The names that pieces remember for a uid. */
  namesOf(uid: number): string[] {
    return [...this.#remembered.names.get(uid) ?? []];
  }

  /** What holds uids and does not tell whose they are. */
  get unowned(): Found[] {
    return this.#unowned.map(({ piece }) => piece);
  }

  /** The names, but for the one, that any of these uids are locked for. */
  othersWith(range: UidRange, name: string): string[] {
    return this.#ofOthers(range, [name]).map(({ owner }) => owner!);
  }

  #ofOthers(range: UidRange, names: readonly string[]): Found[] {
    return this.#index.overlapping(range).map(({ piece }) => piece)
      .filter(({ owner }) => owner !== undefined && !names.includes(owner));
  }

  /** The account's uids: those it has, and those that its pieces remember and no other's hold. */
  uids({ names, uid, ranges, shared, exists, formerUids }: Holder): UidSet {
    const own = uid === undefined ? [] : [{ first: uid, last: uid }];
    const recorded = new UidSet([
      ...(exists ? [] : own),
      ...formerUids.map((former) => ({ first: former, last: former })),
      ...names.flatMap((name) =>
        (this.#byOwner.get(name) ?? []).flatMap(({ piece }) => piece.uids ?? [])
      ),
    ]);
    const free = recorded.ranges.flatMap((range) =>
      new UidSet(this.#ofOthers(range, names).flatMap(({ uids }) => uids ?? [])).without(range)
    );
    const others = new UidSet(
      (shared ?? []).flatMap((range) =>
        this.#ofOthers(range, names).flatMap(({ uids }) => ({
          first: Math.max(range.first, uids!.first),
          last: Math.min(range.last, uids!.last),
        }))
      ),
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
    const unowned = new Set(uids.ranges.flatMap((range) => this.#unownedIndex.overlapping(range)));
    for (const { kind, piece } of unowned) {
      if (piece.foreign) continue;
      if (!piece.divisible) {
        if (uids.covers(piece.uids)) own.get(kind)!.push(piece);
        continue;
      }
      const parts = uids.ranges.filter((range) => overlap(range, piece.uids));
      own.get(kind)!.push(...parts.map(({ first, last }) => ({
        ...piece,
        uids: { first: Math.max(first, piece.uids.first), last: Math.min(last, piece.uids.last) },
      })));
    }
    return own;
  }
}

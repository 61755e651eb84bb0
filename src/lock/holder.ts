/** Whose pieces are whose: those that tell it, and those that only hold a uid. */
import { isAccountName } from "../account.ts";
import type { Found, Kind } from "./piece.ts";
import { common, overlap, single, UidIndex, type UidRange, UidSet } from "./uid_range.ts";

/** An account, and all that it may be known by: pieces hold the numbers and names of their day. */
export interface Holder {
  readonly name: string;
  /** Its own; of one that does not exist, the last that it was locked with. */
  readonly uid: number;
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

type Holding = Found & { readonly uids: UidRange };

const holdings = (pieces: readonly Found[]) =>
  pieces.filter((piece): piece is Holding => piece.uids !== undefined);

const isSingle = ({ uids: { first, last } }: Holding) => first === last;

/** Whose a piece says it is. A comment may hold anything; only a name can stand in a plan. */
const ownerOf = ({ owner }: Found) =>
  owner !== undefined && isAccountName(owner) ? owner : undefined;

/** Answers which pieces an account has. */
export class Holdings {
  readonly #byOwner: ReadonlyMap<string | undefined, readonly Found[]>;
  readonly #owned: UidIndex<Holding>;
  readonly #unowned: UidIndex<Holding>;
  /** What holds uids and does not tell whose they are; nothing of somebody else's. */
  readonly unowned: readonly Holding[];

  constructor(found: readonly Found[]) {
    this.#byOwner = Map.groupBy(found, ownerOf);
    this.unowned = holdings(this.#ofNames([undefined])).filter(({ foreign }) => !foreign);
    this.#owned = new UidIndex(holdings(found).filter((piece) => ownerOf(piece) !== undefined));
    this.#unowned = new UidIndex(this.unowned);
  }

  /** The names that pieces are there for. */
  get owners(): string[] {
    return [...this.#byOwner.keys()].filter((name) => name !== undefined);
  }

  /** The single uids that pieces remember for a name. */
  uidsOf(name: string): number[] {
    const alone = holdings(this.#ofNames([name])).filter(isSingle);
    return [...new Set(alone.map(({ uids }) => uids.first))];
  }

  /** The names that pieces remember for a uid. */
  namesOf(uid: number): string[] {
    const alone = this.#owned.overlapping(single(uid)).filter(isSingle);
    return [...new Set(alone.map((piece) => ownerOf(piece)!))];
  }

  /** The names, but for these, that any of these uids are locked for. */
  othersWith(range: UidRange, names: readonly string[]): string[] {
    return this.#ofOthers(range, names).map((piece) => ownerOf(piece)!);
  }

  #ofOthers(range: UidRange, names: readonly string[]): Holding[] {
    return this.#owned.overlapping(range).filter((piece) => !names.includes(ownerOf(piece)!));
  }

  #ofNames(names: readonly (string | undefined)[]): Found[] {
    return names.flatMap((name) => this.#byOwner.get(name) ?? []);
  }

  /** The account's uids: those it has, and those that its pieces remember and no other's hold. */
  uids({ names, uid, ranges, shared = [], exists }: Holder): UidSet {
    const recorded = new UidSet(holdings(this.#ofNames(names)).map(({ uids }) => uids));
    const ofOthers = (range: UidRange) => this.#ofOthers(range, names).map(({ uids }) => uids);
    const free = recorded.ranges.flatMap((range) => new UidSet(ofOthers(range)).without(range));
    const others = new UidSet(
      shared.flatMap((range) => ofOthers(range).map((uids) => common(range, uids))),
    );
    const own = exists ? [single(uid), ...ranges] : [];
    const has = own.flatMap((range) => others.without(range));
    return new UidSet([...has, ...free]);
  }

  /** The account's own pieces; of those that hold many accounts' uids, its part. */
  of(holder: Holder): Found[] {
    const uids = this.uids(holder);
    const unowned = new Set(uids.ranges.flatMap((range) => this.#unowned.overlapping(range)));
    const parts = [...unowned].flatMap((piece): Found[] => {
      if (!piece.divisible) return uids.covers(piece.uids) ? [piece] : [];
      return uids.ranges.filter((range) => overlap(range, piece.uids))
        .map((range) => ({ ...piece, uids: common(range, piece.uids) }));
    });
    return [...this.#ofNames(holder.names), ...parts];
  }
}

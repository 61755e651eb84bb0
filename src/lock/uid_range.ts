/** Ranges of uids, and which of them a set of ranges covers. */

/** All uids from `first` to `last`, both included. */
export interface UidRange {
  readonly first: number;
  readonly last: number;
}

/** The range of one uid. */
export const single = (uid: number): UidRange => ({ first: uid, last: uid });

/** Whether a uid is one of the range. */
export const isIn = (uid: number, { first, last }: UidRange): boolean =>
  first <= uid && uid <= last;

/** Whether a uid is an account's own, or one of its subordinate uids. */
export const isOf = (
  { uid, ranges }: { readonly uid: number; readonly ranges: readonly UidRange[] },
  other: number,
): boolean => other === uid || ranges.some((range) => isIn(other, range));

/** The range as iptables, nft and ip print it; one uid alone is itself. */
export function printRange({ first, last }: UidRange): string {
  return first === last ? `${first}` : `${first}-${last}`;
}

/** Reads `1001` or `231072-296607`; undefined for anything else. */
export function parseRange(text: string): UidRange | undefined {
  const [, from, to = from] = /^(\d{1,10})(?:-(\d{1,10}))?$/.exec(text) ?? [];
  const [first, last] = [Number(from), Number(to)];
  return first <= last ? { first, last } : undefined; // NaN, of no match, is not
}

/** Whether the two have a uid in common. */
export function overlap(a: UidRange, b: UidRange): boolean {
  return a.first <= b.last && b.first <= a.last;
}

/** The uids that two ranges that overlap have in common. */
export function common(a: UidRange, b: UidRange): UidRange {
  return { first: Math.max(a.first, b.first), last: Math.min(a.last, b.last) };
}

/** The first index at which something is true that stays so, in logarithmic time. */
function firstIndex<T>(list: readonly T[], isTrue: (one: T) => boolean): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isTrue(list[middle]!)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The uids of many ranges: whether a whole range is among them, in logarithmic time. */
export class UidSet {
  /** Disjoint, not adjacent, ascending. */
  readonly ranges: readonly UidRange[];

  constructor(ranges: readonly UidRange[]) {
    const merged: { first: number; last: number }[] = [];
    for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first)) {
      const before = merged.at(-1);
      if (before !== undefined && first <= before.last + 1) {
        before.last = Math.max(before.last, last);
      } else merged.push({ first, last });
    }
    this.ranges = merged;
  }

  /** Whether every uid of the range is among them. */
  covers(range: UidRange): boolean {
    const found = this.ranges[this.#at(range.first)];
    return found !== undefined && found.first <= range.first && range.last <= found.last;
  }

  /** The parts of the range that are not among them. */
  without({ first, last }: UidRange): UidRange[] {
    const parts: UidRange[] = [];
    let next = first;
    for (let i = this.#at(first); next <= last; i++) {
      const found = this.ranges[i];
      const end = found === undefined ? last : Math.min(last, found.first - 1);
      if (next <= end) parts.push({ first: next, last: end });
      next = (found?.last ?? last) + 1;
    }
    return parts;
  }

  /** Where the first range stands that does not end before the uid. */
  #at(uid: number): number {
    return firstIndex(this.ranges, ({ last }) => last >= uid);
  }
}

/** Things that hold uids, found by them without looking at all of them. */
export class UidIndex<T extends { readonly uids: UidRange }> {
  readonly #entries: readonly T[];
  /** The highest uid of each entry and all before it: it never falls. */
  readonly #highest: readonly number[];

  constructor(entries: readonly T[]) {
    this.#entries = entries.toSorted((a, b) => a.uids.first - b.uids.first);
    let highest = -1;
    this.#highest = this.#entries.map(({ uids }) => highest = Math.max(highest, uids.last));
  }

  /** Those that hold any uid of the range. */
  overlapping(range: UidRange): T[] {
    const start = firstIndex(this.#highest, (last) => last >= range.first);
    const end = firstIndex(this.#entries, ({ uids }) => uids.first > range.last);
    return this.#entries.slice(start, end).filter(({ uids }) => overlap(uids, range));
  }
}

/** The accounts that have anything of a lock on Linux, by what the machine and the pieces say. */
import type { Holder, Holdings } from "../lock/holder.ts";
import type { Found } from "../lock/piece.ts";
import { isOf, overlap, single, UidSet } from "../lock/uid_range.ts";
import { subordinateRanges } from "./accounts.ts";
import type { Machine } from "./machine.ts";

/** The account of that name; undefined where neither the machine nor a piece knows it. */
export function holder(
  { passwd, subuid }: Machine,
  holdings: Holdings,
  name: string,
): Holder | undefined {
  const entry = passwd.find((known) => known.name === name);
  if (entry === undefined) {
    const uid = holdings.uidsOf(name).at(-1);
    return uid === undefined
      ? undefined
      : { name, uid, ranges: [], exists: false, names: [name], formerUids: [] };
  }
  const { uid } = entry;
  const ranges = subordinateRanges(subuid, entry).map(({ first, last }) => ({ first, last }));
  const has = [single(uid), ...ranges];
  const shared = [
    ...passwd.flatMap((other) => other.name === name ? [] : [single(other.uid)]),
    ...subuid.ranges.filter(({ owner }) => owner !== name && owner !== `${uid}`),
  ].filter((range) => has.some((one) => overlap(one, range)));
  const formerUids = holdings.uidsOf(name).filter((former) =>
    !isOf({ uid, ranges }, former) && holdings.namesOf(former).length === 1
  );
  // A name that somebody has is his, whatever uid was his before.
  const free = holdings.namesOf(uid).filter((other) => !passwd.some((one) => one.name === other));
  return { name, uid, ranges, shared, exists: true, names: [name, ...free], formerUids };
}

/** Every account that anything of a lock is there for. */
export function holders(machine: Machine, holdings: Holdings): Holder[] {
  const { passwd, subuid } = machine;
  const existing = new Set(passwd.map(({ name }) => name));
  const taken = new Set(passwd.map(({ uid }) => uid));
  // Of a name that nobody has any more, whoever has its uid is told.
  const locked = holdings.owners.filter((name) =>
    existing.has(name) || holdings.uidsOf(name).some((uid) => !taken.has(uid))
  );
  const owned = new UidSet(holdings.owners.flatMap((name) => holdings.uidsOf(name).map(single)));
  const ofNobody = new UidSet(holdings.unowned.flatMap(({ uids }) => uids ?? []));
  const subordinate = new UidSet(subuid.ranges);
  // Also who has the uid of a name that is locked: it was renamed, or given another uid.
  const held = passwd.filter(({ uid }) => {
    const own = single(uid);
    return owned.covers(own) || ofNobody.covers(own) && !subordinate.covers(own);
  });
  const names = new Set([...locked, ...held.map(({ name }) => name)]);
  const holdersOf = (some: Iterable<string>) =>
    [...some].sort().flatMap((name) => holder(machine, holdings, name) ?? []);
  const named = holdersOf(names);
  const known = new UidSet(named.flatMap((holder) => holdings.uids(holder).ranges));
  // And whose subordinate uids a rule that tells no name holds, and nobody else's lock.
  const free = ofNobody.ranges.flatMap((range) => known.without(range));
  const owners = new Set(
    subuid.ranges.filter((one) => free.some((range) => overlap(one, range)))
      .map(({ owner }) => owner),
  );
  const more = passwd.filter(({ name, uid }) =>
    !names.has(name) && (owners.has(name) || owners.has(`${uid}`))
  );
  return more.length === 0 ? named : holdersOf([...names, ...more.map(({ name }) => name)]);
}

/** What holds uids of no account. */
export function leftOver(
  machine: Machine,
  holdings: Holdings,
  all: readonly Holder[] = holders(machine, holdings),
): readonly Found[] {
  const known = new UidSet([
    ...machine.subuid.ranges,
    ...machine.passwd.map(({ uid }) => single(uid)),
    ...all.flatMap((holder) => holdings.uids(holder).ranges),
  ]);
  return holdings.unowned.flatMap((piece) => {
    const parts = known.without(piece.uids!);
    if (parts.length === 0) return [];
    return piece.divisible ? parts.map((uids) => ({ ...piece, uids })) : [piece];
  });
}

/** Names and uids that pieces tell and no list of accounts has: a directory service may know them. */
export function unlisted(machine: Machine, holdings: Holdings): string[] {
  const all = holders(machine, holdings);
  const gone = all.filter(({ exists }) => !exists).map(({ name }) => name);
  const alone = leftOver(machine, holdings, all).map(({ uids }) => uids!)
    .filter(({ first, last }) => first === last);
  return [...gone, ...new Set(alone.map(({ first }) => `${first}`))];
}

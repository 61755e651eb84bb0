/** The accounts of a machine and their subordinate uids, and the words that a plan has for them. */
import type { Lock, Uids } from "../lock/piece.ts";
import { printRange, single, type UidRange } from "../lock/uid_range.ts";

/** One account (passwd(5)). */
export interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
}

/** One range of subordinate uids, and whose it is: a name, or a uid as a text (subuid(5)). */
export interface SubuidEntry extends UidRange {
  readonly owner: string;
  /** The owner's uid, where no list has the name and a directory service knows it. */
  readonly uid?: number | undefined;
}

/** What /etc/subuid says. */
export interface Subuid {
  readonly ranges: readonly SubuidEntry[];
  /** No ranges in decimals: newuidmap(1) reads `0x…` and a leading 0 (strtoll(3)), a shell more. */
  readonly unclear: readonly string[];
}

/** The accounts that `getent passwd` printed; the first of a name counts. */
export function parsePasswd(text: string): PasswdEntry[] {
  const entries = text.matchAll(/^([^:\n]+):[^:\n]*:(\d{1,10}):/gm)
    .map(([, name, uid]) => ({ name: name!, uid: Number(uid) }));
  return [...Map.groupBy(entries, ({ name }) => name).values()].map(([first]) => first!);
}

/** Reads /etc/subuid; `uidOf` knows the uid of a name that is in no list of accounts. */
export function parseSubuid(
  text: string,
  uidOf: (name: string) => number | undefined = () => undefined,
): Subuid {
  const ranges: SubuidEntry[] = [];
  const unclear: string[] = [];
  for (const line of text.split("\n")) {
    const match = /^([^:]+):(0|[1-9]\d{0,9}):([1-9]\d{0,9})$/.exec(line);
    const first = Number(match?.[2]);
    const last = first + Number(match?.[3]) - 1;
    // The uid above the highest stands for none (chown(2)).
    if (match === null || last > 2 ** 32 - 2) unclear.push(line);
    else {
      const owner = match[1]!;
      const uid = uidOf(owner);
      ranges.push({ owner, first, last, ...(uid !== undefined && { uid }) });
    }
  }
  return { ranges, unclear };
}

/** The account's own among the lines that are no range. */
export function unclearLines({ unclear }: Subuid, { name, uid }: PasswdEntry): string[] {
  return unclear.filter((line) => line.startsWith(`${name}:`) || line.startsWith(`${uid}:`));
}

/** Its ranges under another name of its: newuidmap(1) goes by the uid of whom the name is. */
export function otherwiseNamed({ ranges }: Subuid, { name, uid }: PasswdEntry): SubuidEntry[] {
  return ranges.filter((range) => range.uid === uid && range.owner !== name);
}

/** The account's subordinate ranges: entries go by its name or by its uid. */
export function subordinateRanges({ ranges }: Subuid, { name, uid }: PasswdEntry): SubuidEntry[] {
  return ranges.filter(({ owner }) => owner === name || owner === `${uid}`);
}

/** The account's own uid, as a piece holds it: in a dry-run, that of its name. */
export const ownUids = ({ uid }: Pick<Lock, "uid">): Uids =>
  uid === undefined ? "name" : single(uid);

/** The subordinate uids of a lock, as pieces hold them: in a dry-run, one stands for every range. */
export const subordinateUids = ({ ranges }: Lock): readonly Uids[] => ranges ?? ["ranges"];

/** All uids of a lock, its own first. */
export const allUids = (lock: Lock): Uids[] => [ownUids(lock), ...subordinateUids(lock)];

/** The loop's variable in a dry-run: only the machine knows the ranges. */
export const RANGE = "$range";

/** The uids of a piece as iptables and nft take them: a name, a uid, a range. */
export function ownerWord(uids: Uids | undefined, name = ""): string {
  if (typeof uids === "object") return printRange(uids);
  return uids === "ranges" ? RANGE : name;
}

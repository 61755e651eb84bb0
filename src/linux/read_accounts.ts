/**
 * Parses the account list and the subordinate ranges.
 *
 * @module
 */
import type { UidRange } from "./uid_range.ts";

/** One account (passwd(5)). */
export interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
}

/** One range of subordinate uids, and whose it is: a name, or a uid as a text (subuid(5)). */
export interface SubuidEntry extends UidRange {
  readonly owner: string;
}

/** The accounts that `getent passwd` printed; the first of a name counts. */
export function parsePasswd(text: string): PasswdEntry[] {
  const entries = new Map<string, PasswdEntry>();
  for (const line of text.split("\n")) {
    const match = /^([^:]+):[^:]*:(\d{1,10}):/.exec(line);
    if (match === null || entries.has(match[1]!)) continue;
    entries.set(match[1]!, { name: match[1]!, uid: Number(match[2]) });
  }
  return [...entries.values()];
}

/** The ranges in /etc/subuid; what is no range is left out, as newuidmap(1) does. */
export function parseSubuid(text: string): SubuidEntry[] {
  return text.split("\n").flatMap((line) => {
    const match = /^([^:]+):(\d{1,10}):(\d{1,10})$/.exec(line);
    const count = Number(match?.[3] ?? 0);
    if (match === null || count === 0) return [];
    const first = Number(match[2]);
    return [{ owner: match[1]!, first, last: first + count - 1 }];
  });
}

/** The account's subordinate ranges: entries go by its name or by its uid. */
export function subordinateRanges(
  subuid: readonly SubuidEntry[],
  { name, uid }: PasswdEntry,
): SubuidEntry[] {
  return subuid.filter(({ owner }) => owner === name || owner === `${uid}`);
}

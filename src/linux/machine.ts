/**
 * One reading of a Linux machine: what root's commands printed, and what every kind of piece needs
 * of it: the accounts, their subordinate uids, and the families that there are.
 *
 * @module
 */
import type { Answers } from "../lock/piece.ts";
import type { PasswdEntry, Subuid } from "./accounts.ts";

/** IPv4 or IPv6. */
export type Family = 4 | 6;

/** Both of them. */
export const FAMILIES: readonly Family[] = [4, 6];

/** The machine's state, as its own tools print it. */
export interface Machine {
  /** What was printed, by the names of the kinds' questions. */
  readonly answers: Answers;
  readonly passwd: readonly PasswdEntry[];
  readonly subuid: Subuid;
  /** A kernel without IPv6 has none to lock. */
  readonly families: readonly Family[];
}

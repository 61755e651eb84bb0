/** What a system offers a lock: how it is read, its kinds of pieces, what it knows of accounts. */
import type { Backend } from "./account.ts";
import type { Holder, Holdings } from "./lock/holder.ts";
import type { Asked, Found, Kind, Lock, LockOfAccount } from "./lock/piece.ts";
import type { AccountStatus, Warning } from "./lock/report.ts";
import type { Trying } from "./lock/tries.ts";
import type { Resolver } from "./lock/verify.ts";
import type { Ask, Root } from "./root.ts";

/** A reading, and the kinds of pieces that a plan has changed since. */
export interface Again<M> {
  readonly machine: M;
  readonly kinds: readonly Kind<M>[];
}

/** An account that is to be freed, what it has, and the names of all that are to be freed with it. */
export interface Freed {
  readonly holder: Holder;
  readonly own: readonly Found[];
  readonly names: readonly string[];
}

/** One system; `M` is what is read of a machine with it. */
export interface System<M> {
  /** The kinds of pieces, in the order in which they are made. */
  readonly kinds: readonly Kind<M>[];
  /**
   * Reads the machine; names that its list of accounts need not have (LDAP, say) are looked up.
   *
   * @param asked the options of a lock that is to be made
   * @param again what was read before, and the kinds that may have changed since
   */
  read(root: Root, names: readonly string[], asked?: Asked, again?: Again<M>): Promise<M>;
  /** The account of that name; undefined where neither the machine nor a piece knows it. */
  holder(machine: M, holdings: Holdings, name: string): Holder | undefined;
  /** Every account that anything of a lock is there for. */
  holders(machine: M, holdings: Holdings): Holder[];
  /** What pieces tell and the list of accounts has not: names and uids that a reading may look up. */
  unlisted?(machine: M, holdings: Holdings): readonly string[];
  /** What holds uids of no account. */
  leftOver(machine: M, holdings: Holdings): readonly Found[];
  /** The backend for an account that has none; an error where the machine has none either. */
  backend?(machine: M): Backend;
  /** @throws {FishnetError} for the first reason not to make this lock, before anything changes. */
  refuse(machine: M, holdings: Holdings, lock: LockOfAccount): void;
  /** @throws {FishnetError} where a disable would leave a part of the account's lock. */
  refuseToFree?(machine: M, holdings: Holdings, freed: Freed): void;
  /** @throws {FishnetError} where a tool that the locks need is too old. */
  refuseTools?(ask: Ask, locks: readonly Lock[]): Promise<void>;
  /** What is worth knowing of an account's lock, and changes no state, beside what status knows. */
  notes(machine: M, holdings: Holdings, holder: Holder, own: readonly Found[]): string[];
  /** Faults of a lock that no kind of piece knows, with what mends them. */
  faults?(machine: M, holder: Holder): { is: string; fault: string; mend: string }[];
  /** The one loop of a dry-run: lines for each range of subordinate uids, where there are any. */
  loop?(name: string, lines: readonly string[]): string;
  /** Compares the machine after a plan with before; a text says why all has to be undone. */
  verifyAfter?(before: M, after: M): string | undefined;
  /** What accounts that are locked could do all the same; for an enable, also what they would miss. */
  doors?(
    root: Root,
    machine: M,
    accounts: readonly AccountStatus[],
    enabling: boolean,
  ): Promise<Warning[]>;
  /** What a disable has to tell besides: what is left that it may not take away. */
  leaves?(machine: M, holder: Holder): string[];
  /** What `verify` has to know of it. */
  readonly trying: Trying;
  /** Services that look names up, or print, which a lock with ports shuts to its account. */
  readonly resolvers?: readonly Resolver[];
  /** A sentence on what was recorded of each account of which anything is. */
  recorded?(ask: Ask, machine: M, names: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** How many of root's own tries were recorded since, in milliseconds since 1970, if any is. */
  recordedTries?(ask: Ask, machine: M, name: string, from: number): Promise<number | undefined>;
  /** The uids below this are the system's own (login.defs(5), dscl(1)). */
  readonly firstOrdinaryUid: number;
  /** What no packet filter closes, in the words that the docs use too. */
  readonly notCovered: readonly string[];
}

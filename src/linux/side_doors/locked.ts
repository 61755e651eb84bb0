/**
 * Whom the warnings are about.
 *
 * @module
 */
import type { Backend } from "../../account.ts";
import type { UidRange } from "../../lock/uid_range.ts";

/** An account of which something of a lock is there. */
export interface Locked {
  readonly name: string;
  readonly uid: number;
  /** Its subordinate uids. */
  readonly ranges: readonly UidRange[];
  /** The TCP ports that loopback is limited to; none leaves all of it open. */
  readonly onlyPorts: readonly number[];
  /** Which rule set carries its lock. */
  readonly backend?: Backend;
  /** Whether the rule is in force that keeps MPTCP's subflows from leaving this machine. */
  readonly mptcpHeld: boolean;
  /** Whether sudo is set to look up no name for it. */
  readonly sudoHeld: boolean;
}

/** Whose a warning is: of one account, or of nobody by name. */
export const whose = (
  accounts: readonly Pick<Locked, "name">[],
): { readonly account?: string } => accounts.length === 1 ? { account: accounts[0]!.name } : {};

/**
 * Whom the warnings are about.
 *
 * @module
 */
import type { Holder } from "../../lock/holder.ts";
import type { AccountStatus } from "../../lock/report.ts";

/** An account of which something of a lock is there. */
export interface Locked
  extends Pick<AccountStatus, "name" | "onlyPorts" | "backend">, Pick<Holder, "uid" | "ranges"> {
  /** Whether the rule is in force that keeps MPTCP's subflows from leaving this machine. */
  readonly mptcpHeld: boolean;
  /** Whether sudo is set to look up no name for it. */
  readonly sudoHeld: boolean;
}

/** Whose a warning is: of one account, or of nobody by name. */
export const whose = (
  accounts: readonly Pick<Locked, "name">[],
): { readonly account?: string } => accounts.length === 1 ? { account: accounts[0]!.name } : {};

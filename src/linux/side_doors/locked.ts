/** Whom the warnings are about. */
import type { Holder } from "../../lock/holder.ts";
import type { AccountStatus, Warning } from "../../lock/report.ts";

/** An account of which something of a lock is there. */
export interface Locked
  extends Pick<AccountStatus, "name" | "onlyPorts" | "backend">, Pick<Holder, "uid" | "ranges"> {
  /** Whether the rule is in force that keeps MPTCP's subflows from leaving this machine. */
  readonly mptcpHeld: boolean;
  /** Whether sudo is set to look up no name for it. */
  readonly sudoHeld: boolean;
}

/** Those whose lock leaves loopback open. */
export const withoutPorts = (accounts: readonly Locked[]): Locked[] =>
  accounts.filter(({ onlyPorts }) => onlyPorts.length === 0);

/** What shuts what is on loopback. */
export const ONLY_PORT = "enable again with --only-port and the proxy's port";

/** A warning of what is open to accounts, where it is to any: of one by name, of several of nobody. */
export function warningOf(
  open: readonly Pick<Locked, "name">[],
  reason: string,
  remedy: string,
): Warning[] {
  if (open.length === 0) return [];
  return [{ ...(open.length === 1 && { account: open[0]!.name }), reason, remedy }];
}

/**
 * What an account could do although it is locked. A warning changes no exit code; it has a reason,
 * and what to do about it.
 *
 * @module
 */
import { someOf } from "../shown.ts";
import type { AccountStatus, Warning } from "./report.ts";

/** Warnings in the order in which they are shown; equally urgent ones as they came. */
export function mostUrgentFirst(warnings: readonly Warning[]): Warning[] {
  return warnings.toSorted((a, b) => (b.urgency ?? 0) - (a.urgency ?? 0));
}

/** Accounts with anything of a lock. */
export const isHeld = ({ state }: AccountStatus): boolean =>
  state === "locked" || state === "partial";

/** The locks that a reboot ends: those that should outlast it by themselves, the others in one line. */
export function lostAtReboot(accounts: readonly AccountStatus[]): Warning[] {
  const lost = accounts.filter((account) => isHeld(account) && !account.survivesReboot);
  const reason = "the lock is gone after a reboot";
  const broken = lost.flatMap(({ name: account, rebootFaults: faults, rebootRemedy }) =>
    faults === undefined ? [] : [{
      account,
      reason: `${reason}, although it was to stay: ${faults.join("; ")}`,
      remedy: rebootRemedy!,
      urgency: 1,
    }]
  );
  const names = lost.filter((one) => one.rebootFaults === undefined).map(({ name }) => name);
  const [account, ...others] = names;
  if (account === undefined) return broken;
  const those = `the locks of ${someOf(names, 5)} are gone after a reboot`;
  const what = others.length === 0 ? { account, reason } : { reason: those };
  return [...broken, {
    ...what,
    remedy: "run enable again with --persist, or after each start",
    urgency: -1,
  }];
}

/** A lock that is not whole although its plan was carried out: something else lets pass. */
export function wholeness(accounts: readonly AccountStatus[]): Warning[] {
  return accounts.filter(({ state }) => state === "partial" || state === "unlocked")
    .map(({ name, state }) => ({
      account: name,
      reason: `the lock is not whole (${state})`,
      remedy: `fishnet firewall status --agent-user ${name} says what is missing and what mends it`,
      urgency: 1,
    }));
}

/** Accounts of the system's own, whose services lose the network too. */
export function systemAccounts(
  accounts: readonly AccountStatus[],
  firstOrdinaryUid: number,
): Warning[] {
  // The uid of nobody is high, and what runs as it is a service (of the DNS, say).
  return accounts.filter(({ name, uid }) =>
    uid !== undefined && (uid < firstOrdinaryUid || name === "nobody")
  )
    .map(({ name, uid }) => ({
      account: name,
      reason: `uid ${uid} is of the system's own: what runs as it loses the network too`,
      remedy: "give the agent an account of its own",
    }));
}

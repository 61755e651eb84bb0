/**
 * What an account could do although it is locked. A warning changes no exit code; it has a reason,
 * and what to do about it.
 *
 * @module
 */
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
  const broken = lost.filter(({ rebootFaults }) => rebootFaults !== undefined);
  const remedy = "run enable again with --persist";
  const names = lost.filter((account) => !broken.includes(account)).map(({ name }) => name);
  const [first, ...others] = names;
  const more = names.length > 5 ? `, and ${names.length - 5} more` : "";
  return [
    ...broken.map(({ name, rebootFaults }): Warning => ({
      account: name,
      reason: `the lock is gone after a reboot, although it was to stay: ${
        rebootFaults!.join("; ")
      }`,
      remedy,
      urgency: 1,
    })),
    ...(first === undefined
      ? []
      : others.length === 0
      ? [{ account: first, reason: "the lock is gone after a reboot", remedy, urgency: -1 }]
      : [{
        reason: `the locks of ${names.slice(0, 5).join(", ")}${more} are gone after a reboot`,
        remedy,
        urgency: -1,
      }]),
  ];
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

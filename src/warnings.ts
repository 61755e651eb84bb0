/**
 * What an account could do although it is locked. A warning changes no exit
 * code; it has a reason, and what to do about it.
 *
 * @module
 */
import type { AccountStatus } from "./status.ts";
import type { System } from "./planner.ts";

/** One thing that an administrator should know. */
export interface Warning {
  /** Whose; undefined where it concerns every account. */
  readonly account?: string;
  readonly reason: string;
  readonly remedy: string;
  /** Which comes first: 1 for a lock that is open, -1 for what can wait; 0 where it is left out. */
  readonly urgency?: number;
}

/** Warnings in the order in which they are shown; equally urgent ones as they came. */
export function mostUrgentFirst(warnings: readonly Warning[]): Warning[] {
  return warnings.toSorted((a, b) => (b.urgency ?? 0) - (a.urgency ?? 0));
}

/** What no packet filter can close, in the words that the README uses too. */
export const NOT_COVERED: Readonly<Record<System, readonly string[]>> = {
  linux: [
    "a socket that another account opened and handed over",
    "setuid-root programs, sudo, and groups that give root, which act as another account",
    "a relay on this machine (a DNS stub, a SOCKS or HTTP proxy), unless --only-port shuts it",
    "sockets that are not IP (Bluetooth, InfiniBand, vsock from a virtual machine to its host)",
    "subordinate uids from elsewhere than /etc/subuid (systemd-nsresourced, a subid plugin)",
    "what the kernel sends by itself when a multicast group is joined (IGMP, MLD)",
    "with iptables, what is left to send, to a neighbour over IPv4, of a connection bound to a device",
  ],
  macos: [
    "names that mDNSResponder looks up, and requests that other system daemons make for it",
    "ping and other ICMP: pf knows no account for it",
    "setuid-root programs, sudo, and virtual machines, which act as another account",
    "a relay on this machine (a SOCKS or HTTP proxy), unless --only-port shuts it",
  ],
};

/** The warnings for accounts with something of a lock. */
export async function warningsFor(
  accounts: readonly AccountStatus[],
  system: System,
): Promise<Warning[]> {
  const held = accounts.filter(({ state }) => state === "locked" || state === "partial");
  const lost = lostAtReboot(
    held.filter(({ survivesReboot }) => !survivesReboot).map(({ name }) => name),
  );
  if (system === "macos" || held.length === 0) return lost;
  return [...lost, ...await (await import("./linux/warnings.ts")).linuxWarnings(held)];
}

/** One line, however many accounts. */
function lostAtReboot(names: readonly string[]): Warning[] {
  const remedy = "run enable again with --persist";
  const [first, ...others] = names;
  if (first === undefined) return [];
  if (others.length === 0) {
    return [{ account: first, reason: "the lock is gone after a reboot", remedy, urgency: -1 }];
  }
  const more = names.length > 5 ? `, and ${names.length - 5} more` : "";
  const reason = `the locks of ${names.slice(0, 5).join(", ")}${more} are gone after a reboot`;
  return [{ reason, remedy, urgency: -1 }];
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

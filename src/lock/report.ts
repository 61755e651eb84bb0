/** What is told of locks: how each piece stands, what an administrator should know, what was refused. */
import type { Backend } from "../account.ts";
import { someOf } from "../shown.ts";

/** `partial`: a piece is missing, or without effect. `unknown`: the state could not be read. */
export type LockState = "locked" | "partial" | "unlocked" | "unknown";

/** One piece of an account's lock, and whether it is in force. */
export interface PieceStatus {
  readonly name: string;
  /** False also for what is there and has no effect, because something before it lets pass. */
  readonly present: boolean;
  /** Why it does not count, or what is remarkable about it. */
  readonly detail?: string;
  /** The command that mends it. */
  readonly remedy?: string;
}

/** What is in force for one account. */
export interface AccountStatus {
  /** Its name; `uid N` where rules are left of an account that nobody knows any more. */
  readonly name: string;
  /** Undefined where the state could not be read. */
  readonly uid: number | undefined;
  readonly state: LockState;
  readonly pieces: readonly PieceStatus[];
  /** The lock is put back in force at boot, before anything of the account can run. */
  readonly survivesReboot: boolean;
  /** Why it is not, although it should be. */
  readonly rebootFaults?: readonly string[];
  /** The commands that put that right. */
  readonly rebootRemedy?: string;
  /** Linux: which rule set carries the lock. */
  readonly backend?: Backend;
  /** The TCP ports that loopback is limited to; none means that all of it is open. */
  readonly onlyPorts: readonly number[];
  /** What is worth knowing, and changes no state. */
  readonly notes?: readonly string[];
}

/** The answer for all accounts that were asked for. */
export interface StatusReport {
  /** The worst of the accounts' states; `unlocked` where there is no account. */
  readonly state: LockState;
  readonly accounts: readonly AccountStatus[];
  /** Why the state could not be read, where it is `unknown`. */
  readonly reason?: string;
}

/** One thing that an administrator should know. */
export interface Warning {
  /** Whose; undefined where it concerns every account. */
  readonly account?: string;
  readonly reason: string;
  readonly remedy: string;
  /** Which comes first: 1 for a lock that is open, -1 for what can wait; 0 where it is left out. */
  readonly urgency?: number;
}

/** One call that the lock refused. */
export interface Refusal {
  /** The record's own: its time and serial number. */
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly account: string;
  /** The uid that asked: the account's, or a subordinate one. */
  readonly uid: number;
  /** Who started the program: root's where it only took the account's effective uid, as verify does. */
  readonly realUid: number;
  readonly pid: number;
  /** The program's name, which it may have chosen itself: any characters at all. */
  readonly program: string;
  readonly executable: string;
  /** Undefined where it sent on a socket that was connected before: the record has no address. */
  readonly address?: string;
  readonly port?: number;
  /** Which layer refused it: the routing rule, or the packet filter. */
  readonly by: "routing" | "filter";
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

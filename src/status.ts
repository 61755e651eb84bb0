/**
 * `status`: what is in force for an account, as the system itself tells it and
 * never from a memory of our own. The two systems are read by modules of
 * their own, which give the same answer in the same form.
 *
 * @module
 */
import { FishnetError } from "./errors.ts";
import type { Backend, System } from "./planner.ts";

/**
 * `locked`: every piece is in force. `partial`: some are. `unlocked`: none is.
 * `unknown`: the machine's state could not be read, so nothing is promised.
 */
export type LockState = "locked" | "partial" | "unlocked" | "unknown";

/** One thing that a lock consists of, and whether it is in force now. */
export interface Piece {
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
  readonly pieces: readonly Piece[];
  /** The lock is put back in force at boot, before anything of the account can run. */
  readonly survivesReboot: boolean;
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

/** The machine's state could not be read: the answer is `unknown`, never `unlocked`. */
export class UnreadableError extends FishnetError {}

/**
 * What is in force for the accounts; for none, for every account that anything
 * of a lock is there for.
 *
 * @throws {FishnetError} for an account that neither exists nor has anything of a lock.
 */
export async function statusOf(names: readonly string[], system: System): Promise<StatusReport> {
  try {
    const accounts = await readStatus(names, system);
    return { state: worst(accounts.map(({ state }) => state)), accounts };
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    return { state: "unknown", reason: error.message, accounts: names.map(unknownAccount) };
  }
}

async function readStatus(names: readonly string[], system: System): Promise<AccountStatus[]> {
  if (system === "macos") return await (await import("./macos/status.ts")).macosStatus(names);
  return await (await import("./linux/status.ts")).linuxStatus(names);
}

function unknownAccount(name: string): AccountStatus {
  return {
    name,
    uid: undefined,
    state: "unknown",
    pieces: [],
    survivesReboot: false,
    onlyPorts: [],
  };
}

/** One state for many: what is not known outweighs everything, and `partial` a mixture. */
function worst(states: readonly LockState[]): LockState {
  if (states.includes("unknown")) return "unknown";
  if (states.length > 0 && states.every((state) => state === "locked")) return "locked";
  return states.every((state) => state === "unlocked") ? "unlocked" : "partial";
}

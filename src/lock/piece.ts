/**
 * A piece is one thing that keeps uids in: a rule, an element of a set, a routing rule, a file, a
 * unit, an anchor. One module for each kind of piece holds all that is known of it: how it is
 * written, how it is found in what the system's own tools print, and why it is there.
 */
import type { Backend } from "../account.ts";
import type { Answer, Files } from "../root.ts";
import type { UidRange } from "./uid_range.ts";

/** A lock as it is wanted: by name in a dry-run, by number where the machine was read. */
export interface Lock extends LockOptions {
  readonly name: string;
  /** Undefined in a dry-run. */
  readonly uid?: number;
  /** The subordinate ranges; undefined in a dry-run, which stands for all that there may be. */
  readonly ranges?: readonly UidRange[];
}

/** A lock of an account that exists. */
export type LockOfAccount = Lock & { readonly uid: number };

/** What a lock consists of. */
export interface LockOptions {
  /** Linux: which rule set carries it. */
  readonly backend: Backend;
  /** The TCP ports that loopback is limited to; none leaves all of it open. */
  readonly onlyPorts: readonly number[];
  /** The lock is there again after a reboot. */
  readonly persist: boolean;
  /** Linux: the account's login sessions are shut as a whole. */
  readonly sessions: boolean;
  /** Linux: what the account tries is recorded by the kernel's audit. */
  readonly log: boolean;
}

/** What was asked for of a lock; what is left out stays as it is. */
export type Asked = { readonly [Option in keyof LockOptions]?: LockOptions[Option] | undefined };

/** What becomes of locks. */
export type Action = "enable" | "disable";

/** In a dry-run `name` is the account's own uid, and `ranges` each of its subordinate ranges. */
export type Uids = UidRange | "name" | "ranges";

/** One thing that keeps uids in. */
export interface Piece {
  /** What it is, as an administrator calls it, without whose: `IPv4: DROP in mangle POSTROUTING`. */
  readonly is: string;
  /** One short clause: why it is there. */
  readonly why: string;
  /** The uids that it holds; undefined for what all accounts share (a table, a unit). */
  readonly uids?: Uids;
  /** The account that it was made for; undefined where the piece does not tell. */
  readonly owner?: string;
  /** For what accounts share: the pieces that need it; by default all of its kind. */
  readonly serves?: (piece: Piece) => boolean;
}

/** A piece that is there. */
export interface Found extends Piece {
  readonly uids?: UidRange;
  /** Why it has no effect, or not the one it was made for. */
  readonly fault?: string;
  /** The command that gives it effect again, where `enable` would not. */
  readonly mend?: string;
  /** Somebody else's: it counts, and is never taken away. */
  readonly foreign?: true;
  /** Anybody may have made it: it is ours where something else holds its uids, too. */
  readonly weak?: true;
  /** It holds uids of many accounts, and some can be cut out of it. */
  readonly divisible?: true;
  /** The options of the lock that it is of, as far as it tells. */
  readonly says?: Partial<LockOptions>;
}

/** One command of a plan. */
export interface Step {
  /** What a person reads, what pasted into `sh` does it, and what runs. */
  readonly line: string;
  /** One short clause for `--explain`, for `--json`, and for an auditor. */
  readonly why: string;
  /** It is the one loop of a dry-run: for reading and pasting, and never run by this program. */
  readonly loop?: true;
  /** For each `sudo` of the line, in their order, the line that takes back exactly what it did. */
  readonly undo: readonly string[];
  /** Several commands in a row with the same words here are one, which reads all their texts. */
  readonly batch?: {
    readonly words: readonly string[];
    readonly text: string;
    readonly undo: string;
  };
  /** Set where the undo of what failed and did nothing would do harm: how many there are tells. */
  readonly counts?: Pick<Found, "is" | "uids"> & {
    /** How many are in force, where one may come in place of others. */
    readonly sound?: true;
  };
}

/** What root is asked: commands that change nothing, by a name each. */
export type Questions = Readonly<Record<string, readonly string[]>>;

/** What is known of a machine while it is read. */
export interface Known {
  readonly files: Files;
  /** By the names that they were asked under. */
  readonly answers: ReadonlyMap<string, Answer>;
  /** The options of a lock that is to be made: what only they need is asked for them alone. */
  readonly asked: Asked;
}

/** All that is known of one kind of piece; `M` is what was read of a machine: a dry-run has none. */
export interface Kind<M> {
  /** What goes last when a lock is taken away: what would put it in force again. */
  readonly goesLast?: true;
  /** One command makes the pieces of all accounts: a dry-run shows it once. */
  readonly together?: true;
  /** What root is asked for it; again with what was answered, until there is nothing new. */
  questions?(known: Known): Questions;
  /** The files that it looks at; a star stands for any characters but a slash. */
  readonly files?: readonly string[];
  /** The pieces of this kind that a lock consists of, in the order in which they are made. */
  wanted(lock: Lock, machine?: M): Piece[];
  /** Those that are there, of every account. */
  found(machine: M): Found[];
  /** The commands that make pieces that are wanted and not in force. */
  make(pieces: readonly Piece[], machine?: M): Step[];
  /** Takes pieces away; without a machine, those just made. `made` came since it was read. */
  unmake(pieces: readonly Piece[], machine?: M, made?: readonly Piece[]): Step[];
}

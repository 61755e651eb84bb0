/** What may be asked of root: all that reading a machine needs to know of the session behind it. */
import { FishnetError } from "./errors.ts";

/** What one command printed, and its exit code. */
export interface Answer {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One name in a folder, as it is there. */
export interface Seen {
  /** `f` for a file, `d` for a folder, `l` for a link, `s` for a socket, `-` for anything else. */
  readonly type: string;
  /** In octal digits: `700`. */
  readonly mode: string;
  readonly uid: number;
  readonly target: string;
  /** What a file holds, behind its links as well; nothing of anything else. */
  readonly text: string;
}

/** What is there, by its path. */
export type Files = ReadonlyMap<string, Seen>;

/** Runs a command that changes nothing, as root, for so many seconds; a failure is an answer. */
export type Ask = (
  words: readonly string[],
  options?: { readonly input?: string; readonly seconds?: number },
) => Promise<Answer>;

/** Root, who reads the machine and changes nothing. */
export interface Root {
  readonly ask: Ask;
  /**
   * Looks at files, without a process: a star stands for any characters but a slash. What is not
   * there is left out. @throws {UnreadableError} where one that is there could not be read.
   */
  readonly look: (paths: readonly string[]) => Promise<Files>;
}

/** The machine could not be read: the state is unknown, never unlocked. */
export class UnreadableError extends FishnetError {}

/** Why the machine could not be read; any other error goes on. */
export function unreadable(error: unknown): string {
  if (!(error instanceof UnreadableError)) throw error;
  return error.message;
}

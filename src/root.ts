/**
 * What may be asked of root: all that reading a machine needs to know of the session behind it.
 *
 * @module
 */
import { FishnetError } from "./errors.ts";
import type { Answer, Files } from "./statements.ts";

/**
 * Runs one command as root that changes nothing; a failure is an answer, not an error. It reads
 * `input`, or nothing, and is ended after so many seconds.
 */
export type Ask = (
  words: readonly string[],
  options?: { readonly input?: string; readonly seconds?: number },
) => Promise<Answer>;

/**
 * Looks at files as root, without a process: a star in a path stands for any characters but a slash.
 * What is not there is left out.
 *
 * @throws {UnreadableError} where one that is there could not be read.
 */
export type Look = (paths: readonly string[]) => Promise<Files>;

/** Root, who reads the machine and changes nothing. */
export interface Root {
  readonly ask: Ask;
  readonly look: Look;
}

/** The machine could not be read: the state is unknown, never unlocked. */
export class UnreadableError extends FishnetError {}

/** Why the machine could not be read; any other error goes on. */
export function unreadable(error: unknown): string {
  if (!(error instanceof UnreadableError)) throw error;
  return error.message;
}

/**
 * The one error that a user is meant to read. `main.ts` prints its message as
 * `[fishnet] MESSAGE` and exits 1; anything else that is thrown is a bug.
 */

/** A failure with a sentence for the user: what could not be done, and what to do. */
export class FishnetError extends Error {
  override readonly name = "FishnetError";
}

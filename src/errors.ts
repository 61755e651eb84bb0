/**
 * The one error that a user is meant to read: what could not be done, and what to do. `main.ts`
 * prints it as `[fishnet] MESSAGE` and exits 1; anything else that is thrown is a bug.
 */
export class FishnetError extends Error {
  override readonly name = "FishnetError";
}

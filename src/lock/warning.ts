/**
 * What an account could do although it is locked. A warning changes no exit code; it has a reason,
 * and what to do about it.
 *
 * @module
 */

/** One thing that an administrator should know. */
export interface Warning {
  /** Whose; undefined where it concerns every account, or some that the reason need not name. */
  readonly account?: string;
  readonly reason: string;
  /** One thing to do. */
  readonly remedy: string;
}

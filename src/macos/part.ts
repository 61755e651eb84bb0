/**
 * One of the things that hold an account in pf: a kind of pieces of its own, but for what accounts
 * share, which is counted over all of them.
 *
 * @module
 */
import type { Kind } from "../lock/piece.ts";
import type { Machine } from "./machine.ts";

/** As a kind is; its questions are asked by the reading itself. */
export interface Part extends Omit<Kind<Machine>, "questions"> {
  /** What its pieces are called, or how that begins. */
  readonly are: string;
}

/**
 * One of the things that hold every account in pf, and that all of them share.
 *
 * @module
 */
import type { Piece, Step } from "../lock/piece.ts";
import type { Machine } from "./machine.ts";

/** Found whole, with a fault, or not at all; without a machine, nothing is there. */
export interface Shared {
  readonly piece: Pick<Piece, "is" | "why">;
  found(machine: Machine): { readonly fault?: string } | undefined;
  make(machine?: Machine): Step[];
  unmake(machine?: Machine): Step[];
}

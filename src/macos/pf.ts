/**
 * What holds an account in pf, in the order in which it is made: the content before its call, and
 * the call before pf is turned on; away with them backwards.
 *
 * @module
 */
import type { Kind, Piece } from "../lock/piece.ts";
import { loadedRules, rulesFile } from "./anchor.ts";
import { call } from "./call.ts";
import type { Machine } from "./machine.ts";
import type { Part } from "./part.ts";
import { pfConf } from "./pf_conf.ts";
import { reference } from "./reference.ts";

/** What accounts share. */
export const SHARED: readonly Part[] = [pfConf, call, reference];

const PARTS: readonly Part[] = [rulesFile, pfConf, loadedRules, call, reference];

/** All of them are one kind: what accounts share is there as long as one of them has rules. */
export const pf: Kind<Machine> = {
  together: true,
  questions: {}, // machine.ts asks: a list of rules is believed when it was read twice
  wanted: (lock, machine) => PARTS.flatMap((part) => part.wanted(lock, machine)),
  found: (machine) => PARTS.flatMap((part) => part.found(machine)),
  make: (pieces, machine) =>
    PARTS.flatMap((part) => {
      const own = pieces.filter(isOf(part));
      return own.length === 0 ? [] : part.make(own, machine);
    }),
  unmake: (pieces, machine) =>
    PARTS.toReversed().flatMap((part) => {
      const own = pieces.filter(isOf(part));
      return own.length === 0 ? [] : part.unmake(own, machine);
    }),
};

const isOf = ({ are }: Part) => ({ is }: Piece) => is.startsWith(are);

/**
 * What holds an account in pf, in the order in which it is made: the content before its call, and
 * the call before pf is turned on; away with them backwards.
 *
 * @module
 */
import type { Found, Kind, Piece } from "../lock/piece.ts";
import { isRule, rules } from "./anchor.ts";
import { call } from "./call.ts";
import type { Machine } from "./machine.ts";
import { pfConf } from "./pf_conf.ts";
import { reference } from "./reference.ts";

/** What accounts share. */
export const SHARED = [pfConf, call, reference] as const;

/** All of them are one kind: what accounts share is there as long as one of them has rules. */
export const pf: Kind<Machine> = {
  together: true,
  wanted: (lock) => [...rules.wanted(lock), ...SHARED.map(({ piece }) => piece)],
  found: (machine) => [
    ...rules.found(machine),
    ...SHARED.flatMap((part): Found | [] => {
      const found = part.found(machine);
      return found === undefined ? [] : { ...part.piece, ...found };
    }),
  ],
  make: (pieces, machine) => [
    ...rules.make(pieces.filter(isRule), machine),
    ...sharedIn(pieces).flatMap((part) => part.make(machine)),
  ],
  unmake: (pieces, machine, made) => [
    ...sharedIn(pieces).toReversed().flatMap((part) => part.unmake(machine)),
    ...rules.unmake(pieces.filter(isRule), machine, made?.filter(isRule)),
  ],
};

const sharedIn = (pieces: readonly Piece[]) =>
  SHARED.filter(({ piece }) => pieces.some(({ is }) => is === piece.is));

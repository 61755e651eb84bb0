/**
 * macOS as a system that a lock can be made on: its kinds of pieces, and what only it knows of
 * accounts.
 *
 * @module
 */
import type { Holder } from "../lock/holder.ts";
import type { System } from "../system.ts";
import type { Machine } from "./machine.ts";
import { kinds, NOT_COVERED, notes, readMachine, refuse, verifyAfter } from "./macos.ts";

/** The system of this name. */
export const macos: System<Machine> = {
  kinds,
  read: readMachine,

  holder(machine, holdings, name) {
    const uid = machine.accounts.get(name)?.uid;
    const remembered = holdings.uidsOf(name);
    const known = uid ?? remembered.at(-1);
    if (known === undefined) return undefined;
    const others = holdings.namesOf(known).filter((other) => other !== name);
    return {
      name,
      uid: known,
      ranges: [],
      exists: uid !== undefined,
      // A name that somebody has is his, whatever uid was his before.
      names: [name, ...others.filter((other) => machine.accounts.get(other)?.uid === undefined)],
      formerUids: remembered.filter((one) => one !== known),
    };
  },

  holders: (machine, holdings) =>
    holdings.owners.toSorted().flatMap((name): Holder[] => {
      const holder = macos.holder(machine, holdings, name);
      return holder === undefined ? [] : [holder];
    }),

  leftOver: (_machine, holdings) => holdings.unowned,
  backend: () => "iptables",
  refuse: (machine, _holdings, lock) => refuse(machine, lock),
  notes: (machine, { name }) => notes(machine, name),
  faults: () => [],

  // There are no subordinate uids.
  loop: () => "",
  verifyAfter,
  doors: () => Promise.resolve([]),

  async whyAsk(ask, name) {
    const { stdout } = await ask(["sudo", "-n", "-l", "-U", name]);
    return /\bmay run the following commands\b/.test(stdout) ? "it may use sudo" : undefined;
  },

  firstOrdinaryUid: 500,
  hasBackends: false,
  notCovered: NOT_COVERED,
};

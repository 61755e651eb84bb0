/**
 * `status`: one session that reads and changes nothing.
 *
 * @module
 */
import type { System } from "../system.ts";
import { unreadable } from "../root.ts";
import type { Session } from "../sudo.ts";
import { sightOf, statusIn, unknownStatus } from "./status.ts";
import type { AccountStatus, StatusReport, Warning } from "./report.ts";
import { isHeld, lostAtReboot } from "./warnings.ts";

/**
 * What is in force for the accounts, and what they could do all the same; for none, for every
 * account that anything of a lock is there for.
 *
 * @throws {FishnetError} for an account that neither exists nor has anything of a lock.
 */
export async function readStatus<M>(
  system: System<M>,
  names: readonly string[],
  opening: Promise<Session>,
): Promise<{ report: StatusReport; warnings: Warning[] }> {
  try {
    await using session = await opening;
    const machine = await system.read(session, names);
    const sight = sightOf(system, machine);
    const report = statusIn(sight, names);
    const held = report.accounts.filter(isHeld);
    const exists = ({ name }: AccountStatus) =>
      system.holder(machine, sight.holdings, name)?.exists ?? false;
    const doors = await system.doors?.(session, machine, held, false) ?? [];
    const all = report.accounts.map(({ name }) => name);
    const recorded = await system.recorded?.(session.ask, machine, all);
    const accounts = report.accounts.map((account) => {
      const note = recorded?.get(account.name);
      return note === undefined ? account : { ...account, notes: [...account.notes ?? [], note] };
    });
    return {
      report: { ...report, accounts },
      warnings: [
        ...lostAtReboot(held.filter(exists)),
        ...doors,
      ],
    };
  } catch (error) {
    return { report: unknownStatus(names, unreadable(error)), warnings: [] };
  }
}

/** Placeholder. */
import type { AccountStatus } from "../lock/status.ts";
import type { Warning } from "../lock/warnings.ts";
import type { Ask } from "../sudo.ts";
import type { Machine } from "./machine.ts";

/** None yet. */
export function sideDoors(
  _ask: Ask,
  _machine: Machine,
  _accounts: readonly AccountStatus[],
): Promise<Warning[]> {
  return Promise.resolve([]);
}

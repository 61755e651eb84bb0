/** Warnings on Linux. @module */
import type { AccountStatus } from "../status.ts";
import type { Warning } from "../warnings.ts";

export function linuxWarnings(_accounts: readonly AccountStatus[]): Promise<Warning[]> {
  return Promise.resolve([]);
}

/** What is in force on Linux. @module */
import type { AccountStatus } from "../status.ts";

export function linuxStatus(_names: readonly string[]): Promise<AccountStatus[]> {
  throw new Error("not there yet");
}

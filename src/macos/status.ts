/** What is in force on macOS. @module */
import { type AccountStatus, UnreadableError } from "../status.ts";

/** @throws {UnreadableError} until pf is read. */
export function macosStatus(_names: readonly string[]): Promise<AccountStatus[]> {
  throw new UnreadableError("pf's state cannot be read yet");
}

/**
 * Files of ours: written whole or not at all, and read back as they are.
 *
 * @module
 */
import { feed, printed, sudo } from "./line.ts";
import type { Step } from "./piece.ts";

/**
 * Writes a file: beside its place, to the disk, then into it. A file that was there comes back by
 * the undo, with its text.
 *
 * @param text without single quotes or backslashes; echo adds its last newline
 * @param before the text that is there now, if any, as it is
 */
export function writeFile(path: string, text: string, why: string, before?: string): Step {
  return {
    line: `${feed(text, "tee", `${path}.new`)} >/dev/null && ${sudo("sync", `${path}.new`)} && ` +
      sudo("mv", `${path}.new`, path),
    why,
    undo: [sudo("rm", "-f", `${path}.new`), "", restoreFile(path, before)],
  };
}

/** Removes a file; the undo puts its text back. */
export function removeFile(path: string, text: string, why: string): Step {
  return { line: sudo("rm", path), why, undo: [restoreFile(path, text)] };
}

/** The line that puts a text back, whatever it holds; without one, there was no file. */
export function restoreFile(path: string, text: string | undefined): string {
  return text === undefined
    ? sudo("rm", "-f", path)
    : `${printed(text)} | ${sudo("tee", path)} >/dev/null`;
}

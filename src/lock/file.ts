/**
 * Files of ours: written whole or not at all, and read back as they are.
 *
 * @module
 */
import { feed, printed, sudo } from "./line.ts";
import type { Step } from "./piece.ts";

/**
 * Writes a file: beside its place, to the disk, then into it.
 *
 * @param text without single quotes or backslashes; echo adds its last newline
 * @param back the line that puts back what is there now, as {@link restoreFile} gives it
 */
export function writeFile(path: string, text: string, why: string, back: string): Step[] {
  const beside = `${path}.new`;
  return [
    { line: `${feed(text, "tee", beside)} >/dev/null`, why, undo: [sudo("rm", "-f", beside)] },
    { line: sudo("sync", beside), why: "so that a power cut leaves it whole", undo: [""] },
    { line: sudo("mv", beside, path), why: "into its place, at once", undo: [back] },
  ];
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

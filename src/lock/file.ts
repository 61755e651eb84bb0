/** Files of ours: written whole or not at all, and read back as they are. */
import { feed, printed, sudo } from "../line.ts";
import type { Step } from "./piece.ts";

/**
 * Writes a file: beside its place, to the disk, then into it.
 *
 * @param text without single quotes or backslashes; echo adds its last newline
 * @param there what it holds now; `back` is the line that puts something else in its place
 */
export function writeFile(
  path: string,
  text: string,
  why: string,
  there: string | undefined,
  { mode, back = restoreFile(path, there, mode) }: { mode?: string; back?: string } = {},
): Step[] {
  const beside = `${path}.new`;
  return [
    {
      line: `${feed(text, ...writing(beside, mode))} >/dev/null`,
      why,
      undo: [sudo("rm", "-f", beside)],
    },
    { line: sudo("sync", beside), why: "so that a power cut leaves it whole", undo: [""] },
    { line: sudo("mv", beside, path), why: "into its place, at once", undo: [back] },
  ];
}

/** Removes a file; the undo puts its text back. */
export function removeFile(path: string, text: string, why: string, mode?: string): Step {
  return { line: sudo("rm", path), why, undo: [restoreFile(path, text, mode)] };
}

/** The line that puts a text back, whatever it holds; without one, there was no file. */
export function restoreFile(path: string, text: string | undefined, mode?: string): string {
  return text === undefined
    ? sudo("rm", "-f", path)
    : `${printed(text)} | ${sudo(...writing(path, mode))} >/dev/null`;
}

const writing = (path: string, mode: string | undefined) =>
  mode === undefined ? ["tee", path] : ["install", "-m", mode, "/dev/stdin", path];

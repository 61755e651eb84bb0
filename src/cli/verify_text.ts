/**
 * A verification as a person reads it: a line for each try.
 *
 * @module
 */
import { bold, dim, green, red, yellow } from "@std/fmt/colors";
import type { Verdict, Verification } from "../verify.ts";

const MARKS: Readonly<Record<Verdict, string>> = {
  proven: "ok",
  failed: "FAILED",
  inconclusive: "inconclusive",
  note: "note",
};

const PAINT: Readonly<Record<Verdict, (text: string) => string>> = {
  proven: green,
  failed: red,
  inconclusive: yellow,
  note: dim,
};

const WIDTH = Math.max(...Object.values(MARKS).map((mark) => mark.length));

/** The lines of a verification; they carry colours unless those are switched off. */
export function verifyLines({ name, state, proven, tries }: Verification): string[] {
  return [
    ...tries.map(({ what, expected, verdict, did }) =>
      `${PAINT[verdict](MARKS[verdict].padEnd(WIDTH))}  ${what}: should be ${expected}; ${did}`
    ),
    `${bold(name)}: ${proven ? green("locked, and proven") : red(`not proven`)} ` +
    `(status says ${state})`,
  ];
}

/**
 * The one module that prints: results to stdout, diagnostics to stderr.
 *
 * @module
 */
import { bold, dim, red, setColorEnabled, yellow } from "@std/fmt/colors";
import { mostUrgentFirst } from "../lock/warnings.ts";
import { indented, type Width, wrap } from "./layout.ts";
import { LIMITS_HINT, warningText } from "./outcome_text.ts";
import type { Warning } from "../lock/report.ts";
import type { Action, Step } from "../lock/piece.ts";
import { json } from "../shown.ts";

/** The dry-run, to the letter of the reference page; pasted into a shell it does what it says. */
export function printDryRun(
  action: Action,
  plan: readonly Pick<Step, "line" | "why">[],
  explain: boolean,
): void {
  printLines(() => [
    bold(`Firewall ${action}: dry-run`),
    ...plan.flatMap(({ line, why }) => [
      ...(explain ? [dim(`  # ${why}`)] : []),
      ...indented(line),
    ]),
    "Re-run with --apply (or --apply-system) to execute.",
  ]);
}

/**
 * A command as it runs, and before it why, where that is wanted. A text in it is marked where it
 * begins alone: so it can be copied.
 */
export function printCommand(line: string, why?: string): void {
  const lines = line.split("\n").map(visible).join("\n");
  say([...(why === undefined ? [] : [visible(`# ${why}`)]), lines]);
}

/** What a step waits for, at once and not when it is over. */
export function printWaiting(text: string): void {
  say(wrapped(`waiting: ${visible(text)}`));
}

/** What came of it: standard output has nothing but the reference page's lines. */
export function printOutcome(lines: readonly string[]): void {
  say(lines.flatMap(wrapped));
}

/** Results; their lines are made when width is known, and whether colours are wanted. */
export function printLines(lines: (width: Width) => readonly string[]): void {
  colourFor(Deno.stdout);
  write(Deno.stdout, lines(widthOf(Deno.stdout)));
}

/** One JSON document. Of its format's version a minor one adds, a major one breaks. */
export function printJson(document: Readonly<Record<string, unknown>>): void {
  write(Deno.stdout, [json({ formatVersion: "1.0", ...document }, 2)]);
}

/** An error, as the reference page prints it; what a command said stays as that command said it. */
export function printError(message: string): void {
  const [first, ...more] = message.split("\n").map(visible);
  colourFor(Deno.stderr);
  const prefix = red("[fishnet]");
  const lines = /\bsudo \S+ -/.test(first!)
    ? [`${prefix} ${first}`]
    : wrap(`${prefix} ${first}`, widthOf(Deno.stderr), INDENT);
  write(Deno.stderr, [...lines, ...more]);
}

/** What an administrator should know, the most urgent first, and where the rest is said. */
export function printWarnings(
  warnings: readonly Warning[],
  notCovered: readonly string[],
): void {
  colourFor(Deno.stderr);
  const prefix = yellow("[fishnet] warning:");
  const lines = mostUrgentFirst(warnings).flatMap((warning) =>
    wrap(`${prefix} ${warningText(warning)}`, widthOf(Deno.stderr), INDENT)
  );
  write(Deno.stderr, lines);
  if (notCovered.length > 0) say(wrapped(LIMITS_HINT));
}

/** How far the lines after the first stand in. */
const INDENT = 2;

/** Lines on standard error, marked as the program's own. */
function say(lines: readonly string[]): void {
  colourFor(Deno.stderr);
  write(Deno.stderr, lines.map((line) => `${dim("[fishnet]")} ${line}`));
}

/** A sentence in lines that leave room for the mark before them. */
function wrapped(text: string): string[] {
  const width = widthOf(Deno.stderr);
  return wrap(text, width === undefined ? undefined : width - "[fishnet] ".length, INDENT);
}

/** Shows what a terminal obeys instead of sending it: a bad name, or a rule, may hold anything. */
function visible(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) =>
      character === "\t"
        ? character
        : `\\x${character.codePointAt(0)!.toString(16).padStart(2, "0")}`,
  );
}

/** Columns below which words can't be kept whole; a terminal that doesn't know its width says 0. */
const MIN_WIDTH = 20;

/** The width that lines are to have: undefined where nobody looks. */
function widthOf(to: typeof Deno.stdout): Width {
  if (!to.isTerminal()) return undefined;
  const { columns } = Deno.consoleSize();
  return columns < MIN_WIDTH ? undefined : columns;
}

/** Colours only where a person looks, and never with NO_COLOR, which Deno has read for us. */
function colourFor(to: typeof Deno.stdout): void {
  setColorEnabled(to.isTerminal() && !Deno.noColor);
}

let lost = false;
let gone = false;

/** Whether nobody reads standard output any more. */
export function isUnread(): boolean {
  return gone;
}

/** Whether something could not be printed, to a full disk, say: then the exit code is not 0. */
export function isIncomplete(): boolean {
  return lost;
}

/**
 * A reader that has gone (`| head -1`) is no error: there is nobody left to tell. What cannot be
 * printed for any other reason stops nothing either, least of all an apply half-way.
 */
function write(to: typeof Deno.stdout, lines: readonly string[]): void {
  const bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(""));
  try {
    for (let sent = 0; sent < bytes.length;) sent += to.writeSync(bytes.subarray(sent));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) {
      gone ||= to === Deno.stdout;
      return;
    }
    const first = !lost;
    lost = true;
    if (first && to !== Deno.stderr && error instanceof Error) {
      printError(`could not print to standard output, and went on: ${error.message}`);
    }
  }
}

/** The one module that prints: results to stdout, diagnostics to stderr. */
import { bold, dim, red, setColorEnabled, yellow } from "@std/fmt/colors";
import { indented, type Width, wrap } from "./layout.ts";
import { LIMITS_HINT, warningTexts } from "./outcome_text.ts";
import type { Warning } from "../lock/report.ts";
import type { Action, Step } from "../lock/piece.ts";
import { json } from "../shown.ts";

/** The dry-run, to the letter of the reference page; pasted into a shell it does what it says. */
export function printDryRun(
  action: Action,
  plan: readonly Pick<Step, "line" | "why">[],
  explain: boolean,
): void {
  printLines((width) => [
    bold(`Firewall ${action}: dry-run`),
    ...plan.flatMap(({ line, why }) => [
      ...(explain ? reasons(why, width, "  # ").map(dim) : []),
      ...indented(line),
    ]),
    "Re-run with --apply (or --apply-system) to execute.",
  ]);
}

/** A command as it runs, and why, where that is wanted; a text in it can be copied. */
export function printCommand(line: string, why?: string): void {
  const lines = line.split("\n").map(visible).join("\n");
  say((width) => [...(why === undefined ? [] : reasons(visible(why), width, "# ")), lines]);
}

/** Columns of a comment that nobody has to scroll for. */
const COMMENT = 100;

/** Why a command is there, which may be for several reasons: each begins a line of its own. */
function reasons(why: string, width: Width = COMMENT, mark: string): string[] {
  const left = Math.min(width, COMMENT) - mark.length;
  return why.split("; ").flatMap((one) => wrap(one, left)).map((line) => mark + line);
}

/** What a step waits for, at once and not when it is over. */
export function printWaiting(text: string): void {
  printOutcome([`waiting: ${visible(text)}`]);
}

/** What came of it: standard output has nothing but the reference page's lines. */
export function printOutcome(lines: readonly string[]): void {
  say((width) => lines.flatMap((line) => wrap(line, width, INDENT)));
}

/** Results; their lines are made when width is known, and whether colours are wanted. */
export function printLines(lines: (width: Width) => readonly string[]): void {
  print(Deno.stdout, lines);
}

/** One JSON document. Of its format's version a minor one adds, a major one breaks. */
export function printJson(document: Readonly<Record<string, unknown>>): void {
  print(Deno.stdout, () => [json({ formatVersion: "1.0", ...document }, 2)]);
}

/** An error, as the reference page prints it; what a command said stays as that command said it. */
export function printError(message: string): void {
  const [first, ...more] = message.split("\n").map(visible);
  print(Deno.stderr, (width) => {
    const line = `${red("[fishnet]")} ${first}`;
    return [...wrap(line, /\bsudo \S+ -/.test(first!) ? undefined : width, INDENT), ...more];
  });
}

/** What an administrator should know, the most urgent first, and where the rest is said. */
export function printWarnings(warnings: readonly Warning[], notCovered: readonly string[]): void {
  print(Deno.stderr, (width) => {
    const texts = warningTexts(warnings).map((text) => `${yellow("[fishnet] warning:")} ${text}`);
    return texts.flatMap((text) => wrap(text, width, INDENT));
  });
  if (notCovered.length > 0) printOutcome([LIMITS_HINT]);
}

const INDENT = 2;

/** Lines on standard error, marked as the program's own; the mark takes a part of the width. */
function say(lines: (width: Width) => readonly string[]): void {
  print(Deno.stderr, (width) => {
    const left = width === undefined ? undefined : width - "[fishnet] ".length;
    return lines(left).map((line) => `${dim("[fishnet]")} ${line}`);
  });
}

/** Shows what a terminal obeys instead of sending it: a bad name, or a rule, may hold anything. */
function visible(text: string): string {
  return text.replace(
    /(?!\t)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\x${character.codePointAt(0)!.toString(16).padStart(2, "0")}`,
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

/** Whether nobody reads standard output any more. */
export let isUnread = false;

/** Whether something could not be printed, to a full disk, say: then the exit code is not 0. */
export let isIncomplete = false;

/**
 * Prints, with colours only where a person looks, and never with NO_COLOR, which Deno has read.
 * A reader that has gone (`| head -1`) is no error: there is nobody left to tell. What cannot be
 * printed for any other reason stops nothing either, least of all an apply half-way.
 */
function print(to: typeof Deno.stdout, linesOf: (width: Width) => readonly string[]): void {
  setColorEnabled(to.isTerminal() && !Deno.noColor);
  const lines = linesOf(widthOf(to));
  const bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(""));
  try {
    for (let sent = 0; sent < bytes.length;) sent += to.writeSync(bytes.subarray(sent));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) isUnread ||= to === Deno.stdout;
    else if (!isIncomplete) {
      isIncomplete = true;
      if (to === Deno.stderr || !(error instanceof Error)) return;
      printError(`could not print to standard output, and went on: ${error.message}`);
    }
  }
}

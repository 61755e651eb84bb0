/**
 * The one module that prints: results to stdout, diagnostics to stderr.
 *
 * @module
 */
import { bold, dim, red, setColorEnabled, yellow } from "@std/fmt/colors";
import { lineOf, type Step } from "../plan.ts";
import type { Warning } from "../warnings.ts";

/** The version of every JSON document: minor versions add, a major one breaks. */
export const JSON_FORMAT_VERSION = "1.0";

/** `enable` or `disable`, as the reference page prints it. */
export type Action = "enable" | "disable";

/** The dry-run, to the letter of the reference page. */
export function printDryRun(action: Action, steps: readonly Step[], explain: boolean): void {
  const lines = steps.flatMap((step) => [
    ...(explain ? [colour(`  # ${step.why}`, dim)] : []),
    `  ${lineOf(step)}`,
  ]);
  print([
    colour(`Firewall ${action}: dry-run`, bold),
    ...lines,
    "Re-run with --apply (or --apply-system) to execute.",
  ]);
}

/** The line before a plan is executed. */
export function printApplying(action: Action, count: number): void {
  print([`Firewall ${action}: applying ${count} command(s)`]);
}

/** The line after a plan was executed. */
export function printComplete(action: Action): void {
  print([`Firewall ${action}: complete.`]);
}

/** A text that is printed as it is. */
export function printText(text: string): void {
  write(Deno.stdout, text);
}

/** Lines for a person; they are made when it is known whether colours are wanted. */
export function printLines(lines: () => readonly string[]): void {
  setColorEnabled(Deno.stdout.isTerminal() && !Deno.noColor);
  print(lines().map((line) => line.replace(CONTROLS_BUT_COLOURS, escaped)));
}

/** One JSON document. */
export function printJson(document: Readonly<Record<string, unknown>>): void {
  write(
    Deno.stdout,
    JSON.stringify({ formatVersion: JSON_FORMAT_VERSION, ...document }, null, 2) + "\n",
  );
}

/** An error, as the reference page prints it. */
export function printError(message: string): void {
  write(Deno.stderr, `${colour("[fishnet]", red, Deno.stderr)} ${withoutControls(message)}\n`);
}

/** What an administrator should know, a line each, and what is never covered, in one. */
export function printWarnings(
  warnings: readonly Warning[],
  notCovered: readonly string[],
): void {
  for (const { account, reason, remedy } of warnings) {
    const text = [account, reason].filter((part) => part !== undefined).join(": ");
    write(
      Deno.stderr,
      `${colour("[fishnet] warning:", yellow, Deno.stderr)} ${withoutControls(text)}; ${remedy}\n`,
    );
  }
  if (notCovered.length === 0) return;
  const note = `no packet filter stops: ${notCovered.join("; ")}`;
  write(Deno.stderr, `${colour("[fishnet]", dim, Deno.stderr)} ${note}\n`);
}

/** Shows control characters instead of sending them: a bad name may hold any. */
function withoutControls(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, escaped);
}

/** The colours of lines are ours; a rule of somebody else's may hold any other control character. */
// deno-lint-ignore no-control-regex
const CONTROLS_BUT_COLOURS = /(?!\x1b\[\d{1,2}m)[\x00-\x1f\x7f-\x9f]/g;

function escaped(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

/** Shows on a terminal how far a plan is; elsewhere nothing. */
export function printProgress(step: Step, number: number, total: number): void {
  if (!Deno.stderr.isTerminal()) return;
  write(Deno.stderr, `\r\x1b[K[${number}/${total}] ${step.why.slice(0, 60)}`);
}

/** Removes the line that {@link printProgress} left. */
export function clearProgress(): void {
  if (Deno.stderr.isTerminal()) write(Deno.stderr, "\r\x1b[K");
}

function print(lines: readonly string[]): void {
  write(Deno.stdout, lines.join("\n") + "\n");
}

/** Colours only where a person looks, and never with NO_COLOR, which Deno has read for us. */
function colour(text: string, paint: (text: string) => string, to = Deno.stdout): string {
  setColorEnabled(to.isTerminal() && !Deno.noColor);
  return paint(text);
}

let lost = false;

/** Whether something could not be printed, to a full disk, say: then the exit code is not 0. */
export function isIncomplete(): boolean {
  return lost;
}

/**
 * A reader that has gone (`| head -1`) is no error: there is nobody left to tell. What cannot be
 * printed for any other reason stops nothing either, least of all an apply half-way.
 */
function write(to: typeof Deno.stdout, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let sent = 0; sent < bytes.length;) sent += to.writeSync(bytes.subarray(sent));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return;
    const first = !lost;
    lost = true;
    if (first && to !== Deno.stderr && error instanceof Error) {
      printError(`could not print to standard output, and went on: ${error.message}`);
    }
  }
}

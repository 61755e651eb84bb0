/**
 * The text of `log`: what was refused, for a person and as JSON lines.
 *
 * @module
 */
import type { Refusal } from "../linux/log.ts";
import { shown } from "../shown.ts";

/** How each layer's refusal is told. */
const HOW = { routing: "no route", filter: "packet filter" } as const;

/** Longest name of a program that is shown. */
const PROGRAM = 40;

/** A line for each refusal; equal ones in a row are one line with their count. */
export function logLines(refusals: readonly Refusal[]): string[] {
  const lines: string[] = [];
  for (let i = 0; i < refusals.length;) {
    const first = refusals[i]!;
    let end = i + 1;
    while (end < refusals.length && isSame(first, refusals[end]!)) end++;
    const { time, account, program, pid, by } = first;
    const count = end - i === 1 ? "" : ` (${end - i} times)`;
    lines.push(
      `${clock(time)}  ${shown(account)}  ${shown(program, PROGRAM)}[${pid}]  ` +
        `${destination(first)}  ${HOW[by]}${count}`,
    );
    i = end;
  }
  return lines;
}

/** A line for each destination, the most tried first. */
export function summaryLines(refusals: readonly Refusal[]): string[] {
  const groups = [...Map.groupBy(refusals, destination)]
    .toSorted(([, a], [, b]) => b.length - a.length);
  const width = `${groups[0]?.[1].length ?? ""}`.length;
  return groups.map(([where, tries]) => {
    const programs = [...new Set(tries.map(({ program }) => shown(program, PROGRAM)))];
    const more = programs.length > 3 ? ` and ${programs.length - 3} more` : "";
    return `${`${tries.length}`.padStart(width)}  ${where}  ` +
      `${programs.slice(0, 3).join(", ")}${more}  last ${clock(tries.at(-1)!.time)}`;
  });
}

/** A JSON document for each refusal, one a line. */
export function logJson(refusals: readonly Refusal[]): string[] {
  return refusals.map(({ id: _, time, ...rest }) =>
    JSON.stringify({ time: new Date(time).toISOString(), ...rest })
  );
}

/** What a person has to know of the log itself, where records were lost. */
export function lossLine(lost: number): string | undefined {
  return lost === 0
    ? undefined
    : `the kernel lost ${lost} audit records of this machine since it started: ` +
      `some refusals may be missing`;
}

function isSame(a: Refusal, b: Refusal): boolean {
  return a.account === b.account && a.program === b.program && a.pid === b.pid && a.by === b.by &&
    destination(a) === destination(b);
}

function destination({ address, port }: Refusal): string {
  if (address === undefined) return "where its socket was connected to";
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The machine's own time, to the second. */
function clock(time: number): string {
  const date = new Date(time);
  const two = (value: number) => `${value}`.padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

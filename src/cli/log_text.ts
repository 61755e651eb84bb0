/**
 * The text of `log`: what was refused, for a person and as JSON lines.
 *
 * @module
 */
import type { Refusal } from "../lock/report.ts";
import { json, shown } from "../shown.ts";

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
    const { time, account, program, pid, by, uid, realUid } = first;
    const tried = realUid === uid ? "" : `, tried by uid ${realUid}`;
    const count = end - i === 1 ? "" : ` (${end - i} times)`;
    lines.push(
      `${clock(time)}  ${shown(account)}  ${shown(program, PROGRAM)}[${pid}]  ` +
        `${destination(first)}  ${HOW[by]}${tried}${count}`,
    );
    i = end;
  }
  return lines;
}

/** How often one destination was tried. */
interface Destination {
  readonly address?: string;
  readonly port?: number;
  readonly count: number;
  readonly programs: readonly string[];
  readonly last: number;
}

function summaryOf(refusals: readonly Refusal[]): Destination[] {
  return [...Map.groupBy(refusals, destination).values()]
    .map((tries): Destination => {
      const { address, port, time } = tries.at(-1)!;
      return {
        ...(address === undefined || port === undefined ? {} : { address, port }),
        count: tries.length,
        programs: [...new Set(tries.map(({ program }) => program))],
        last: time,
      };
    })
    .toSorted((a, b) => b.count - a.count);
}

/** A line for each destination, the most tried first. */
export function summaryLines(refusals: readonly Refusal[]): string[] {
  const all = summaryOf(refusals);
  const width = `${all[0]?.count ?? ""}`.length;
  return all.map(({ count, programs, last, ...where }) => {
    const more = programs.length > 3 ? ` and ${programs.length - 3} more` : "";
    return `${`${count}`.padStart(width)}  ${destination(where)}  ` +
      `${programs.slice(0, 3).map((one) => shown(one, PROGRAM)).join(", ")}${more}  ` +
      `last ${clock(last)}`;
  });
}

/** A JSON document for each refusal, one a line. */
export function logJson(refusals: readonly Refusal[]): string[] {
  return refusals.map(({ id: _, time, ...rest }) =>
    json({ time: new Date(time).toISOString(), ...rest })
  );
}

/** A JSON document for each destination, one a line, the most tried first. */
export function summaryJson(refusals: readonly Refusal[]): string[] {
  return summaryOf(refusals).map(({ last, ...rest }) =>
    json({ ...rest, last: new Date(last).toISOString() })
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
  return a.account === b.account && a.realUid === b.realUid && a.program === b.program &&
    a.pid === b.pid && a.by === b.by &&
    destination(a) === destination(b);
}

function destination({ address, port }: Pick<Refusal, "address" | "port">): string {
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

/** The text of `log`: what was refused, for a person and as JSON lines. */
import type { Refusal } from "../lock/report.ts";
import { json, shown, someOf } from "../shown.ts";

const HOW = { routing: "no route", filter: "packet filter" } as const;

const PROGRAM = 40;

/** A line for each refusal; equal ones in a row are one line with their count. */
export function logLines(refusals: readonly Refusal[]): string[] {
  const lines: { text: string; first: string; count: number }[] = [];
  for (const refusal of refusals) {
    const { time, account, program, pid, by, uid, realUid } = refusal;
    const tried = realUid === uid ? "" : `, tried by uid ${realUid}`;
    const text = `${shown(account)}  ${shown(program, PROGRAM)}[${pid}]  ` +
      `${destination(refusal)}  ${HOW[by]}${tried}`;
    const last = lines.at(-1);
    if (last?.text === text) last.count++;
    else lines.push({ text, first: clock(new Date(time)), count: 1 });
  }
  return lines.map(({ text, first, count }) =>
    `${first}  ${text}${count === 1 ? "" : ` (${count} times)`}`
  );
}

/** How often each destination was tried, the most tried first. */
function summaryOf(refusals: readonly Refusal[]) {
  return [...Map.groupBy(refusals, destination).values()]
    .map((tries) => {
      const { address, port, time } = tries.at(-1)!;
      const programs = [...new Set(tries.map(({ program }) => program))];
      return { address, port, count: tries.length, programs, last: new Date(time) };
    })
    .toSorted((a, b) => b.count - a.count);
}

/** A line for each destination, the most tried first. */
export function summaryLines(refusals: readonly Refusal[]): string[] {
  const all = summaryOf(refusals);
  const width = `${all[0]?.count ?? ""}`.length;
  return all.map(({ count, programs, last, ...where }) => {
    const names = someOf(programs.map((one) => shown(one, PROGRAM)), 3);
    return `${`${count}`.padStart(width)}  ${destination(where)}  ${names}  last ${clock(last)}`;
  });
}

/** A JSON document for each refusal, one a line. */
export function logJson(refusals: readonly Refusal[]): string[] {
  return refusals.map(({ id: _, time, ...rest }) => json({ time: new Date(time), ...rest }));
}

/** A JSON document for each destination, one a line, the most tried first. */
export function summaryJson(refusals: readonly Refusal[]): string[] {
  return summaryOf(refusals).map((one) => json(one));
}

/** What a person has to know of the log itself, where records were lost. */
export function lossLine(lost: number): string {
  return `the kernel lost ${lost} audit records of this machine since it started: ` +
    `some refusals may be missing`;
}

function destination(
  { address, port }: { address?: string | undefined; port?: number | undefined },
) {
  if (address === undefined) return "where its socket was connected to";
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The machine's own time, to the second; Swedish has the form of ISO 8601. */
const clock = (time: Date) => time.toLocaleString("sv");

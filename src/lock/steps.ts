/**
 * How a plan's commands become fewer: those that one call of their tool can carry out together.
 *
 * @module
 */
import { feed } from "./line.ts";
import type { Step } from "./piece.ts";

/** The same commands, those in a row that can be one joined; the undo of many goes backwards. */
export function joined(steps: readonly Step[]): Step[] {
  const wordsOf = ({ batch }: Step) => batch?.words.join(" ");
  const rows: Step[][] = [];
  for (const step of steps) {
    const row = rows.at(-1);
    if (step.batch !== undefined && row !== undefined && wordsOf(row[0]!) === wordsOf(step)) {
      row.push(step);
    } else rows.push([step]);
  }
  return rows.map((row) => {
    const first = row[0]!;
    if (row.length === 1) return first;
    const batches = row.map(({ batch }) => batch!);
    const { words } = first.batch!;
    return {
      line: feed(batches.map(({ text }) => text).join("\n"), ...words),
      why: [...new Set(row.map(({ why }) => why))].join("; "),
      undo: [feed(batches.map(({ undo }) => undo).toReversed().join("\n"), ...words)],
    };
  });
}

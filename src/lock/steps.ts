/**
 * How a plan's commands become fewer: those that one call of their tool can carry out together.
 *
 * @module
 */
import { feed } from "./line.ts";
import type { Step } from "./piece.ts";

/** The same commands, those in a row that can be one joined; the undo of many goes backwards. */
export function joined(steps: readonly Step[]): Step[] {
  const result: Step[] = [];
  for (let i = 0; i < steps.length;) {
    const { batch, why } = steps[i]!;
    let end = i + 1;
    const same = (step: Step | undefined) =>
      batch !== undefined && step?.batch?.words.join(" ") === batch.words.join(" ");
    while (same(steps[end])) end++;
    const run = steps.slice(i, end);
    if (batch === undefined || run.length === 1) result.push(...run);
    else {
      const texts = run.map((step) => step.batch!.text);
      const undos = run.map((step) => step.batch!.undo).toReversed();
      const whys = [...new Set(run.map((step) => step.why))];
      result.push({
        line: feed(texts.join("\n"), ...batch.words),
        why: whys.length === 1 ? why : whys.join("; "),
        undo: [feed(undos.join("\n"), ...batch.words)],
      });
    }
    i = end;
  }
  return result;
}

/**
 * A plan is a list of steps, and a step is one line of shell. What the dry-run
 * prints and what `--apply` executes is that same line.
 *
 * @module
 */

/** One line of shell: what it runs, why it is there, and how it is undone. */
export interface Step {
  /**
   * One `sudo` command that succeeds only when there is nothing left to do. It
   * stands before the real one: `CHECK 2>/dev/null || RUN`.
   */
  readonly check?: string;
  /**
   * The command that does it, all of it or nothing. One without a `check` goes
   * through a list: it prints each thing before it changes it, a line each, and
   * nothing else.
   */
  readonly run: string;
  /** One short clause for `--explain`, for `--json`, and for an auditor. */
  readonly why: string;
  /** The lines that take back what `run` did, and nothing that was there before it. */
  readonly undo?: readonly string[];
  /**
   * Instead of `undo`, for a step that goes through a list: the line that takes
   * back what `run` printed, which is appended to it, last first, an argument
   * each. The last thing printed may not have been changed yet.
   */
  readonly undoEach?: string;
}

/** One thing that a lock takes, and the line that lets it go, whoever took it. */
export interface Hold {
  /** None for what this lock does not take, but an earlier one with other options may have. */
  readonly take?: Step;
  /** None where the hold before it lets go of this one too. */
  readonly release?: Omit<Step, "undo">;
}

/** The line of shell that a step is, to the letter. */
export function lineOf(step: Step): string {
  return step.check === undefined ? step.run : `${step.check} 2>/dev/null || ${step.run}`;
}

/** The lines that undo a step, which printed the things that it changed. */
export function undoOf(step: Step, printed: readonly string[] = []): readonly string[] {
  if (step.undoEach === undefined) return step.undo ?? [];
  return [[step.undoEach, ...printed.toReversed().map((thing) => `'${thing}'`)].join(" ")];
}

/** Takes every hold in order. Accounts may share a hold (a table, say): it is taken once. */
export function enableSteps(holds: readonly Hold[]): Step[] {
  return distinct(holds.flatMap(({ take }) => take === undefined ? [] : [take]));
}

/** Lets go of every hold, last taken first; undoing that takes them again, or says how itself. */
export function disableSteps(holds: readonly Hold[]): Step[] {
  const steps: Step[] = [];
  let retake: string[] = [];
  for (const { take, release } of holds.toReversed()) {
    if (take !== undefined) retake = [lineOf(take), ...retake];
    if (release === undefined) continue;
    const knowsItsUndo = release.undoEach !== undefined || retake.length === 0;
    steps.push(knowsItsUndo ? release : { ...release, undo: retake });
    retake = [];
  }
  return distinct(steps.toReversed()).toReversed();
}

/** Each line once, where it first stands. */
function distinct(steps: readonly Step[]): Step[] {
  const seen = new Set<string>();
  return steps.filter((step) => {
    const line = lineOf(step);
    return !seen.has(line) && seen.add(line);
  });
}

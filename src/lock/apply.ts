/** Carries a plan out, all or nothing: a failure or signal undoes what was changed, last first. */
import { FishnetError } from "../errors.ts";
import type { SignalTrap } from "../signals.ts";
import { unreadable } from "../root.ts";
import type { Session, StepResult } from "../sudo.ts";
import type { Found, Step } from "./piece.ts";
import { printRange } from "./uid_range.ts";

/** How a run is watched from outside. */
export interface Watcher {
  /** Another run holds the lock: this one waits. */
  onWaiting(): void;
  /** Called once, when the plan is known and before its first command. */
  onPlan(steps: readonly Step[]): void;
  onStep(step: Step): void;
  /** Called when a command has taken {@link LONG} milliseconds, and goes on. */
  onLong(step: Step): void;
}

/** Milliseconds after which a person wants to know that something still goes on. */
const LONG = 2000;

/** What a run works on. */
export interface Run {
  readonly session: Session;
  readonly signals: SignalTrap;
  /** What was there before the first command. */
  readonly before: readonly Found[];
  readonly look: () => Promise<readonly Found[]>;
}

/** Runs commands; the caller commits. @throws {FishnetError} for what failed, and what is left. */
export async function carryOut(
  steps: readonly Step[],
  run: Run,
  watcher: Pick<Watcher, "onStep" | "onLong">,
): Promise<void> {
  for (const [i, step] of steps.entries()) {
    watcher.onStep(step);
    const timer = setTimeout(() => watcher.onLong(step), LONG);
    const result = await run.session.perform(step)
      .catch(async (error) => {
        throw await rolledBack(run, unreadable(error));
      })
      .finally(() => clearTimeout(timer));
    if (result.exitCode !== 0) {
      await noteWhatWasDone(step, result, run, steps.slice(0, i));
      if (result.exitCode > 128) await run.signals.heard();
      throw await rolledBack(run, run.signals.caught ?? failureOf(step, result));
    }
    if (run.signals.caught !== undefined) throw await rolledBack(run, run.signals.caught);
  }
}

/** Undoes all, and makes the error that tells what happened and what is left. */
export async function rolledBack(
  { session, before, look }: Run,
  failure: string,
): Promise<FishnetError> {
  const stuck = await session.takeBack();
  const difference = await look().then(
    (after) => differenceOf(before, after),
    (error) => [`what is there now could not be read: ${unreadable(error)}`],
  );
  const advice = stuck.length === 0 ? [] : [
    "this could not be undone; when the cause is gone, run:",
    ...stuck.map((one) => `  ${one}`),
  ];
  const left = [...advice, ...difference];
  return new FishnetError([failure, ...left.length > 0 ? left : [NOTHING_CHANGED]].join("\n"));
}

/** What an error says where the machine is as it was. */
export const NOTHING_CHANGED = "nothing was changed";

/** What failed may be done all the same: where its undo could do harm, what is there is counted. */
async function noteWhatWasDone(
  { counts }: Step,
  { undoOfFailed }: StepResult,
  { session, before, look }: Run,
  done: readonly Step[],
): Promise<void> {
  if (undoOfFailed === "") return;
  if (counts !== undefined) {
    const count = (pieces: readonly Pick<Found, "is" | "uids" | "fault">[]) =>
      pieces.filter((piece) => keyOf(piece) === keyOf(counts) && !(counts.sound && piece.fault))
        .length;
    // What this run did before is known; the rest of the change is this command's.
    const others = count(done.flatMap((step) => step.counts ?? []));
    // Where nobody knows, what is left is told, and nothing is taken away that may be another's.
    const after = await look().catch((error) => void unreadable(error));
    if (after === undefined || Math.abs(count(after) - count(before)) === others) return;
  }
  await session.noteChange(undoOfFailed);
}

/** A text is no part of an error: then the words of the one command in it say what failed. */
function failureOf({ line }: Step, { exitCode, stdout, stderr, failed }: StepResult): string {
  const command = line.includes("\n") ? failed : line;
  const said = (stderr.trim() || stdout.trim()).slice(0, 2000);
  const why = [137, 142].includes(exitCode) ? "it took too long, and was ended" : said;
  return `command failed (exit status ${exitCode}): ${command}${why === "" ? "" : `\n${why}`}`;
}

const keyOf = ({ is, uids }: Pick<Found, "is" | "uids">) =>
  `${is} ${uids === undefined ? "" : printRange(uids)}`;

/** What is there and was not, and what was there and is not. */
function differenceOf(before: readonly Found[], after: readonly Found[]): string[] {
  const nameOf = (piece: Found) =>
    `${keyOf(piece)}${piece.fault === undefined ? "" : ` (${piece.fault})`}`;
  const [old, now] = [Map.groupBy(before, nameOf), Map.groupBy(after, nameOf)];
  const more = (ones: typeof old, others: typeof old) =>
    [...ones.keys()].filter((name) => ones.get(name)!.length > (others.get(name)?.length ?? 0));
  return [
    ...more(now, old).map((name) => `this is left: ${name}`),
    ...more(old, now).map((name) => `this is gone: ${name}`),
  ];
}

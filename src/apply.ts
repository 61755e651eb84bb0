/**
 * Carries a plan out, all or nothing: a step that fails, or a signal, undoes
 * what this run changed, last change first.
 *
 * @module
 */
import { FishnetError } from "./errors.ts";
import { lineOf, type Step, undoOf } from "./plan.ts";
import { type LineResult, lockOutOtherRuns, runLine } from "./sudo.ts";

/** How a run is watched from outside. */
export interface Watcher {
  /** Called once, when the plan is known and before its first step. */
  onPlan(steps: readonly Step[]): void;
  /** Called before each step, counted from 1. */
  onStep(step: Step, number: number, total: number): void;
}

/**
 * Makes a plan and runs its steps in order, alone on this machine, and says how
 * many of them found something to do. The plan is made when no other run can
 * change any more what it depends on.
 *
 * @throws {FishnetError} that names the command that failed and what is left, if anything is; and
 * whatever `plan` throws.
 */
export async function applyPlan(
  plan: () => Promise<readonly Step[]>,
  watcher: Watcher,
): Promise<number> {
  using signals = new SignalTrap();
  const unlock = await lockOutOtherRuns(signals.stopped);
  try {
    const steps = signals.caught === undefined ? await plan() : [];
    if (signals.caught !== undefined) throw await rolledBack([], signals.caught);
    watcher.onPlan(steps);
    return await runSteps(steps, watcher, signals);
  } finally {
    await unlock();
  }
}

async function runSteps(
  steps: readonly Step[],
  watcher: Watcher,
  signals: SignalTrap,
): Promise<number> {
  const changes: Change[] = [];
  for (const [index, step] of steps.entries()) {
    watcher.onStep(step, index + 1, steps.length);
    const result = await runLine(lineOf(step));
    if (await changedSomething(step, result)) changes.push(changeOf(step, result));
    if (result.exitCode !== 0) {
      if (result.exitCode > 128) await signals.heard();
      throw await rolledBack(changes, signals.caught ?? failureOf(step, result));
    }
    if (signals.caught !== undefined) throw await rolledBack(changes, signals.caught);
  }
  return changes.length;
}

/** A step that changed something, and the lines that take exactly that back. */
interface Change {
  readonly step: Step;
  /** Undefined where it stays. */
  readonly undo: readonly string[] | undefined;
}

/**
 * Whether a step changed something, by the contract in `plan.ts`. A command that was killed may
 * have done its work all the same: then the check tells.
 */
async function changedSomething(step: Step, result: LineResult): Promise<boolean> {
  if (step.check === undefined) return result.stdout.trim() !== "";
  if (result.sudoCodes[0] === 0) return false;
  return result.exitCode === 0 || (await runLine(step.check)).exitCode === 0;
}

function changeOf(step: Step, { stdout }: LineResult): Change {
  const stays = step.undo === undefined && step.undoEach === undefined;
  return { step, undo: stays ? undefined : undoOf(step, stdout.trim().split("\n")) };
}

function failureOf({ run }: Step, { exitCode, stderr }: LineResult): string {
  const said = stderr.trim();
  return `command failed (exit status ${exitCode}): ${run}${said === "" ? "" : `\n${said}`}`;
}

/** Undoes what was done, last first, and makes the error that tells what happened and what is left. */
async function rolledBack(changes: readonly Change[], failure: string): Promise<FishnetError> {
  const left: string[] = [];
  const stuck: string[] = [];
  for (const { step, undo } of changes.toReversed()) {
    if (undo === undefined) left.push(`this stays done: ${step.why}`);
    for (const line of undo ?? []) {
      if ((await runLine(line)).exitCode !== 0) stuck.push(`  ${line}`);
    }
  }
  if (stuck.length > 0) {
    left.push("this could not be undone; when the cause is gone, run:", ...stuck);
  }
  return new FishnetError([failure, ...(left.length > 0 ? left : [NOTHING_CHANGED])].join("\n"));
}

const NOTHING_CHANGED = "nothing was changed";

/** Notes the first signal that asks the program to stop, instead of dying of it half-way. */
class SignalTrap implements Disposable {
  static readonly #signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  readonly #stopped = Promise.withResolvers<void>();
  readonly #listeners = SignalTrap.#signals.map((signal) => ({
    signal,
    listener: () => {
      this.caught ??= `stopped by ${signal}`;
      this.#stopped.resolve();
    },
  }));
  /** What happened, once there was a signal. */
  caught: string | undefined;
  /** Resolves with the first signal. */
  readonly stopped: Promise<void> = this.#stopped.promise;

  /**
   * Waits a moment for a signal. Ctrl-C goes to the whole terminal, and a command that died of it
   * may be known before it is heard here.
   */
  async heard(): Promise<void> {
    await Promise.race([this.stopped, new Promise((resolve) => setTimeout(resolve, 500))]);
  }

  constructor() {
    for (const { signal, listener } of this.#listeners) Deno.addSignalListener(signal, listener);
  }

  [Symbol.dispose](): void {
    for (const { signal, listener } of this.#listeners) Deno.removeSignalListener(signal, listener);
  }
}

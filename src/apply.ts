/**
 * Carries a plan out, all or nothing: a step that fails, or a signal, undoes
 * what this run changed, last change first.
 *
 * @module
 */
import { FishnetError } from "./errors.ts";
import { lineOf, type Step } from "./plan.ts";
import { type LineResult, lockOutOtherRuns, runLine } from "./sudo.ts";

/** How a run is watched from outside. */
export interface Watcher {
  /** Called before each step, counted from 1. */
  onStep(step: Step, number: number, total: number): void;
}

/**
 * Runs the steps in order, alone on this machine, and says how many of them
 * found something to do.
 *
 * @throws {FishnetError} that names the command that failed and what is left, if anything is.
 */
export async function applySteps(steps: readonly Step[], watcher: Watcher): Promise<number> {
  using signals = new SignalTrap();
  const unlock = await lockOutOtherRuns();
  try {
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
  const changed: Step[] = [];
  const kept: Step[] = [];
  let tookBase = false;
  for (const [index, step] of steps.entries()) {
    watcher.onStep(step, index + 1, steps.length);
    const result = await runLine(lineOf(step));
    const changedNow = changedSomething(step, result);
    if (!step.extends) tookBase = changedNow;
    if (changedNow) (step.undo === undefined || !tookBase ? kept : changed).push(step);
    if (result.exitCode !== 0) throw await rolledBack(changed, kept, failureOf(step, result));
    if (signals.caught !== undefined) {
      throw await rolledBack(changed, kept, `stopped by ${signals.caught}`);
    }
  }
  return changed.length + kept.length;
}

/** Whether a step changed something, by the contract in `plan.ts`. */
function changedSomething(step: Step, { exitCode, stdout, sudoCodes }: LineResult): boolean {
  if (step.check === undefined) return stdout.trim() !== "";
  return exitCode === 0 && sudoCodes[0] !== 0;
}

function failureOf({ run }: Step, { exitCode, stdout, stderr }: LineResult): string {
  const said = `${stdout}${stderr}`.trim();
  return `command failed (exit status ${exitCode}): ${run}${said === "" ? "" : `\n${said}`}`;
}

/** Undoes what was done, last first, and makes the error that tells what happened and what is left. */
async function rolledBack(
  changed: readonly Step[],
  kept: readonly Step[],
  failure: string,
): Promise<FishnetError> {
  const stuck: string[] = [];
  for (const step of changed.toReversed()) {
    for (const line of step.undo ?? []) {
      const result = await runLine(line);
      if (result.exitCode !== 0) stuck.push(line);
    }
  }
  const left = [
    ...kept.map((step) => `this stays done: ${step.why}`),
    ...(stuck.length > 0 ? ["this could not be undone; when the cause is gone, run:"] : []),
    ...stuck.map((line) => `  ${line}`),
  ];
  return new FishnetError([failure, ...(left.length > 0 ? left : [NOTHING_CHANGED])].join("\n"));
}

const NOTHING_CHANGED = "nothing was changed";

/** Notes the first signal that asks the program to stop, instead of dying of it half-way. */
class SignalTrap implements Disposable {
  static readonly #signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  readonly #listeners = SignalTrap.#signals.map((signal) => ({
    signal,
    listener: () => {
      this.caught ??= signal;
    },
  }));
  /** The signal, once there was one. */
  caught: Deno.Signal | undefined;

  constructor() {
    for (const { signal, listener } of this.#listeners) Deno.addSignalListener(signal, listener);
  }

  [Symbol.dispose](): void {
    for (const { signal, listener } of this.#listeners) Deno.removeSignalListener(signal, listener);
  }
}

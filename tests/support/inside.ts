/**
 * Root inside a world, without sudo and without a process of the program: what it reads, what it
 * finds, and the commands that it plans, for tables of cases that would start it a hundred times.
 *
 * @module
 */
import { assert } from "@std/assert";
import { linux } from "../../src/linux/linux.ts";
import type { Machine } from "../../src/linux/machine.ts";
import { stepsToDisable, stepsToEnable } from "../../src/lock/difference.ts";
import type { LockOptions, Step } from "../../src/lock/piece.ts";
import { wishOf } from "../../src/lock/change.ts";
import { holderOf, type Sight, sightOf, statusIn } from "../../src/lock/status.ts";
import type { StatusReport } from "../../src/lock/report.ts";
import type { Root } from "../../src/root.ts";
import { run } from "./process.ts";
import { rootBy } from "./root.ts";
import type { World } from "./world.ts";

/** Root inside a world. */
export function rootIn(world: World): Root {
  return rootBy(...world.command());
}

/** Reads the world as the program does, and finds what is there. */
export async function sightIn(
  world: World,
  names: readonly string[] = [],
  asked: Partial<LockOptions> = {},
): Promise<Sight<Machine>> {
  return sightOf(linux, await linux.read(rootIn(world), names, asked));
}

/** What `status` says. */
export async function statusOf(world: World, ...names: readonly string[]): Promise<StatusReport> {
  return statusIn(await sightIn(world, names), names);
}

/** The commands of `enable --apply` with these options. */
export function enableSteps(
  sight: Sight<Machine>,
  names: readonly string[],
  asked: Partial<LockOptions> = {},
): Step[] {
  return stepsToEnable(
    sight.there,
    sight.machine,
    names.map((name) => wishOf(sight, name, asked)),
  );
}

/** The commands of `disable --apply`. */
export function disableSteps(sight: Sight<Machine>, names: readonly string[]): Step[] {
  const own = names.flatMap((name) => sight.holdings.of(holderOf(sight, name)));
  return stepsToDisable(sight.there, sight.machine, own);
}

/** The lines that take steps back, last first. */
export const undoOf = (steps: readonly Step[]): string[] =>
  steps.flatMap(({ undo }) => undo).filter((line) => line !== "").toReversed();

/** Runs lines as a person would paste them, but for sudo, which root needs not. */
export async function paste(world: World, lines: readonly string[], shell = "sh"): Promise<void> {
  const script = ['sudo() { "$@"; }', ...lines].join("\n");
  const { code, stderr } = await run(world.command(shell, "-e", "-s"), { input: script });
  assert(code === 0, `${code} ${stderr}\n${lines.join("\n")}`);
}

/** Runs steps; the lines that take them back. */
export async function perform(world: World, steps: readonly Step[]): Promise<string[]> {
  if (steps.length > 0) await paste(world, steps.map(({ line }) => line));
  return undoOf(steps);
}

/** Locks, without the program. */
export async function lockIn(
  world: World,
  names: readonly string[],
  asked: Partial<LockOptions> = {},
): Promise<string[]> {
  return await perform(world, enableSteps(await sightIn(world, names, asked), names, asked));
}

/** Unlocks, without the program. */
export async function unlockIn(world: World, ...names: readonly string[]): Promise<string[]> {
  return await perform(world, disableSteps(await sightIn(world, names), names));
}

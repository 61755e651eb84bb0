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
import { quoted } from "../../src/lock/line.ts";
import type { Answer, LockOptions, Step } from "../../src/lock/piece.ts";
import { wishOf } from "../../src/lock/change.ts";
import { holderOf, type Sight, sightOf, statusIn } from "../../src/lock/status.ts";
import type { StatusReport } from "../../src/lock/report.ts";
import type { Ask } from "../../src/sudo.ts";
import { run } from "./process.ts";
import type { World } from "./world.ts";

/** Runs commands one after another, and keeps what each printed; 127 is the shell's for a missing tool. */
const ASK = `
export LC_ALL=C
cd "$0"
for question in *.sh; do
  sh "$question" </dev/null >"$question.out" 2>"$question.err"
  echo $? >"$question.code"
done
`;

/** Asks the world's own tools: all that is asked at once by one process, since tests read often. */
export function askIn(world: World): Ask {
  let waiting: { words: readonly string[]; answer: (answer: Answer) => void }[] = [];
  const flush = async () => {
    const asked = waiting;
    waiting = [];
    const folder = await Deno.makeTempDir();
    const file = (i: number) => `${folder}/${String(i).padStart(3, "0")}.sh`;
    await Promise.all(
      asked.map(({ words }, i) =>
        Deno.writeTextFile(file(i), `exec ${words.map(quoted).join(" ")}`)
      ),
    );
    await world.must("sh", "-c", ASK, folder);
    const text = (i: number, what: string) => Deno.readTextFile(`${file(i)}.${what}`);
    await Promise.all(asked.map(async ({ answer }, i) =>
      answer({
        exitCode: Number(await text(i, "code")),
        stdout: await text(i, "out"),
        stderr: await text(i, "err"),
      })
    ));
    await Deno.remove(folder, { recursive: true });
  };
  return (words) => {
    const { promise, resolve } = Promise.withResolvers<Answer>();
    if (waiting.length === 0) queueMicrotask(flush);
    waiting.push({ words, answer: resolve });
    return promise;
  };
}

/** Reads the world as the program does, and finds what is there. */
export async function sightIn(
  world: World,
  names: readonly string[] = [],
): Promise<Sight<Machine>> {
  return sightOf(linux, await linux.read(askIn(world), names));
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
  const holders = names.map((name) => holderOf(sight, name));
  return stepsToDisable(sight.there, sight.machine, holders);
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
  return await perform(world, enableSteps(await sightIn(world, names), names, asked));
}

/** Unlocks, without the program. */
export async function unlockIn(world: World, ...names: readonly string[]): Promise<string[]> {
  return await perform(world, disableSteps(await sightIn(world, names), names));
}

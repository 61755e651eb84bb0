/**
 * Timing two things beside one another: in turn, in pairs, so that a machine
 * whose speed drifts slows both alike. What is quoted is the ratio's median.
 *
 * @module
 */

/** The least, the middle and the greatest of some figures. */
export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** Summarises figures; there has to be at least one. */
export function spreadOf(figures: readonly number[]): Spread {
  const sorted = figures.toSorted((a, b) => a - b);
  return {
    min: sorted[0]!,
    median: sorted[Math.floor((sorted.length - 1) / 2)]!,
    max: sorted.at(-1)!,
  };
}

/** Measures A and B in turn, once for nothing and then `pairs` times; gives A/B. */
export async function ratio(
  pairs: number,
  a: () => Promise<number>,
  b: () => Promise<number>,
): Promise<Spread> {
  await a();
  await b();
  const ratios: number[] = [];
  for (let i = 0; i < pairs; i++) ratios.push(await a() / await b());
  return spreadOf(ratios);
}

/** What a whole process cost. */
export interface ProcessCost {
  /** Seconds from start to end. */
  readonly seconds: number;
  /** Peak resident memory in KiB, as time(1) reports it. */
  readonly kib: number;
}

/** Runs a program to its end with its output thrown away. */
export async function costOf(command: readonly string[]): Promise<ProcessCost> {
  const started = performance.now();
  const { stderr } = await new Deno.Command("/usr/bin/time", {
    args: ["--quiet", "--format=%M", ...command],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  const seconds = (performance.now() - started) / 1000;
  const kib = Number(new TextDecoder().decode(stderr).trim().split("\n").at(-1));
  return { seconds, kib };
}

/** A function that runs a program and gives the seconds that it took. */
export function secondsOf(...command: readonly string[]): () => Promise<number> {
  return async () => (await costOf(command)).seconds;
}

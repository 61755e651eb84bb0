/**
 * Makes the program that users download, and prints where it is:
 * `deno task compile [TARGET]`.
 *
 * Two steps. `deno bundle` writes the program and the little that it uses of
 * its libraries into a few files, one of which has everything that only a
 * running plan needs. `deno compile` puts them beside Deno's own runtime.
 *
 * `DENORT_BIN`, which is Deno's own, names a runtime to use instead of the one
 * that Deno would download; only this machine's target can be compiled then.
 *
 * @module
 */
import denoJson from "../deno.json" with { type: "json" };

/** What a file to download is called after, for each system that Deno compiles for. */
export const TARGETS = {
  "x86_64-unknown-linux-gnu": "linux-x86_64",
  "aarch64-unknown-linux-gnu": "linux-aarch64",
  "x86_64-apple-darwin": "macos-x86_64",
  "aarch64-apple-darwin": "macos-aarch64",
} as const;

/** A system that the program is compiled for, by Deno's name. */
export type Target = keyof typeof TARGETS;

/**
 * All that the program may do, ever: nobody is asked for more at run time.
 * Importing code from a few hosts is Deno's default, and so has to be denied.
 */
export const PERMISSIONS = [
  ...["--no-prompt", "--allow-run=sudo", "--allow-env=USER", "--deny-import"],
] as const;

/**
 * The arguments of `deno` that compile a file which needs nothing but itself.
 *
 * - no configuration, lock file or packages: a bundle has all it needs inside;
 * - no code cache: Deno keeps it under a name that anybody can guess in the
 *   temporary folder, which belongs to everybody: the account that is to be
 *   locked could lay one there, and root would run it.
 */
export function compileArguments(entry: string, output: string, target?: Target): string[] {
  return [
    ...["compile", "--no-config", "--no-lock", "--no-npm", "--no-remote"],
    ...["--no-code-cache", ...PERMISSIONS],
    ...(target === undefined ? [] : ["--target", target]),
    ...["--output", output, entry],
  ];
}

/** What was compiled does not run: Deno appended the program to a base that is not its own. */
export class BrokenBinary extends Error {}

/**
 * Compiles the program and returns the path of the binary, in the folder `dist`,
 * which has been started once where it is for this system.
 *
 * @throws {Error} where Deno fails; it has then said why.
 * @throws {BrokenBinary} where the binary is made, and does not say its version.
 */
export async function compile(target: Target, dist: string): Promise<string> {
  // A copy, with its packages inside: the bundle names its sources by their
  // paths from here, and those must be the same on every machine.
  const stage = `${dist}/stage`;
  await run("rm", ["-rf", stage]);
  await run("mkdir", ["-p", stage]);
  await run("cp", ["-R", "main.ts", "src", "deno.json", "deno.lock", stage], ROOT);
  // Minified, because each start reads it all: it is the sources that are for reading.
  const bundle = [
    ...["bundle", "--quiet", "--frozen", "--node-modules-dir=auto"],
    ...["--code-splitting", "--minify", "--outdir", "bundle"],
  ];
  await run(Deno.execPath(), [...bundle, "main.ts"], stage);
  // Deno embeds when each file was last changed; the same source has to give the same bytes.
  await run("find", ["bundle", "-exec", "touch", "-t", "197001020000", "{}", "+"], stage);
  const binary = `${dist}/fishnet-${TARGETS[target]}`;
  await run(Deno.execPath(), compileArguments("main.js", binary, target), `${stage}/bundle`);
  await run("rm", ["-rf", stage]);
  if (target === HOST) await start(binary);
  return binary;
}

/** Starts a binary that was just made. */
async function start(binary: string): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(binary, {
    args: ["--version"],
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (success && text(stdout) === `fishnet ${denoJson.version}\n`) return;
  throw new BrokenBinary(`${binary} does not run: ${text(stdout)}${text(stderr)}`);
}

/** The system that this runs on. */
export const HOST = Deno.build.target as Target;

const ROOT = new URL("../", import.meta.url).pathname;

/** For touch(1), which takes a time of day. */
const UTC = { TZ: "UTC" };

async function run(program: string, args: string[], cwd = ROOT): Promise<void> {
  const { success } = await new Deno.Command(program, { args, cwd, stdin: "null", env: UTC })
    .spawn().status;
  if (!success) throw new Error(`failed: ${program} ${args.join(" ")}`);
}

/** The exit code that tells a broken binary from one that could not be made here. */
const BROKEN = 3;

if (import.meta.main) {
  const target = Deno.args[0] ?? HOST;
  if (Deno.args.length > 1 || !Object.hasOwn(TARGETS, target)) {
    throw new Error(`usage: deno task compile [${Object.keys(TARGETS).join("|")}]`);
  }
  const binary = await compile(target as Target, `${ROOT}dist`).catch((error) => {
    if (!(error instanceof BrokenBinary)) throw error;
    Deno.stderr.writeSync(new TextEncoder().encode(`${error.message}\n`));
    Deno.exit(BROKEN);
  });
  await Deno.stdout.write(new TextEncoder().encode(`${binary}\n`));
}

/**
 * What the packaging tests share.
 *
 * @module
 */
import { compile, compileArguments, HOST } from "../../packaging/compile.ts";
import { VARIABLES } from "../../packaging/project.ts";
import { must, type Result, run } from "../support/process.ts";
import { whyNoWorld } from "../support/world.ts";

/** The folder of the sources, ending in a slash. */
export const ROOT = new URL("../../", import.meta.url).pathname;

/** What a test needs of the machine. */
export interface Needs {
  readonly tools?: readonly string[];
  readonly root?: true;
  /** Network namespaces and real packets. */
  readonly world?: true;
  /** The compiled program: {@link binary} can be called. */
  readonly binary?: true;
  /** `deno compile` works here: {@link compileProbe} can be called. */
  readonly compiler?: true;
}

/** Defines a test, or counts it as skipped and says why. */
export function packagingTest(
  name: string,
  needs: Needs,
  body: (t: Deno.TestContext) => Promise<void>,
): void {
  const why = whyNot(needs);
  Deno.test({
    name: why === undefined ? name : `${name} (skipped: ${why})`,
    ignore: why !== undefined,
    fn: body,
  });
}

/** Why a test cannot run here; undefined where it can. */
export function whyNot({ tools = [], root, world, binary, compiler }: Needs): string | undefined {
  if (root && Deno.uid() !== 0) return "needs root";
  const noWorld = world && whyNoWorld();
  if (noWorld) return noWorld;
  const needsCompiler = compiler || (binary && Deno.env.get("FISHNET_BIN") === undefined);
  if (needsCompiler && !canCompile()) {
    return "needs the runtime that deno compile builds on: a network, or DENORT_BIN";
  }
  const missing = tools.find((tool) =>
    !new Deno.Command("sh", { args: ["-c", `command -v ${tool}`] }).outputSync().success
  );
  return missing === undefined ? undefined : `needs ${missing}`;
}

let compiles: boolean | undefined;

function canCompile(): boolean {
  if (compiles === undefined) {
    const folder = Deno.makeTempDirSync();
    Deno.writeTextFileSync(`${folder}/empty.js`, "");
    const args = compileArguments(`${folder}/empty.js`, `${folder}/empty`);
    // A base of another version compiles, and then does not run.
    compiles = new Deno.Command(Deno.execPath(), { args }).outputSync().success &&
      new Deno.Command(`${folder}/empty`).outputSync().success;
    Deno.removeSync(folder, { recursive: true });
  }
  return compiles;
}

let compiled: Promise<string> | undefined;

/** The compiled program: the one that FISHNET_BIN names, or one made for this run. */
export function binary(): Promise<string> {
  const given = Deno.env.get("FISHNET_BIN");
  return compiled ??= given === undefined
    ? compile(HOST, `${ROOT}dist/test`)
    : Promise.resolve(given);
}

/** Makes the Debian package of {@link binary}, or one that says it is another version. */
export async function debianPackage(folder: string, version = ""): Promise<string> {
  let made = packages.get(version);
  if (made === undefined) {
    packagesFolder ??= Deno.makeTempDirSync({ prefix: "fishnet-packages-" });
    made = debianPackageOf({}, packagesFolder, ...(version === "" ? [] : [version]));
    packages.set(version, made);
  }
  const file = await made;
  await Deno.mkdir(folder, { recursive: true });
  const copy = `${folder}/${file.split("/").at(-1)}`;
  await Deno.copyFile(file, copy);
  return copy;
}

/** It takes its time, and so is made once for all tests of a file. */
const packages = new Map<string, Promise<string>>();
let packagesFolder: string | undefined;
globalThis.addEventListener("unload", () => {
  if (packagesFolder !== undefined) Deno.removeSync(packagesFolder, { recursive: true });
});

/** One that is made anew, as a workflow with these variables makes it. */
export async function debianPackageOf(
  variables: Readonly<Record<string, string>>,
  folder: string,
  ...version: string[]
): Promise<string> {
  const { code, stdout, stderr } = await run(
    [`${ROOT}packaging/debian/build.sh`, await binary(), folder, ...version],
    {
      env: {
        DENO: Deno.execPath(),
        // A machine that runs these tests may itself be a hosting service's.
        ...Object.fromEntries(VARIABLES.map((name) => [name, ""])),
        ...variables,
        // What a release is packed with takes its time; what is inside is the same.
        DPKG_DEB_COMPRESSOR_TYPE: "gzip",
        DPKG_DEB_COMPRESSOR_LEVEL: "1",
      },
    },
  );
  if (code !== 0) throw new Error(`build.sh ended with ${code}: ${stderr}`);
  return stdout.trim();
}

/** The program, from its sources, with the permissions that it ships with. */
export function fishnet(...args: readonly string[]): Promise<Result> {
  return run([...FROM_SOURCES, ...args]);
}

const FROM_SOURCES = [
  ...[Deno.execPath(), "run", "--quiet", "--no-prompt", "--allow-run=sudo", "--allow-env=USER"],
  `${ROOT}main.ts`,
];

/** A folder that is gone when the test ends. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "fishnet-" });
  return { path, [Symbol.asyncDispose]: async () => void await must("rm", "-rf", path) };
}

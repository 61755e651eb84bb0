/**
 * Makes the npm package in a folder, for `npm pack`:
 * `deno run --allow-read --allow-write --allow-env packaging/npm/build.ts FOLDER`
 *
 * What is in it are the sources, line for line, comments included: Deno runs no
 * TypeScript inside `node_modules`, so types are blanked out, and imports name
 * the files and packages that are there. Deno and the two packages that the
 * program uses are npm's to fetch, by the checksums of our lock files.
 *
 * @module
 */
import { stripTypeScriptTypes } from "node:module";
import denoJson from "../../deno.json" with { type: "json" };
import denoLock from "../deno/package-lock.json" with { type: "json" };
import { projectHere } from "../project.ts";

const ROOT = new URL("../../", import.meta.url);
const lock: Lock = JSON.parse(await Deno.readTextFile(new URL("deno.lock", ROOT)));

/** What is used here of version 5 of Deno's lock file. */
interface Lock {
  readonly specifiers: Readonly<Record<string, string>>;
  readonly npm: Readonly<
    Record<string, { readonly integrity: string; readonly dependencies?: readonly string[] }>
  >;
}

/** What the program imports from npm, as npm-shrinkwrap.json has it: by version and checksum. */
function locked(): Record<string, unknown> {
  const versions = Object.fromEntries(Object.keys(lock.npm).map(nameAndVersion));
  return Object.fromEntries(
    Object.entries(lock.npm).map(([key, { integrity, dependencies = [] }]) => {
      const [name, version] = nameAndVersion(key);
      const needs = Object.fromEntries(dependencies.map((name) => [name, versions[name]!]));
      return [`node_modules/${name}`, {
        version,
        integrity,
        ...(dependencies.length === 0 ? {} : { dependencies: needs }),
      }];
    }),
  );
}

function nameAndVersion(key: string): [string, string] {
  const at = key.lastIndexOf("@");
  return [key.slice(0, at), key.slice(at + 1)];
}

/** A source as it is in the package: the same lines and columns, but for the words of imports. */
export function asJavaScript(source: string): string {
  // Statements begin a line, as deno fmt has them: what only looks like one is a text.
  return stripTypeScriptTypes(source).replaceAll(
    /(^(?:(?:import|export)\b.*|\}) from |^import |\bimport\()"([^"]+)"/gm,
    (_, words, specifier) => `${words}"${inPackage(specifier)}"`,
  );
}

function inPackage(specifier: string): string {
  if (specifier.startsWith(".")) return specifier.replace(/\.ts$/, ".js");
  const mapped = (denoJson.imports as Record<string, string>)[specifier];
  const npm = /^npm:([^@]+)@[^/]+(.*)$/.exec(mapped ?? "");
  if (npm === null) throw new Error(`no npm package for the import of ${specifier}`);
  return `${npm[1]}${npm[2]}`;
}

async function* sources(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
    if (isDirectory) yield* sources(`${folder}${name}/`);
    else yield `${folder}${name}`;
  }
}

/** Writes everything that belongs into the package. */
async function build(folder: string): Promise<void> {
  const put = async (path: string, text: string, mode = 0o644) => {
    const place = `${folder}/${path}`;
    await Deno.mkdir(place.slice(0, place.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(place, text);
    await Deno.chmod(place, mode);
  };
  const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));
  for (const path of ["main.ts", ...await Array.fromAsync(sources("src/"))]) {
    const text = await read(path);
    if (path.endsWith(".ts")) await put(path.replace(/\.ts$/, ".js"), asJavaScript(text));
    else await put(path, text);
  }
  await put("deno.json", await read("deno.json"));
  await put("LICENSE", await read("LICENSE"));
  await put("README.md", await read("packaging/npm/README.md"));
  await put("bin.cjs", await read("packaging/npm/bin.cjs"), 0o755);
  const { homepage } = projectHere();
  const { deno } = denoLock.packages[""].dependencies;
  const direct = Object.keys(lock.specifiers).map((name) => nameAndVersion(name.slice(4)));
  const about = {
    name: "fishnet-firewall",
    version: denoJson.version,
    license: "MIT",
  };
  const needs = {
    bin: { "fishnet-firewall": "bin.cjs", fishnet: "bin.cjs" },
    engines: { node: ">=18" },
    os: ["linux", "darwin"],
    dependencies: { ...Object.fromEntries(direct), deno },
  };
  await put(
    "package.json",
    json({
      ...about,
      description: "Keep the account of an AI agent on this machine",
      homepage,
      repository: { type: "git", url: `git+${homepage}.git` },
      type: "module",
      ...needs,
    }),
  );
  const { "": _, ...denos } = denoLock.packages;
  await put(
    "npm-shrinkwrap.json",
    json({
      name: about.name,
      version: about.version,
      lockfileVersion: 3,
      requires: true,
      packages: { "": { ...about, ...needs }, ...denos, ...locked() },
    }),
  );
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2) + "\n";
}

if (import.meta.main) {
  const [folder] = Deno.args;
  if (folder === undefined || Deno.args.length > 1) throw new Error("usage: build.ts FOLDER");
  await build(folder);
}

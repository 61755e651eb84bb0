/** The shape of the sources: no two files need each other, and none is long. */
import { assertEquals } from "@std/assert";

const ROOT = new URL("../", import.meta.url);

async function* filesIn(folder: URL): AsyncGenerator<URL> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) yield* filesIn(new URL(`${name}/`, folder));
    else if (name.endsWith(".ts")) yield new URL(name, folder);
  }
}

const FILES = [new URL("main.ts", ROOT), ...await Array.fromAsync(filesIn(new URL("src/", ROOT)))];
const TEXTS = new Map(
  await Promise.all(FILES.map(async (file) => [file.href, await Deno.readTextFile(file)] as const)),
);

/** The files that a file imports, types alone included. */
const neededBy = (file: string): string[] =>
  [...TEXTS.get(file)!.matchAll(/(?:\bfrom|\bimport)\s*\(?"(\.[^"]+\.ts)"/g)]
    .map(([, path]) => new URL(path!, file).href);

/** The first circle of files, each of which needs the next. */
function circle(): string[] {
  const done = new Set<string>();
  const from = (file: string, path: readonly string[]): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return [];
    for (const next of neededBy(file)) {
      const found = from(next, [...path, file]);
      if (found.length > 0) return found;
    }
    done.add(file);
    return [];
  };
  return [...TEXTS.keys()].map((file) => from(file, [])).find(({ length }) => length > 0) ?? [];
}

Deno.test("no two files of the sources need each other", () => {
  assertEquals(circle().map((file) => file.slice(ROOT.href.length)), []);
});

Deno.test("no file of the sources has more than 300 lines", () => {
  const long = [...TEXTS].filter(([, text]) => text.split("\n").length - 1 > 300);
  assertEquals(long.map(([file]) => file.slice(ROOT.href.length)), []);
});

/** What each room knows nothing of (CONTRIBUTING.md). */
const APART: readonly (readonly [room: string, others: RegExp])[] = [
  ["src/cli/", /^src\/(linux|macos|sudo|system)\b/],
  ["src/lock/", /^src\/(linux|macos|cli)\b/],
  ["src/linux/", /^src\/(macos|cli)\b/],
  ["src/macos/", /^src\/(linux|cli)\b/],
];

Deno.test("no room needs what it is to know nothing of, and src/lock names no system", () => {
  const pathOf = (file: string) => file.slice(ROOT.href.length);
  for (const [file, text] of TEXTS) {
    const [, others] = APART.find(([room]) => pathOf(file).startsWith(room)) ?? [];
    const needed = others === undefined
      ? []
      : neededBy(file).map(pathOf).filter((path) => others.test(path));
    assertEquals(needed, [], pathOf(file));
    if (pathOf(file).startsWith("src/lock/")) {
      assertEquals(/["'`](linux|macos)["'`]/.exec(text), null, file);
    }
  }
});

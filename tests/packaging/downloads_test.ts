/** What comes over the network before the program runs: what it needs, and nothing else. */
import { assertEquals } from "@std/assert";
import { must, run } from "../support/process.ts";
import { ROOT, temporaryFolder } from "./support.ts";

Deno.test("deno task fishnet downloads what the program needs, and nothing that only tests need", async () => {
  await using folder = await temporaryFolder();
  const sources = `${folder.path}/sources`;
  await Deno.mkdir(sources);
  for (const name of ["main.ts", "src", "deno.json", "deno.lock"]) {
    await must("cp", "-R", `${ROOT}${name}`, sources);
  }
  const cache = `${folder.path}/cache`;
  const { code, stderr } = await run(
    [
      ...[Deno.execPath(), "task", "--config", `${sources}/deno.json`, "fishnet"],
      ...["firewall", "enable", "--agent-user", "a"],
    ],
    { env: { DENO_DIR: cache } },
  );
  assertEquals(code, 0, stderr);
  const [registry] = [...Deno.readDirSync(`${cache}/npm`)];
  const downloaded = [...Deno.readDirSync(`${cache}/npm/${registry!.name}`)]
    .filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  assertEquals(downloaded.sort(), ["dax", "deno-std", "undici-types"]);
});

Deno.test("the tests run the program's packages in the very versions that it ships with", async () => {
  const lock = async (path: string) => JSON.parse(await Deno.readTextFile(`${ROOT}${path}`)).npm;
  const [shipped, tested] = [await lock("deno.lock"), await lock("tests/deno.lock")];
  assertEquals({ ...tested, ...shipped }, tested);
});

/** The npm package: what is in it, what it may do, and the lines that install it. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import denoJson from "../../deno.json" with { type: "json" };
import { must, run } from "../support/process.ts";
import { atHome, lockedDeno, npmPackage, Registry } from "./npm_support.ts";
import { fishnet, packagingTest, ROOT, temporaryFolder } from "./support.ts";

const ENABLE = ["firewall", "enable", "--agent-user", "agent_runner"];

packagingTest("the npm package", { tools: ["npm", "npx", "node"] }, async (t) => {
  await using folder = await temporaryFolder();
  const deno = await lockedDeno(folder.path);
  const file = await npmPackage(deno, folder.path);
  const plan = await fishnet(...ENABLE);
  assertEquals(plan.code, 0, plan.stderr);

  await t.step("is called as npm has it free, with the program's version", () => {
    assert(file.endsWith(`/fishnet-firewall-${denoJson.version}.tgz`), file);
  });

  await t.step("is small, and twice the same bytes", async () => {
    assert((await Deno.stat(file)).size < 200_000, "and Deno itself has some forty million");
    const again = `${folder.path}/again`;
    await Deno.mkdir(again);
    await must("cmp", file, await npmPackage(deno, again));
  });

  await t.step("has the sources line for line, and no other code than its start", async () => {
    const unpacked = `${folder.path}/unpacked`;
    await Deno.mkdir(unpacked);
    await must("tar", "-xzf", file, "-C", unpacked, "--strip-components=1");
    const list = async (place: string, ...names: string[]) =>
      (await must("sh", "-c", 'cd "$0" && find "$@" -type f', place, ...names)).trim().split("\n");
    const packed = await list(unpacked, ".");
    const sources = await list(ROOT, "./main.ts", "./src");
    assertEquals(
      packed.sort(),
      [
        ...sources.map((name) => name.replace(/\.ts$/, ".js")),
        ...["LICENSE", "README.md", "bin.cjs", "deno.json", "npm-shrinkwrap.json", "package.json"]
          .map((name) => `./${name}`),
      ].sort(),
    );
    for (const name of sources) {
      const [source, copy] = [`${ROOT}${name}`, `${unpacked}/${name.replace(/\.ts$/, ".js")}`];
      const count = async (path: string) => (await Deno.readTextFile(path)).split("\n").length;
      assertEquals(await count(copy), await count(source), name);
    }
  });

  await t.step("names Deno and each package by a checksum", async () => {
    const text = await must("tar", "-xzOf", file, "package/npm-shrinkwrap.json");
    const { "": _, ...packages } = JSON.parse(text).packages as Record<
      string,
      { integrity?: string }
    >;
    assert(Object.keys(packages).includes("node_modules/@deno/linux-x64-glibc"));
    for (const [name, { integrity }] of Object.entries(packages)) {
      assertMatch(integrity ?? "", /^sha512-/, name);
    }
  });

  await t.step(
    "shows the plan from the file, in an empty home, and downloads nothing then",
    async () => {
      const home = `${folder.path}/home`;
      await Deno.mkdir(home);
      await must("cp", file, home);
      const npx = ["npx", "--yes", `./${file.split("/").at(-1)}`, ...ENABLE];
      const { code, stdout, stderr } = await atHome(home, npx);
      assertEquals([code, stdout], [0, plan.stdout], stderr);
      // Whatever else is installed there, nothing of it was fetched by the program itself.
      assertEquals(await must("find", home, "-path", "*deno/npm/*"), "");
    },
  );

  await t.step("hands arguments, exit codes and errors through", async () => {
    const place = `${folder.path}/place`;
    await Deno.mkdir(place);
    await must("npm", "install", "--silent", "--prefix", place, file);
    const program = `${place}/node_modules/.bin/fishnet`;
    for (const args of [["--version"], ["firewall", "enable", "--agent-user", "bad-user!"]]) {
      assertEquals(await run([program, ...args]), await fishnet(...args));
    }
    // The control for what comes next: with every permission, the same file does read.
    const main = `${place}/node_modules/fishnet-firewall/main.js`;
    await Deno.writeTextFile(main, 'console.log(Deno.readTextFileSync("/etc/hostname"));');
    assertEquals((await run([deno, "run", "--no-config", "--allow-read", main])).code, 0);
    for (const args of [[], ["--allow-all"]]) {
      const { code, stderr } = await run([program, ...args], { env: { DENO_PERMISSIONS: "all" } });
      assertEquals(code, 1);
      assertStringIncludes(stderr, 'Requires read access to "/etc/hostname"');
    }
  });

  await t.step("ends by the signal that ended the program", async () => {
    const main = `${folder.path}/place/node_modules/fishnet-firewall/main.js`;
    await Deno.writeTextFile(main, 'console.log("up"); setInterval(() => {}, 1000);');
    const child = new Deno.Command(`${folder.path}/place/node_modules/.bin/fishnet`, {
      stdin: "null",
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    assertStringIncludes(new TextDecoder().decode((await reader.read()).value), "up");
    child.kill("SIGTERM");
    const { signal } = await child.status;
    await reader.cancel();
    assertEquals(signal, "SIGTERM");
  });

  await using registry = await Registry.start(file);
  await t.step("npx fishnet-firewall runs it by its name", async () => {
    const npx = ["npx", "--yes", "fishnet-firewall", ...ENABLE];
    const { code, stdout, stderr } = await atHome(`${folder.path}/by-name`, npx, registry.url);
    assertEquals([code, stdout], [0, plan.stdout], stderr);
  });

  await t.step("deno install -g makes the command of a clone, with its permissions", async () => {
    const clone = `${folder.path}/clone`;
    await Deno.mkdir(clone);
    for (const name of ["main.ts", "src", "deno.json", "deno.lock"]) {
      await must("cp", "-R", `${ROOT}${name}`, clone);
    }
    const home = `${folder.path}/deno-home`;
    const { code, stderr } = await atHome(home, ["env", "-C", clone, deno, ...DENO_INSTALL]);
    assertEquals(code, 0, stderr);
    const installed = await Deno.readTextFile(`${home}/.deno/bin/fishnet`);
    assertStringIncludes(installed, "--allow-run=sudo");
    assertStringIncludes(installed, "--allow-env=USER");
    assert(!/--allow-(all|read|write|net)|-A/.test(installed), installed);
    const path = `${folder.path}/deno/node_modules/.bin:${Deno.env.get("PATH")}`;
    const ran = await run([`${home}/.deno/bin/fishnet`, ...ENABLE], {
      env: { HOME: home, PATH: path },
    });
    assertEquals([ran.code, ran.stdout], [0, plan.stdout], ran.stderr);
  });
});

/** As INSTALL.md has it. */
const DENO_INSTALL = [
  ...["install", "--global", "--name", "fishnet", "--config", "deno.json"],
  ...["--allow-run=sudo", "--allow-env=USER", "main.ts"],
];

/** Machines that lack a file or a tool, or have a tool that cannot be run. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { lockIn, unlockIn } from "../support/inside.ts";
import { must, type Result } from "../support/process.ts";
import { program, type World, worldTest } from "../support/world.ts";

/** Runs the program where an empty file that nobody may execute lies over another. */
async function withoutUse(file: string, world: World, ...args: string[]): Promise<Result> {
  const empty = await Deno.makeTempFile();
  try {
    return await world.exec(
      ...["unshare", "-m", "sh", "-ec", 'mount --bind "$0" "$1"; shift; exec "$@"', empty, file],
      ...program(),
      ...["firewall", ...args],
    );
  } finally {
    await Deno.remove(empty);
  }
}

worldTest(
  "where no /etc/protocols gives protocols their names, the table is still ours",
  async (world) => {
    const name = await world.account();
    const run = (action: string, ...more: string[]) =>
      withoutUse("/etc/protocols", world, action, "--agent-user", name, ...more);
    const before = await world.state();
    const enable = ["--backend", "nftables", "--only-port", "3777", "--apply"];
    assertEquals((await run("enable", ...enable)).code, 0);
    const { code, stdout } = await run("status");
    assertEquals(code, 0, stdout);
    assertStringIncludes((await run("enable", ...enable)).stderr, "already in force");
    assertEquals((await run("disable", "--apply")).code, 0);
    assertEquals(await world.state(), before);
  },
);

worldTest("a tool that is there and cannot be run is no absent tool", async (world) => {
  const name = await world.account();
  for (const [backend, tool] of [["iptables", "xtables-nft-multi"], ["nftables", "nft"]] as const) {
    const file = (await must("realpath", `/usr/sbin/${tool}`)).trim();
    const account = ["--agent-user", name];
    await lockIn(world, [name], { backend });
    const locked = await world.state();
    const status = await withoutUse(file, world, "status", ...account);
    assertEquals([status.code, status.stdout.includes("unknown")], [3, true], status.stdout);
    const disable = await withoutUse(file, world, "disable", ...account, "--apply");
    assertEquals(disable.code, 1);
    assertStringIncludes(disable.stderr, "Permission denied");
    assertEquals(await world.state(), locked);
    await unlockIn(world, name);
  }
});

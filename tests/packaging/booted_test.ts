/** The package on a machine that really boots, from apt-get install to apt-get purge. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { AGENT, type Boot, bootTest, Machine } from "../boot/machine.ts";
import { must } from "../support/process.ts";
import { World } from "../support/world.ts";
import { changes, playbook, throughSsh } from "./ansible.ts";
import { binary, debianPackage, temporaryFolder, whyNot } from "./support.ts";

const why = whyNot({ binary: true, tools: ["dpkg-shlibdeps", "ansible-playbook"] });
if (why === undefined) {
  bootTest(
    "a persisted lock outlasts a reboot and an upgrade, and goes with the package",
    onceInstalled,
  );
  bootTest("the Ansible role changes whether a lock outlasts a reboot", byAnsible);
} else {
  Deno.test({ name: `the package on a booted machine (skipped: ${why})`, ignore: true, fn() {} });
}

async function onceInstalled(t: Deno.TestContext): Promise<void> {
  await using folder = await temporaryFolder();
  await using machine = await Machine.create("1G");
  const [first, second] = [
    await debianPackage(folder.path),
    await debianPackage(folder.path, "0.1.0+1"),
  ];
  const install = async (boot: Boot, file: string) => {
    await must("cp", file, `${machine.root}/opt/fishnet.deb`);
    await boot.must("apt-get", "install", "--yes", "--quiet", "/opt/fishnet.deb");
  };
  const status = async (boot: Boot) => {
    const { stdout } = await boot.exec("fishnet", "firewall", "status", "--json");
    return JSON.parse(stdout).accounts;
  };
  let etc = "";

  await t.step("install and lock, for after the next boot too", async () => {
    await using world = await World.create();
    await using boot = await machine.boot(world);
    await boot.finished();
    etc = await machine.etc();
    await install(boot, first);
    const enable = ["firewall", "enable", "--agent-user", AGENT.name, "--persist", "--apply"];
    await boot.must("fishnet", ...enable);
    const [account] = await status(boot);
    assertEquals([account.name, account.state, account.survivesReboot], [
      AGENT.name,
      "locked",
      true,
    ]);
  });

  await t.step(
    "after a boot it is locked, an upgrade leaves it so, a purge unlocks it",
    async () => {
      await using world = await World.create();
      await using boot = await machine.boot(world);
      await boot.finished();
      const locked = await world.state();
      assertStringIncludes(locked, `--uid-owner ${AGENT.uid}`);
      await install(boot, second);
      assertStringIncludes(await boot.must("dpkg", "--list", "fishnet"), "0.1.0+1");
      assertEquals(await world.state(), locked);
      await boot.must("apt-get", "purge", "--yes", "--quiet", "fishnet");
      assert(!(await world.state()).includes(`${AGENT.uid}`));
      assertEquals(await machine.etc(), etc);
      assertEquals(await boot.must("find", "/usr", "/var/lib", "/etc", "-name", "*fishnet*"), "");
    },
  );
}

async function byAnsible(): Promise<void> {
  await using folder = await temporaryFolder();
  await using machine = await Machine.create("1G");
  await using world = await World.create();
  await using boot = await machine.boot(world);
  await boot.finished();
  const variables = {
    ...await throughSsh(folder.path, boot.command()),
    fishnet_install: "binary",
    fishnet_binary: await binary(),
    fishnet_accounts: [AGENT.name],
  };
  const play = (fishnet_persist: boolean, ...flags: string[]) =>
    changes(playbook(folder.path, { ...variables, fishnet_persist }, [], ...flags));
  const found = async () => {
    const { stdout } = await boot.exec("/usr/local/bin/fishnet", "firewall", "status", "--json");
    return JSON.parse(stdout).accounts.map((
      { state, survivesReboot }: Record<string, unknown>,
    ) => [state, survivesReboot]);
  };
  assertEquals(await play(false), 2, "the program and the lock");
  assertEquals(await found(), [["locked", false]]);
  assertEquals(await play(true, "--check"), 1);
  assertEquals(await play(true), 1, "in place");
  assertEquals(await found(), [["locked", true]]);
  assertEquals(await play(true), 0);
  assertEquals(await play(false), 2, "unlocked, and locked again");
  assertEquals(await found(), [["locked", false]]);
}

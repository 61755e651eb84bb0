/** What `--persist` writes, on a machine that systemd runs: all of it or nothing, for each account. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { Result } from "../support/process.ts";
import { World } from "../support/world.ts";
import { AGENT, type Boot, bootTest, CONTROL, Machine } from "./machine.ts";

const FOLDER = "/etc/fishnet-firewall";

function bootedTest(
  name: string,
  body: (on: { machine: Machine; world: World; boot: Boot }) => Promise<void>,
  size?: string,
): void {
  bootTest(name, async () => {
    await using machine = await Machine.create(size);
    await using world = await World.create();
    await using boot = await machine.boot(world);
    await boot.finished();
    await body({ machine, world, boot });
  });
}

const enable = (boot: Boot, names: readonly string[], ...more: readonly string[]) =>
  boot.fishnet("enable", ...names.flatMap((name) => ["--agent-user", name]), "--apply", ...more);

const disable = (boot: Boot, name: string) =>
  boot.fishnet("disable", "--agent-user", name, "--apply");

function assertFailed({ code, stderr }: Result, because: string): void {
  assertEquals(code, 1);
  assertStringIncludes(stderr, because);
  assert(stderr.trimEnd().endsWith("nothing was changed"), stderr);
}

bootedTest(
  "a full disk, or a folder that cannot be, leaves no unit, no script and no rule",
  async ({ machine, world, boot }) => {
    const [etc, state] = [await machine.etc(), await world.state()];
    await boot.exec("sh", "-c", "cat /dev/zero >/opt/filler");
    assertFailed(await enable(boot, [AGENT.name], "--persist"), "No space left on device");
    await boot.must("rm", "/opt/filler");
    assertEquals([await machine.etc(), await world.state()], [etc, state]);

    await boot.must("touch", FOLDER);
    assertFailed(await enable(boot, [AGENT.name], "--persist"), "File exists");
    await boot.must("rm", FOLDER);
    assertEquals([await machine.etc(), await world.state()], [etc, state]);
  },
  "20M",
);

bootedTest(
  "an enable that fails leaves the lock, and the script, of an earlier one as they were",
  async ({ machine, world, boot }) => {
    assertEquals((await enable(boot, [AGENT.name], "--persist")).code, 0);
    // The second account's script cannot be written: the first one's has been by then.
    await boot.must("mkdir", `${FOLDER}/${CONTROL.uid}.sh`);
    const [etc, state] = [await machine.etc(), await world.state()];
    const both = [AGENT.name, CONTROL.name];
    assertFailed(await enable(boot, both, "--persist", "--only-port", "3777"), "not allowed");
    assertEquals([await machine.etc(), await world.state()], [etc, state]);
  },
);

bootedTest(
  "disable removes what is the account's, and the units with the last one",
  async ({ machine, world, boot }) => {
    const [etc, state] = [await machine.etc(), await world.state()];
    assertEquals((await enable(boot, [AGENT.name])).code, 0);
    const agentAlone = await world.state();
    assertEquals((await disable(boot, AGENT.name)).code, 0);
    assertEquals((await enable(boot, [AGENT.name, CONTROL.name], "--persist")).code, 0);

    assertEquals((await disable(boot, CONTROL.name)).code, 0);
    assertEquals(await boot.must("ls", FOLDER), `${AGENT.uid}.sh\n`);
    assertEquals(await world.state(), agentAlone);
    for (const unit of [`fishnet@${AGENT.uid}`, "fishnet-repair", "fishnet-reload"]) {
      assertEquals(await boot.must("systemctl", "is-enabled", unit), "enabled\n", unit);
    }
    assertEquals((await boot.exec("systemctl", "is-enabled", `fishnet@${CONTROL.uid}`)).code, 1);

    assertEquals((await disable(boot, AGENT.name)).code, 0);
    assertEquals((await disable(boot, AGENT.name)).code, 0, "a second time");
    assertEquals([await machine.etc(), await world.state()], [etc, state]);
    assertEquals(
      await boot.must("systemctl", "list-units", "--all", "--plain", "-q", "fishnet*"),
      "",
    );
  },
);

bootedTest(
  "what runs at boot asks for no name, and locks the ranges that the account has by then",
  async ({ world, boot }) => {
    assertEquals((await enable(boot, [AGENT.name], "--persist")).code, 0);
    await boot.must("sh", "-c", `echo ${AGENT.uid}:700000:10 >>/etc/subuid`);
    // Whoever looks up a name now fails: nobody has one.
    await boot.must("mount", "--bind", "/dev/null", "/etc/passwd");
    assertEquals((await boot.exec("id", "-u", AGENT.name)).code, 1);
    await boot.must("nft", "flush", "ruleset");
    await boot.must("ip", "rule", "del", "pref", "77");
    await boot.must("systemctl", "restart", `fishnet@${AGENT.uid}`);
    const state = await world.state();
    for (const range of [`${AGENT.uid}-${AGENT.uid}`, "700000-700009"]) {
      assertEquals(state.split(`uidrange ${range} prohibit`).length, 3, `${range}: both families`);
    }
    assertEquals(state.split("uid-owner 700000-700009").length, 3);
    assertEquals(state.split(`uid-owner ${AGENT.uid} `).length, 5, "OUTPUT and POSTROUTING");
  },
);

bootedTest(
  "the dry-run's lines, pasted into a shell, do what --apply does, once or twice",
  async ({ machine, world, boot }) => {
    const shown = await boot.fishnet("enable", "--agent-user", AGENT.name, "--persist");
    const lines = shown.stdout.split("\n").filter((line) => line.startsWith("  "));
    await Deno.writeTextFile(`${machine.root}/opt/lines`, lines.join("\n") + "\n");
    await boot.must("sh", "-e", "/opt/lines");
    await boot.must("bash", "-e", "/opt/lines");
    const [etc, state] = [await machine.etc(), await world.state()];
    const applied = await enable(boot, [AGENT.name], "--persist", "--json");
    assertEquals(JSON.parse(applied.stdout).changed, false);
    assertEquals([await machine.etc(), await world.state()], [etc, state]);
  },
);

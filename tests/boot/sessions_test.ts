/** The layer by cgroup, on a machine with a systemd that may, or may not, load BPF programs. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { World } from "../support/world.ts";
import { AGENT, type Boot, bootTest, CONTROL, Machine } from "./machine.ts";

/** What systemd needs to load BPF programs in a container. */
const WITH_BPF = ["--system-call-filter=bpf", "--capability=all"];

const ENABLE = ["enable", "--agent-user", AGENT.name, "--persist", "--sessions", "--apply"];
const SLICE = `user-${AGENT.uid}.slice`;

/** Sends a packet from a login session of the account, through a program that is setuid root. */
async function throughHelper(boot: Boot, account: typeof AGENT): Promise<void> {
  const send = `import os, socket; os.setuid(0); ` +
    `socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("10.77.0.2", ${account.uid}))`;
  await boot.exec(
    ...["systemd-run", "--quiet", "--wait", "--collect", "-p", "PAMName=login"],
    ...["--uid", account.name, "/opt/setuid-python", "-c", send],
  );
}

/** The accounts of which a packet came out. */
async function escaped(world: World, boot: Boot): Promise<string[]> {
  const frames = await world.captured("udp", async () => {
    for (const account of [AGENT, CONTROL]) await throughHelper(boot, account);
  });
  return [AGENT, CONTROL].filter(({ uid }) => frames.some((frame) => frame.includes(`.${uid}: `)))
    .map(({ name }) => name);
}

bootTest(
  "--sessions shuts setuid helpers in the account's sessions, also after a reboot",
  async (t) => {
    await using machine = await Machine.create();
    let etc = "";

    await t.step("from now on", async () => {
      await using world = await World.create();
      await using boot = await machine.boot(world, WITH_BPF);
      await boot.finished();
      await boot.must("install", "-m", "4755", "/usr/bin/python3", "/opt/setuid-python");
      // An administrator's own setting for the same slice, which has to survive.
      const own = `/etc/systemd/system/${SLICE}.d`;
      await boot.must("mkdir", own);
      await boot.must("sh", "-c", `printf '[Slice]\\nTasksMax=99\\n' >${own}/own.conf`);
      etc = await machine.etc();
      assertEquals(await escaped(world, boot), [AGENT.name, CONTROL.name]);
      const enabled = await boot.fishnet(...ENABLE);
      assertEquals(enabled.code, 0, enabled.stderr);
      assertEquals(await escaped(world, boot), [CONTROL.name]);
      assertEquals(JSON.parse((await boot.fishnet(...ENABLE, "--json")).stdout).changed, false);
    });

    await t.step("after a reboot, until disable", async () => {
      await using world = await World.create();
      await using boot = await machine.boot(world, WITH_BPF);
      await boot.finished();
      assertEquals(await escaped(world, boot), [CONTROL.name]);
      const disabled = await boot.fishnet("disable", "--agent-user", AGENT.name, "--apply");
      assertEquals(disabled.code, 0, disabled.stderr);
      assertEquals(await machine.etc(), etc);
      assertEquals(await escaped(world, boot), [AGENT.name, CONTROL.name]);
      const limit = await boot.must("systemctl", "show", "--value", "-p", "TasksMax", SLICE);
      assertEquals(limit, "99\n", "the administrator's own setting");
    });
  },
);

bootTest("--sessions refuses what somebody else has set, and leaves it", async () => {
  await using machine = await Machine.create();
  await using world = await World.create();
  await using boot = await machine.boot(world, WITH_BPF);
  await boot.finished();
  await boot.must("systemctl", "set-property", SLICE, "IPAddressDeny=192.0.2.0/24");
  const [etc, state] = [await machine.etc(), await world.state()];
  const enabled = await boot.fishnet(...ENABLE);
  assertEquals(enabled.code, 1);
  assertStringIncludes(enabled.stderr, `somebody else has set the addresses of ${SLICE}`);
  const disabled = await boot.fishnet("disable", "--agent-user", AGENT.name, "--apply");
  assertEquals(disabled.code, 0, disabled.stderr);
  assertEquals([await machine.etc(), await world.state()], [etc, state]);
});

bootTest("where --sessions has no effect, enable fails and undoes everything", async () => {
  await using machine = await Machine.create();
  await using world = await World.create();
  await using boot = await machine.boot(world);
  await boot.finished();
  const [etc, state] = [await machine.etc(), await world.state()];
  const enabled = await boot.fishnet(...ENABLE);
  assertEquals(enabled.code, 1);
  assertStringIncludes(enabled.stderr, "--sessions has no effect on this system: leave it out");
  assert(enabled.stderr.trimEnd().endsWith("nothing was changed"), enabled.stderr);
  assertEquals([await machine.etc(), await world.state()], [etc, state]);
});

/** firewalld itself, which needs a D-Bus of its own, beside a lock that is not persisted. */
import { assertEquals } from "@std/assert";
import { World } from "../support/world.ts";
import { gotThrough, knocksOf } from "./knocks.ts";
import { AGENT, type Boot, bootTest, CONTROL, Machine } from "./machine.ts";

/** The accounts that get out, whichever way; the other one by all of them. */
async function gotOut(world: World, boot: Boot): Promise<string[]> {
  const frames = await world.captured("udp", async () => {
    for (const { name } of [AGENT, CONTROL]) {
      await boot.must("su", name, "-c", "python3 /opt/knock.py login 0.3");
    }
  });
  assertEquals(gotThrough(knocksOf(frames, CONTROL), 1), true, "the control");
  return [AGENT, CONTROL].filter((account) => knocksOf(frames, account).ways > 0)
    .map(({ name }) => name);
}

/** firewalld's own table, without its counters. */
const theirs = (boot: Boot) =>
  boot.must("nft", "--stateless", "list", "table", "inet", "firewalld");

for (const backend of ["iptables", "nftables"]) {
  bootTest(`${backend} beside firewalld: the lock holds, both stay whole`, async (t) => {
    await using machine = await Machine.create();
    await using world = await World.create();
    await using boot = await machine.boot(world);
    await boot.finished();
    const state = await world.state();
    const change = async (command: "enable" | "disable") => {
      const more = command === "enable" ? ["--backend", backend] : [];
      const changed = await boot.fishnet(command, "--agent-user", AGENT.name, ...more, "--apply");
      assertEquals(changed.code, 0, changed.stderr);
    };
    const status = async () => (await boot.fishnet("status", "--agent-user", AGENT.name)).code;
    let rules = "";

    await t.step(
      "what it flushes when it starts and reloads, status names and enable mends",
      async () => {
        await change("enable");
        await boot.must("systemctl", "start", "firewalld");
        await boot.until("firewall-cmd", "--quiet", "--state");
        await boot.must("firewall-cmd", "--quiet", "--reload");
        // Nobody flushes a table of another name.
        assertEquals(await status(), backend === "nftables" ? 0 : 3);
        await change("enable");
        assertEquals(await status(), 0);
        assertEquals(await gotOut(world, boot), [CONTROL.name]);
        rules = await theirs(boot);
      },
    );

    await t.step("disable takes ours alone", async () => {
      await change("disable");
      assertEquals(await theirs(boot), rules);
      assertEquals(await gotOut(world, boot), [AGENT.name, CONTROL.name]);
    });

    await t.step("enable after it leaves its rules, and so it is after a flush", async () => {
      await change("enable");
      assertEquals(await theirs(boot), rules);
      assertEquals(await gotOut(world, boot), [CONTROL.name]);
      await boot.must("nft", "flush", "ruleset");
      assertEquals(await status(), 3);
      await change("enable");
      assertEquals(await gotOut(world, boot), [CONTROL.name]);
      await boot.must("systemctl", "stop", "firewalld");
      await change("disable");
      assertEquals(await world.state(), state);
    });
  });
}

/** firewalld itself, which needs a D-Bus of its own, beside a lock. */
import { assertEquals } from "@std/assert";
import { World } from "../support/world.ts";
import { AGENT, type Boot, bootTest, CONTROL, Machine } from "./machine.ts";

/** The accounts that get out, by what was captured outside. */
async function gotOut(world: World, boot: Boot): Promise<string[]> {
  const accounts = [AGENT, CONTROL];
  const frames = await world.captured("udp", async () => {
    for (const { name } of accounts) {
      await boot.must("su", name, "-c", "python3 /opt/knock.py login");
    }
  });
  return accounts.filter(({ uid }) => frames.some((frame) => frame.includes(`.${uid + 30}: `)))
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
      const options = ["--agent-user", AGENT.name, "--backend", backend, "--apply"];
      const changed = await boot.fishnet(command, ...options);
      assertEquals(changed.code, 0, changed.stderr);
    };
    const running = () => boot.until("firewall-cmd", "--quiet", "--state");
    let rules = "";

    await t.step("it starts, and reloads, after enable", async () => {
      await change("enable");
      await boot.must("systemctl", "start", "firewalld");
      await running();
      assertEquals(await gotOut(world, boot), [CONTROL.name]);
      await boot.must("firewall-cmd", "--quiet", "--reload");
      assertEquals(await gotOut(world, boot), [CONTROL.name]);
      rules = await theirs(boot);
    });

    await t.step("disable takes ours alone", async () => {
      await change("disable");
      assertEquals(await theirs(boot), rules);
      assertEquals(await gotOut(world, boot), [AGENT.name, CONTROL.name]);
    });

    await t.step("enable after it leaves its rules", async () => {
      await change("enable");
      assertEquals(await theirs(boot), rules);
      assertEquals(await gotOut(world, boot), [CONTROL.name]);
      await boot.must("firewall-cmd", "--quiet", "--complete-reload");
      assertEquals(await theirs(boot), rules);
      assertEquals(await gotOut(world, boot), [CONTROL.name]);
    });

    await t.step("what it has flushed, status names and enable mends", async () => {
      await boot.must("nft", "flush", "ruleset");
      assertEquals((await boot.fishnet("status", "--agent-user", AGENT.name)).code, 3);
      await change("enable");
      assertEquals((await boot.fishnet("status", "--agent-user", AGENT.name)).code, 0);
      assertEquals(await gotOut(world, boot), [CONTROL.name]);
      await boot.must("systemctl", "stop", "firewalld");
      await change("disable");
      assertEquals(await world.state(), state);
    });
  });
}

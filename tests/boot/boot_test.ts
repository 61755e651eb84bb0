/** From power-on to login, on a machine that really boots: what a persisted lock lets out. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { World } from "../support/world.ts";
import { AGENT, type Boot, bootTest, CONTROL, Machine } from "./machine.ts";

/** How a process of an account starts at boot; knock.py has the same list. */
const KINDS = ["cron", "linger", "service", "login"];

/** How many frames were captured of an account, by how the process was started. */
function knocks(frames: readonly string[], { uid }: typeof AGENT): number[] {
  return KINDS.map((_, index) =>
    frames.filter((frame) => frame.includes(`.${uid + 10 * index}: `)).length
  );
}

const LOCK = "fishnet@5001.service";
const RELOAD = "fishnet-reload.service";
const UFW = "/etc/ufw/ufw.conf";

const NONE = [0, 0, 0, 0];

/** Switches on, waits until each process that starts by itself has tried enough, and logs in. */
async function powerOn(machine: Machine, world: World): Promise<{ boot: Boot; frames: string[] }> {
  await using stack = new AsyncDisposableStack();
  const boots: Boot[] = [];
  const frames = await world.captured("udp", async () => {
    const boot = stack.use(await machine.boot(world));
    boots.push(boot);
    await boot.finished();
    for (const { name, uid } of [AGENT, CONTROL]) {
      for (const kind of KINDS.slice(0, 3)) {
        await boot.until("test", "-e", `/tmp/knocked-${kind}-${uid}`);
      }
      await boot.must("su", "-l", name, "-c", "python3 /opt/knock.py login");
    }
  });
  stack.move();
  return { boot: boots[0]!, frames };
}

/** What the system's own tools show of the account's lock. */
async function lockIn(world: World): Promise<string> {
  const lines = (await world.state()).split("\n");
  return lines.filter((line) => /fishnet|uid-owner|uidrange|skuid|elements/.test(line))
    .sort().join("\n");
}

/** What `status` says of the account: whether it is locked, and whether a reboot leaves it so. */
async function toldBy(boot: Boot): Promise<[state: string, survivesReboot: boolean]> {
  const { stdout } = await boot.fishnet("status", "--agent-user", AGENT.name, "--json");
  const [account] = JSON.parse(stdout).accounts;
  return [account.state, account.survivesReboot];
}

/** Waits until the account's lock is as it was: the unit that mends it runs after the other one. */
async function mended(boot: Boot, world: World, lock: string, cause: string): Promise<void> {
  const end = Date.now() + 20_000;
  let now = await lockIn(world);
  while (now !== lock && Date.now() < end) {
    await boot.must("sleep", "0.1");
    now = await lockIn(world);
  }
  assertEquals(now, lock, cause);
  // What still runs for this cause must not mend what the next one breaks.
  await boot.must("systemctl", "stop", "fishnet-repair.service");
}

for (const [backend, ports] of [["iptables", ["--only-port", "3777"]], ["nftables", []]] as const) {
  bootTest(
    `${backend}: a persisted lock holds from power-on to login, and until disable`,
    async (t) => {
      await using machine = await Machine.create();
      const agent = ["--agent-user", AGENT.name, "--backend", backend];
      let etc = "", lock = "";

      await t.step("enable puts it in force now, and its units are sound", async () => {
        await using world = await World.create();
        await using boot = await machine.boot(world);
        await boot.finished();
        etc = await machine.etc();
        const enable = [...agent, ...ports, "--persist", "--apply", "--json"];
        const first = await boot.fishnet("enable", ...enable);
        assertEquals(first.code, 0, first.stderr);
        lock = await lockIn(world);
        assert(lock.includes("5001"), lock);
        assertEquals(JSON.parse((await boot.fishnet("enable", ...enable)).stdout).changed, false);
        assertEquals(await toldBy(boot), ["locked", true]);
        const units = [LOCK, "fishnet-repair.service", RELOAD];
        const verified = await boot.exec("systemd-analyze", "verify", ...units);
        assertEquals(verified, { code: 0, stdout: "", stderr: "" });
        assertEquals(await boot.must("stat", "-c", "%a %U", "/etc/fishnet-firewall"), "700 root\n");
      });

      await t.step("after a flush, what status says brings all of it back", async () => {
        await using world = await World.create();
        await using boot = await machine.boot(world);
        await boot.finished();
        await boot.must("systemctl", "stop", "fishnet-repair.service");
        await boot.must("nft", "flush", "ruleset");
        assertNotEquals(await lockIn(world), lock);
        const status = await boot.fishnet("status", "--agent-user", AGENT.name, "--json");
        const [remedy] = JSON.parse(status.stdout).accounts[0].pieces.flatMap(
          ({ remedy }: { remedy?: string }) => remedy ?? [],
        );
        const [, , ...args] = remedy.split(" "); // fishnet firewall …
        assertEquals((await boot.fishnet(...args)).code, 0);
        assertEquals(await lockIn(world), lock);
      });

      await t.step("from power-on, the account sends nothing, another one does", async (t) => {
        await using world = await World.create();
        const { boot: on, frames } = await powerOn(machine, world);
        await using boot = on;
        assert(knocks(frames, CONTROL).every((count) => count > 0), `${knocks(frames, CONTROL)}`);
        assertEquals(knocks(frames, AGENT), NONE);
        assertEquals(await toldBy(boot), ["locked", true]);
        assertEquals(await lockIn(world), lock);

        await t.step("stopping its units opens nothing", async () => {
          await boot.must("systemctl", "stop", LOCK, RELOAD);
          assertEquals(await lockIn(world), lock);
          await boot.must("systemctl", "start", RELOAD);
        });

        for (const firewall of ["nftables", "ufw", "firewalld"]) {
          await t.step(`it is whole after ${firewall} started, reloaded, restarted`, async () => {
            if (firewall === "ufw") await boot.must("sed", "-i", "s/ENABLED=no/ENABLED=yes/", UFW);
            await boot.must("systemctl", "stop", firewall);
            for (const verb of ["start", "reload", "restart"]) {
              // Debian's ufw.service knows of no reload.
              if (firewall === "ufw" && verb === "reload") continue;
              // What may be lost is lost before, so that whoever puts it back is seen doing so.
              await boot.must("nft", "flush", "ruleset");
              await boot.must("systemctl", verb, firewall);
              // For systemd it has started with its name on the bus, before it touches a rule.
              if (firewall === "firewalld") await boot.until("firewall-cmd", "-q", "--state");
              await mended(boot, world, lock, verb);
            }
            await boot.must("systemctl", "stop", firewall);
            await boot.must("nft", "flush", "ruleset");
          });
        }
        const disabled = await boot.fishnet("disable", ...agent, "--apply");
        assertEquals(disabled.code, 0, disabled.stderr);
        assertEquals(await lockIn(world), "");
        await boot.must("sed", "-i", "s/ENABLED=yes/ENABLED=no/", UFW);
        assertEquals(await machine.etc(), etc);
      });

      await t.step("after disable and another boot, the account gets out", async () => {
        await using world = await World.create();
        const { boot, frames } = await powerOn(machine, world);
        await boot[Symbol.asyncDispose]();
        assert(knocks(frames, AGENT).every((count) => count > 0), `${knocks(frames, AGENT)}`);
      });
    },
  );
}

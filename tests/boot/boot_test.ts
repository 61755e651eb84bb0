/** From power-on to login, on a machine that really boots: what a persisted lock lets out. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { must } from "../support/process.ts";
import { World } from "../support/world.ts";
import { gotThrough, knocking, knocksOf, lockIn, mended, powerOn } from "./knocks.ts";
import { AGENT, type Boot, bootTest, CONTROL, Machine } from "./machine.ts";

const UFW = "/etc/ufw/ufw.conf";

/** `ufw reload` writes its own rules anew. */
const withoutUfws = (etc: string) => etc.replace(/^\.\/ufw\/user.*\n/gm, "");

/** What `status` says of the account: whether it is locked, and whether a reboot leaves it so. */
async function toldBy(boot: Boot): Promise<[state: string, survivesReboot: boolean]> {
  const { stdout } = await boot.fishnet("status", "--agent-user", AGENT.name, "--json");
  const [account] = JSON.parse(stdout).accounts;
  return [account.state, account.survivesReboot];
}

/** While something happens, and until all is whole again, no frame of the account comes out. */
async function holds(
  boot: Boot,
  world: World,
  lock: string,
  what: string,
  event: () => Promise<unknown>,
): Promise<void> {
  const frames = await world.captured("udp", async () => {
    await event();
    await mended(world, lock, what);
    const end = Date.now() + 60_000;
    const counted = () => boot.must("cat", `/tmp/knocks-login-${CONTROL.uid}`).then(Number);
    const first = await counted();
    // Two rounds of all nine ways, of a process that knocks beside the other one.
    while (await counted() < first + 20) {
      if (Date.now() > end) throw new Error("nobody knocks");
    }
  });
  assert(gotThrough(knocksOf(frames, CONTROL), 1), `${what}: ${frames.length}`);
  assertEquals(knocksOf(frames, AGENT).frames, {}, what);
}

/** Reloads a firewall; it is done when the firewall is, not only systemd. */
async function change(boot: Boot, firewall: string, verb: string): Promise<void> {
  if (firewall === "ufw" && verb === "reload") return void await boot.must("ufw", "reload");
  if (firewall !== "firewalld") return void await boot.must("systemctl", verb, firewall);
  const table = () => boot.exec("sh", "-c", "nft -a list tables | grep firewalld");
  const before = (await table()).stdout;
  await boot.must("systemctl", verb, firewall);
  if (verb === "stop") return;
  // A signal reloads it: its table is a new one then.
  const end = Date.now() + 60_000;
  for (let now = ""; now === "" || now === before; now = (await table()).stdout) {
    if (Date.now() > end) throw new Error(`${verb}: firewalld did nothing`);
  }
  await boot.until("firewall-cmd", "-q", "--state");
}

for (const [backend, ports] of [["iptables", ["--only-port", "3777"]], ["nftables", []]] as const) {
  bootTest(
    `${backend}: a persisted lock holds from power-on to login, and until disable`,
    async (t) => {
      await using machine = await Machine.create();
      const agent = ["--agent-user", AGENT.name];
      let etc = "", lock = "";

      await t.step("enable puts it in force now, and says so", async () => {
        await using world = await World.create();
        await using boot = await machine.boot(world);
        await boot.finished();
        etc = await machine.etc();
        const enable = [...agent, "--backend", backend, ...ports, "--persist", "--apply", "--json"];
        const first = await boot.fishnet("enable", ...enable);
        assertEquals(first.code, 0, first.stderr);
        lock = await lockIn(world);
        assert(lock.includes(`${AGENT.uid}`), lock);
        assertEquals(JSON.parse((await boot.fishnet("enable", ...enable)).stdout).changed, false);
        assertEquals(await toldBy(boot), ["locked", true]);
        assertEquals(await boot.must("stat", "-c", "%a %U", "/etc/fishnet-firewall"), "700 root\n");

        // Nobody puts it back now.
        await boot.must("systemctl", "stop", "fishnet-watch");
        await boot.must("nft", "flush", "ruleset");
        assertNotEquals(await lockIn(world), lock);
        const status = await boot.fishnet("status", ...agent, "--json");
        const [remedy] = JSON.parse(status.stdout).accounts[0].pieces.flatMap(
          ({ remedy }: { remedy?: string }) => remedy ?? [],
        );
        const [, , ...args] = remedy.split(" "); // fishnet firewall …
        const mended = await boot.fishnet(...args);
        assertEquals(mended.code, 0, mended.stderr);
        assertEquals(await lockIn(world), lock);

        await boot.must("systemctl", "-q", "enable", "nftables");
        await boot.must("sed", "-i", "s/ENABLED=no/ENABLED=yes/", UFW);
      });

      await t.step("from power-on, the account sends nothing, another one does", async (t) => {
        await using world = await World.create();
        const { boot: on, frames } = await powerOn(machine, world);
        await using boot = on;
        const control = knocksOf(frames, CONTROL);
        assert(gotThrough(control), JSON.stringify(control));
        assertEquals(knocksOf(frames, AGENT).frames, {});
        const [cycles] = [await boot.must("journalctl", "-b", "--no-pager", "-o", "cat")]
          .map((said) => said.split("\n").filter((line) => line.includes("ordering cycle")));
        assertEquals(cycles, []);
        await mended(world, lock, "the boot");
        assertEquals(await toldBy(boot), ["locked", true]);

        await using _ = await knocking(boot);
        for (const firewall of ["nftables", "ufw", "firewalld"]) {
          await t.step(`it is whole after ${firewall} restarts, reloads and stops`, async () => {
            for (const verb of ["restart", "reload", "stop", "start"]) {
              await holds(
                ...[boot, world, lock, `${verb} ${firewall}`] as const,
                () => change(boot, firewall, verb),
              );
            }
            if (firewall !== "firewalld") return;
            await holds(
              ...[boot, world, lock, "firewall-cmd --reload"] as const,
              () => boot.must("firewall-cmd", "-q", "--reload"),
            );
          });
        }
        await t.step("stopping its units opens nothing", async () => {
          await boot.must("systemctl", "stop", "firewalld");
          await mended(world, lock, "stop firewalld");
          await holds(
            ...[boot, world, lock, "systemctl stop fishnet-*"] as const,
            () => boot.must("systemctl", "stop", "fishnet-*"),
          );
        });
      });

      await t.step("it holds beside firewalld, too, and disable leaves nothing", async () => {
        // They exclude each other: systemd would start either one.
        await must("chroot", machine.root, "systemctl", "-q", "disable", "nftables");
        await must("chroot", machine.root, "systemctl", "-q", "enable", "firewalld");
        await using world = await World.create();
        const { boot: on, frames } = await powerOn(machine, world);
        await using boot = on;
        assertEquals(knocksOf(frames, AGENT).frames, {});
        assert(gotThrough(knocksOf(frames, CONTROL)), `${frames.length}`);
        // It may still be flushing, for all that systemd knows.
        await boot.until("firewall-cmd", "-q", "--state");
        await mended(world, lock, "the boot");
        const disabled = await boot.fishnet("disable", ...agent, "--apply");
        assertEquals(disabled.code, 0, disabled.stderr);
        await boot.must("systemctl", "-q", "disable", "firewalld");
        await boot.must("sed", "-i", "s/ENABLED=yes/ENABLED=no/", UFW);
        await boot.until("sh", "-c", "! systemctl list-units --all -q 'fishnet*' | grep .");
        assertEquals(await lockIn(world), "");
        assertEquals(withoutUfws(await machine.etc()), withoutUfws(etc));
      });

      await t.step("and from the next power-on on, in all nine ways", async () => {
        await using world = await World.create();
        const { boot, frames } = await powerOn(machine, world);
        await boot[Symbol.asyncDispose]();
        const agent = knocksOf(frames, AGENT);
        assert(gotThrough(agent), JSON.stringify(agent));
      });
    },
  );
}

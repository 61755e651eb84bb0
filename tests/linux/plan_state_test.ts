/** The same lines give the same kernel state, whoever runs them, and disable leaves nothing. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { lineOf } from "../../src/plan.ts";
import { type Backend, planDisable } from "../../src/planner.ts";
import { attempt, change, serve, WAYS } from "../support/lock.ts";
import { must, run } from "../support/process.ts";
import { OUTSIDE_V4, OUTSIDE_V6, type World, worldTest } from "../support/world.ts";

/** The lines that a dry-run shows, as an administrator would copy them. */
async function shown(
  world: World,
  action: "enable" | "disable",
  account: string,
  backend: Backend,
  ports: readonly string[] = [],
): Promise<string[]> {
  const { code, stdout, stderr } = await world.fishnet(
    ...["firewall", action, "--agent-user", account, "--backend", backend, ...ports],
  );
  assertEquals(code, 0, stderr);
  return stdout.split("\n").filter((line) => line.startsWith("  ")).map((line) => line.trim());
}

async function paste(world: World, shell: string, lines: readonly string[]): Promise<void> {
  const { code, stderr } = await world.exec(shell, "-ec", lines.join("\n"));
  assertEquals(code, 0, stderr);
}

/** The files of /etc that name an account, but for those that useradd keeps. */
async function filesNaming(account: string): Promise<string[]> {
  const { stdout } = await run(["grep", "-rlswF", account, "/etc"]);
  return stdout.split("\n").filter((file) =>
    /^\/etc\/(?!g?shadow|passwd|group|sub[ug]id)/.test(file)
  );
}

for (const { backend, variant, label } of WAYS) {
  worldTest(`${label}: who runs the lines makes no difference`, async (world, t) => {
    const [agent, second] = [await world.account(), await world.account()];
    await serve(world, "outside");
    const before = await world.state();
    const expectUnlocked = async () => assertEquals(await world.state(), before);

    await t.step("disable without an enable is no error and changes nothing", async () => {
      await change(world, "disable", agent, backend);
      await expectUnlocked();
    });

    for (const ports of [[], ["--only-port", "3777", "--only-port", "8080"]]) {
      const when = ports.length > 0 ? "with --only-port" : "without --only-port";

      await t.step(`--apply, sh, and bash twice give one state, ${when}`, async () => {
        await change(world, "enable", agent, backend, ...ports);
        const applied = await world.state();
        assertNotEquals(applied, before);
        await change(world, "enable", agent, backend, ...ports);
        assertEquals(await world.state(), applied, "enable twice");
        const enable = await shown(world, "enable", agent, backend, ports);
        const disable = await shown(world, "disable", agent, backend);
        await paste(world, "sh", disable);
        await expectUnlocked();
        await paste(world, "sh", enable);
        assertEquals(await world.state(), applied, "pasted into sh");
        await change(world, "disable", agent, backend);
        await expectUnlocked();
        for (let round = 0; round < 2; round++) {
          for (const line of enable) await paste(world, "bash", [line]);
          assertEquals(await world.state(), applied, "pasted into bash, line by line");
        }
        for (let round = 0; round < 2; round++) {
          for (const line of disable) await paste(world, "bash", [line]);
          await expectUnlocked();
        }
        await change(world, "disable", agent, backend);
        await expectUnlocked();
        assertEquals(await filesNaming(agent), []);
      });
    }

    await t.step("several accounts in one run, or one after the other, are the same", async () => {
      await change(world, "enable", agent, backend);
      const first = await world.state();
      await change(world, "enable", second, backend);
      const both = await world.state();
      await change(world, "disable", agent, backend, "--agent-user", second);
      await expectUnlocked();
      await change(world, "enable", agent, backend, "--agent-user", second);
      assertEquals(sorted(await world.state()), sorted(both));
      await change(world, "disable", second, backend);
      assertEquals(sorted(await world.state()), sorted(first));
    });

    await t.step("disabling one account leaves the other locked", async () => {
      for (const [address, filter] of [[OUTSIDE_V4, "ip"], [OUTSIDE_V6, "ip6"]] as const) {
        const tryAs = (account: string) => () => attempt(world, account, "udp", address);
        assertNotEquals(
          await world.captured(`${filter} and udp`, tryAs(second)),
          [],
          "the control",
        );
        assertEquals(await world.captured(`${filter} and udp`, tryAs(agent)), []);
      }
      await change(world, "disable", agent, backend);
      await expectUnlocked();
    });

    await t.step("a range that has left /etc/subuid is released all the same", async () => {
      await change(world, "enable", agent, backend);
      const [first, last] = await rangeOf(agent);
      await must("usermod", "--del-subuids", `${first}-${last}`, agent);
      await change(world, "disable", agent, backend);
      await expectUnlocked();
      await must("usermod", "--add-subuids", `${first}-${last}`, agent);
    });

    await t.step("two accounts that share a range do not free it for each other", async () => {
      // --apply refuses such an account, but pasted lines look at nothing.
      await change(world, "enable", agent, backend);
      const [first, last] = await rangeOf(agent);
      await must("usermod", "--add-subuids", `${first}-${last}`, second);
      const lines = await shown(world, "enable", second, backend);
      const { code } = await world.exec("sh", "-ec", lines.join("\n"));
      assertEquals(
        code,
        backend === "nftables" ? 1 : 0,
        "nftables keeps one set of disjoint ranges",
      );
      await paste(world, "sh", await shown(world, "disable", second, backend));
      const tryAs = (account: string) => () => attempt(world, account, "udp", OUTSIDE_V6);
      assertNotEquals(await world.captured("ip6 and udp", tryAs(second)), [], "the control");
      assertEquals(await world.captured("ip6 and udp", tryAs(`${first! + 7}`)), []);
      assertEquals(
        (await world.exec("ip", "-6", "rule")).stdout.includes(`${first}-${last}`),
        true,
      );
      await must("usermod", "--del-subuids", `${first}-${last}`, second);
      await change(world, "disable", agent, backend);
      await expectUnlocked();
    });

    await t.step("an account that was deleted while locked is released by its uid", async () => {
      const doomed = await world.account();
      const uid = Number(await must("id", "-u", doomed));
      await change(world, "enable", doomed, backend, "--only-port", "3777");
      await must("userdel", doomed);
      await paste(
        world,
        "sh",
        planDisable([{ name: doomed, uid }], { system: "linux", backend }).map(lineOf),
      );
      await expectUnlocked();
    });

    if (backend === "nftables") return;
    await t.step(
      "the page's rule is first, and the page's own commands find and remove it",
      async () => {
        await change(world, "enable", agent, backend);
        const rule = [
          "OUTPUT",
          "-m",
          "owner",
          "--uid-owner",
          agent,
          "!",
          "-o",
          "lo",
          "-j",
          "REJECT",
        ];
        for (const command of ["iptables", "ip6tables"]) {
          const first = (await world.must(command, "-w", "-S", "OUTPUT", "1")).trim();
          assert(first.includes("! -o lo") && first.includes("-j REJECT"), first);
          await world.must(command, "-C", ...rule);
          await world.must(command, "-D", ...rule);
          assertEquals(await world.must(command, "-w", "-S", "OUTPUT"), "-P OUTPUT ACCEPT\n");
        }
        await change(world, "disable", agent, backend);
        await expectUnlocked();
      },
    );
  }, variant);
}

async function rangeOf(account: string): Promise<number[]> {
  const line = await must("grep", `^${account}:`, "/etc/subuid");
  const [, first, count] = line.split("\n")[0]!.split(":").map(Number);
  return [first!, first! + count! - 1];
}

function sorted(state: string): string[] {
  return state.split("\n").map((line) => line.replace(/elements = .*/, "")).sort();
}

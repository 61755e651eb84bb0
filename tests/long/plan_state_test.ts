/** The same lines give the same kernel state, whoever runs them, and disable leaves nothing. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import type { Backend } from "../../src/account.ts";
import { attempt, change, serve, WAYS } from "../support/lock.ts";
import { statusOf } from "../support/inside.ts";
import { must, run } from "../support/process.ts";
import { OUTSIDE_V4, OUTSIDE_V6, type World, worldTest } from "../support/world.ts";

/** What a dry-run shows, as an administrator would copy it: all but the first line and the last. */
async function shown(
  world: World,
  action: "enable" | "disable",
  account: string,
  backend: Backend,
  ports: readonly string[] = [],
): Promise<string> {
  const { code, stdout, stderr } = await world.fishnet(
    ...["firewall", action, "--agent-user", account, "--backend", backend, ...ports],
  );
  assertEquals(code, 0, stderr);
  return stdout.split("\n").slice(1, -2).join("\n");
}

async function paste(world: World, shell: string, lines: string): Promise<void> {
  const { code, stderr } = await world.exec(shell, "-ec", lines);
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

      await t.step(
        `--apply, and the dry-run pasted into sh and bash, give one state, ${when}`,
        async () => {
          await change(world, "enable", agent, backend, ...ports);
          const applied = await world.state();
          assertNotEquals(applied, before);
          await change(world, "enable", agent, backend, ...ports);
          assertEquals(await world.state(), applied, "enable twice");
          await change(world, "disable", agent, backend);
          await expectUnlocked();
          const enable = await shown(world, "enable", agent, backend, ports);
          // Which ports there are, only the machine tells: a disable's dry-run has none.
          const disable = ports.length > 0
            ? () => change(world, "disable", agent, backend)
            : async (shell: string) =>
              await paste(world, shell, await shown(world, "disable", agent, backend));
          for (const shell of ["dash", "bash"]) {
            await paste(world, shell, enable);
            assertEquals(await world.state(), applied, `pasted into ${shell}`);
            await disable(shell);
            await expectUnlocked();
          }
          await paste(world, "sh", enable);
          await change(world, "disable", agent, backend);
          await expectUnlocked();
          assertEquals(await filesNaming(agent), []);
        },
      );
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

    await t.step("a disable that is pasted leaves the other locked", async () => {
      await change(world, "enable", agent, backend, "--agent-user", second);
      const lines = (await shown(world, "disable", agent, backend)).split("\n");
      // As its dry-run says, the table is to stay. Our chain stays by itself, which is an error.
      const kept = lines.filter((line) => !line.includes("delete table"));
      const { stderr } = await world.exec("sh", "-c", kept.join("\n"));
      assertEquals((await statusOf(world, second)).state, "locked");
      assertEquals(/tables-restore/.test(stderr), backend === "iptables", stderr);
      await change(world, "disable", agent, backend, "--agent-user", second);
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

    await t.step("an account that was deleted while locked is released by its uid", async () => {
      const doomed = await world.account();
      await change(world, "enable", doomed, backend, "--only-port", "3777");
      await must("userdel", doomed);
      await change(world, "disable", doomed, backend);
      await expectUnlocked();
    });

    if (backend === "nftables") return;
    await t.step(
      "pasted twice: rules twice, which status counts once and disable takes away",
      async () => {
        const lines = (await shown(world, "enable", agent, backend)).split("\n");
        // A routing rule that is there already is an error of its own, which a person reads.
        await world.exec("sh", "-c", [...lines, ...lines].join("\n"));
        const copies = (await world.must("iptables", "-w", "-S", "OUTPUT")).match(/-j REJECT/g);
        assertEquals(copies?.length, 2);
        const status = await world.fishnet("firewall", "status", "--agent-user", agent);
        assertEquals(status.code, 0, status.stdout);
        await change(world, "disable", agent, backend);
        await expectUnlocked();
      },
    );

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

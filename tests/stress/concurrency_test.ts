/** Runs at the same time: they end as if one had waited for the other. */
import { assert, assertEquals } from "@std/assert";
import { change, WAYS } from "../support/lock.ts";
import { linesOf } from "../support/process.ts";
import { program, type World, worldTest } from "../support/world.ts";

for (const { backend, variant, label } of WAYS) {
  const runs = 50;
  worldTest(
    `${label}: ${runs} enables and disables at once leave one lock, or none`,
    async (world, t) => {
      const [agent, second] = [await world.account(), await world.account()];
      const unlocked = await world.state();
      await change(world, "enable", agent, backend);
      const locked = await world.state();

      await t.step("of one account", async () => {
        const actions = Array.from({ length: runs }, (_, i) => i % 2 === 0 ? "enable" : "disable");
        const results = await Promise.all(actions.map((action) =>
          world.fishnet(
            ...["firewall", action, "--agent-user", agent, "--backend", backend, "--apply"],
          )
        ));
        assertEquals(results.filter(({ code }) => code !== 0), []);
        assert([locked, unlocked].includes(await world.state()), await world.state());
      });

      await t.step("of two accounts", async () => {
        await Promise.all([agent, second].map((who) => change(world, "enable", who, backend)));
        await Promise.all([
          change(world, "disable", agent, backend),
          change(world, "enable", second, backend),
        ]);
        await Promise.all([agent, second].map((who) => change(world, "disable", who, backend)));
        assertEquals(await world.state(), unlocked);
        await change(world, "enable", agent, backend);
        assertEquals(await world.state(), locked);
      });
    },
    variant,
  );
}

worldTest("a run that waits for another one ends at once when it is stopped", async (world) => {
  const agent = await world.account();
  const before = await world.state();
  // Another run, as far as the lock tells.
  const other = world.start(world.command("flock", "/etc/sudoers", "sh", "-c", "echo held; cat"), {
    stdin: "piped",
  });
  const held = linesOf(other.stdout);
  assertEquals((await held.read()).value, "held");
  held.releaseLock();
  const waits = world.start(
    world.command(...program(), "firewall", "enable", "--agent-user", agent, "--apply"),
  );
  let isOver = false;
  const over = waits.status.finally(() => isOver = true);
  while (!(await waitsForLock(world))) {
    assert(!isOver, "it never waited");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  waits.kill("SIGINT");
  assertEquals((await over).code, 1);
  assertEquals(await world.state(), before);
  await other.stdin.close();
  await other.status;
  await change(world, "enable", agent, "iptables"); // the lock is free again
  await change(world, "disable", agent, "iptables");
});

/** Whether anybody waits for the lock between runs: flock(2), in /proc/locks, behind "->". */
async function waitsForLock(world: World): Promise<boolean> {
  const { ino } = await Deno.stat(`/etc/netns/${world.inside}/sudoers`);
  const locks = (await Deno.readTextFile("/proc/locks")).split("\n");
  return locks.some((line) => line.includes("-> FLOCK") && line.includes(`:${ino} `));
}

worldTest(
  "the lock between runs makes no sudoers file where the system has none",
  async (world) => {
    const agent = await world.account();
    const before = await world.state();
    const etc = await Deno.makeTempDir({ dir: "/var/tmp" });
    try {
      // Its sudoers file elsewhere, as on openSUSE.
      await world.must("cp", "-a", "/etc/.", etc);
      await Deno.rename(`${etc}/sudoers`, `${etc}/their-sudoers`);
      const plugin = "Plugin sudoers_policy sudoers.so sudoers_file=/etc/their-sudoers\n";
      await Deno.writeTextFile(`${etc}/sudo.conf`, plugin);
      await Deno.chmod(etc, 0o755);
      for (const command of ["enable", "disable"]) {
        await world.must(
          ...["sh", "-c", 'mount --bind "$0" /etc && exec "$@"', etc, ...program()],
          ...["firewall", command, "--agent-user", agent, "--apply"],
        );
        assert(!(await Array.fromAsync(Deno.readDir(etc))).some(({ name }) => name === "sudoers"));
        assertEquals(await world.state() === before, command === "disable");
      }
    } finally {
      await Deno.remove(etc, { recursive: true });
    }
  },
);

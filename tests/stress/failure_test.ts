/** What goes wrong half-way: all or nothing, and never less locked than before. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { Faults } from "../support/faults.ts";
import { change, WAYS } from "../support/lock.ts";
import { type World, worldTest } from "../support/world.ts";

for (const { backend, variant, label } of WAYS) {
  // The failures' paths are the same under both variants; that the lines are right is tested for each.
  if (variant === "legacy") continue;
  worldTest(`${label}: all or nothing`, async (world, t) => {
    const agent = await world.account();
    const faults = await Faults.in(world);
    const args = (action: "enable" | "disable") =>
      ["firewall", action, "--agent-user", agent, "--backend", backend, "--apply"] as const;
    const unlocked = await world.state();
    await change(world, "enable", agent, backend);
    const locked = await world.state();
    const enableCalls = await faults.calls();
    await faults.clear();
    await change(world, "disable", agent, backend);
    const disableCalls = await faults.calls();
    assertEquals(await world.state(), unlocked);

    for (
      const fault of [
        "fails before it has done its work",
        "fails after it has done its work",
      ] as const
    ) {
      await t.step(`each command of an enable ${fault}: nothing is changed`, async () => {
        for (let call = 1; call <= enableCalls; call++) {
          const { code, stderr } = await faults.run(fault, call, ...args("enable"));
          assertEquals(code, 1);
          assertMatch(stderr, /^\[fishnet\] command failed \(exit status 9\): .*sudo .*/);
          assertMatch(stderr, /\bbroken\n[^]*nothing was changed\n$/);
          assertEquals(await world.state(), unlocked, `call ${call}: ${stderr}`);
        }
      });
    }

    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      await t.step(`${signal} at each command of an enable: nothing is changed`, async () => {
        const start = signal === "SIGINT" ? 1 : 2;
        for (let call = start; call <= enableCalls; call += 2) {
          const { code, stderr } = await faults.run(signal, call, ...args("enable"));
          assertEquals(code, 1);
          assertEquals(stderr, `[fishnet] stopped by ${signal}\nnothing was changed\n`);
          assertEquals(await world.state(), unlocked, `call ${call}`);
        }
      });
    }

    await t.step("SIGKILL at each command of an enable: enable or disable heals", async () => {
      for (let call = 1; call <= enableCalls; call++) {
        await faults.run("SIGKILL", call, ...args("enable"));
        if (call % 2 === 0) {
          await change(world, "enable", agent, backend);
          assertEquals(await world.state(), locked, `call ${call}`);
        }
        await change(world, "disable", agent, backend);
        assertEquals(await world.state(), unlocked, `call ${call}`);
      }
    });

    await t.step(
      "sudo is denied half-way, for the undo too: the lines left over are told",
      async () => {
        for (const call of [1, 2, 3]) { // every plan has more commands after these
          const { code, stderr } = await faults.run(
            "sudo is denied from then on",
            call,
            ...args("enable"),
          );
          assertEquals(code, 1);
          assertMatch(stderr, /^\[fishnet\] command failed/);
          const told = "this could not be undone; when the cause is gone, run:\n";
          assert(stderr.includes(told), stderr);
          assertNotEquals(await world.state(), unlocked);
          await world.must("sh", "-ec", stderr.split(told)[1]!);
          assertEquals(await world.state(), unlocked, `call ${call}: ${stderr}`);
        }
      },
    );

    await t.step(
      "each command of a disable fails: the account stays locked as it was",
      async () => {
        await change(world, "enable", agent, backend, "--only-port", "3777");
        const limited = await world.state();
        for (let call = 1; call <= disableCalls; call++) {
          const fault = call % 2 === 0
            ? "fails before it has done its work"
            : "fails after it has done its work";
          const { code, stderr } = await faults.run(fault, call, ...args("disable"));
          assertEquals(code, 1);
          assertEquals(sorted(await world.state()), sorted(limited), `call ${call}: ${stderr}`);
          assertMatch(stderr, /nothing was changed\n$/);
        }
        await change(world, "disable", agent, backend);
        assertEquals(await world.state(), unlocked);
      },
    );

    await t.step(
      "an enable that fails opens nothing of a lock that was there in part",
      async () => {
        await change(world, "enable", agent, backend);
        await damage(world);
        const partly = await world.state();
        assertNotEquals(partly, locked);
        await faults.clear();
        for (let call = 1; call <= 3; call++) {
          const { code, stderr } = await faults.run(
            "fails after it has done its work",
            call,
            ...args("enable"),
          );
          assertEquals(code, 1);
          assertEquals(await world.state(), partly, `call ${call}: ${stderr}`);
        }
        await change(world, "enable", agent, backend);
        assertEquals(sorted(await world.state()), sorted(locked));
      },
    );

    await t.step("what somebody else deleted meanwhile does not stop a disable", async () => {
      await damage(world);
      await change(world, "disable", agent, backend);
      assertEquals(await world.state(), unlocked);
    });
  }, variant);
}

/** Somebody deletes three pieces of a lock: one of the account, two of its subordinate range. */
async function damage(world: World): Promise<void> {
  const uidRanges = (await world.must("ip", "-6", "rule")).match(/uidrange \S+/g)!;
  for (const [family, range] of [["-4", uidRanges[1]!], ["-6", uidRanges[0]!]] as const) {
    await world.must("ip", family, "rule", "del", "pref", "77", ...range.split(" "), "prohibit");
  }
  const ranges = ["inet", "fishnet", "subordinate"];
  const { code, stdout } = await world.exec("nft", "list", "set", ...ranges);
  if (code !== 0) {
    await world.must("ip6tables", "-w", "-t", "mangle", "-D", "POSTROUTING", "1");
    return;
  }
  const [range] = stdout.match(/\d+-\d+/)!;
  await world.must("nft", "delete", "element", ...ranges, `{ ${range} }`);
}

/** A state whose lines may stand in any order: what one of them stops, it stops anywhere. */
function sorted(state: string): string[] {
  return state.split("\n").sort();
}

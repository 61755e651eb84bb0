/** What goes wrong half-way: all or nothing, and never less locked than before. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { Faults } from "../support/faults.ts";
import { lockIn, unlockIn } from "../support/inside.ts";
import { change, WAYS } from "../support/lock.ts";
import { Operator } from "../support/operator.ts";
import { program, type World, worldTest } from "../support/world.ts";

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
    assert(enableCalls >= 4 && disableCalls >= 4, `${enableCalls} ${disableCalls}`);

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
          assertMatch(stderr, /^\[fishnet\] command failed \(exit status 9\): sudo .*$/m);
          assertMatch(stderr, /^broken\nnothing was changed\n$/m);
          assertEquals(await world.state(), unlocked, `call ${call}: ${stderr}`);
        }
      });
    }

    await t.step(
      "a batch of routing rules that fails half-way is undone as far as it went",
      async () => {
        const fault = "fails at one of its lines";
        for (const call of [1, 2]) {
          const { code, stderr } = await faults.run(fault, call, ...args("enable"));
          assertEquals(code, 1);
          assertMatch(stderr, /^\[fishnet\] command failed .*: sudo ip -[46] -force -batch -$/m);
          assertEquals(await world.state(), unlocked, `call ${call}: ${stderr}`);
          assertMatch(stderr, /nothing was changed\n$/);
        }
        await lockIn(world, [agent], { backend });
        for (const call of [disableCalls - 1, disableCalls]) {
          const { code, stderr } = await faults.run(fault, call, ...args("disable"));
          assertEquals(code, 1);
          assertMatch(stderr, /^\[fishnet\] command failed .*: sudo ip -[46] -force -batch -$/m);
          assertEquals(await world.state(), locked, `call ${call}: ${stderr}`);
          assertMatch(stderr, /nothing was changed\n$/);
        }
        await unlockIn(world, agent);
        assertEquals(await world.state(), unlocked);
      },
    );

    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      await t.step(`${signal} at each command of an enable: nothing is changed`, async () => {
        for (let call = 1; call <= enableCalls; call++) {
          const { code, stderr } = await faults.run(signal, call, ...args("enable"));
          assertEquals(code, 1);
          assert(
            stderr.endsWith(`[fishnet] stopped by ${signal}\nnothing was changed\n`),
            stderr,
          );
          assertEquals(await world.state(), unlocked, `call ${call}`);
        }
      });
    }

    await t.step("SIGKILL at each command of an enable: nothing is changed", async () => {
      for (let call = 1; call <= enableCalls; call++) {
        await faults.run("SIGKILL", call, ...args("enable"));
        assertEquals(await world.state(), unlocked, `call ${call}`);
      }
    });

    await t.step("SIGKILL at each command of a disable: the account stays locked", async () => {
      await lockIn(world, [agent], { backend });
      for (let call = 1; call <= disableCalls; call++) {
        await faults.run("SIGKILL", call, ...args("disable"));
        assertEquals(await world.state(), locked, `call ${call}`);
      }
      await unlockIn(world, agent);
    });

    await t.step("SIGKILL while other ports are set: the old ones stay", async () => {
      await lockIn(world, [agent], { backend, onlyPorts: [3777] });
      const limited = await world.state();
      const other = [...args("enable"), "--only-port", "53"];
      await faults.clear();
      assertEquals((await world.fishnet(...other)).code, 0);
      const calls = await faults.calls();
      await unlockIn(world, agent);
      await lockIn(world, [agent], { backend, onlyPorts: [3777] });
      for (let call = 1; call <= calls; call++) {
        await faults.run("SIGKILL", call, ...other);
        assertEquals(await world.state(), limited, `call ${call}`);
      }
      await unlockIn(world, agent);
      assertEquals(await world.state(), unlocked);
    });

    await t.step("the undo fails, too: the lines left over are told, and mend it", async () => {
      for (const call of [2, 3]) {
        const { code, stderr } = await faults.run("fails from then on", call, ...args("enable"));
        assertEquals(code, 1);
        assertMatch(stderr, /^\[fishnet\] command failed/m);
        const told = "this could not be undone; when the cause is gone, run:\n";
        assert(stderr.includes(told), stderr);
        assertNotEquals(await world.state(), unlocked);
        const lines = stderr.split(told)[1]!.split("\n");
        const left = lines.filter((line) => /^this is (left|gone): /.test(line));
        assert(left.length > 0, stderr);
        const commands = lines.filter((line) => !left.includes(line)).join("\n");
        await world.must("sh", "-ec", commands);
        assertEquals(await world.state(), unlocked, `call ${call}: ${stderr}`);
      }
    });

    await t.step(
      "each command of a disable fails: the account stays locked as it was",
      async () => {
        await lockIn(world, [agent], { backend, onlyPorts: [3777] });
        const limited = await world.state();
        for (let call = 1; call <= disableCalls; call++) {
          const fault = call % 2 === 0
            ? "fails before it has done its work"
            : "fails after it has done its work";
          const { code, stderr } = await faults.run(fault, call, ...args("disable"));
          assertEquals(code, 1);
          assertEquals(await world.state(), limited, `call ${call}: ${stderr}`);
          assertMatch(stderr, /nothing was changed\n$/);
        }
        await unlockIn(world, agent);
        assertEquals(await world.state(), unlocked);
      },
    );

    await t.step(
      "an enable that fails opens nothing of a lock that was there in part",
      async () => {
        await lockIn(world, [agent], { backend });
        await damage(world);
        const partly = await world.state();
        assertNotEquals(partly, locked);
        await faults.clear();
        for (let call = 1; call <= 3; call++) {
          const fault = "fails after it has done its work";
          const { code, stderr } = await faults.run(fault, call, ...args("enable"));
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

worldTest("a move of shadowed rules that fails leaves each copy where it stood", async (world) => {
  const agent = await world.account();
  const faults = await Faults.in(world);
  await lockIn(world, [agent], { backend: "iptables" });
  const places = [["mangle", "POSTROUTING"], ["filter", "OUTPUT"]] as const;
  for (const iptables of ["iptables", "ip6tables"]) {
    for (const [table, chain] of places) {
      const call = [iptables, "-t", table] as const;
      const rules = (await world.must(...call, "-S", chain)).match(
        /(?<=^-A ).*--uid-owner \d+ .*/gm,
      );
      // A copy of each, and somebody's rules above and between them.
      for (const rule of rules!) {
        await world.must(...call, "-I", ...rule.replaceAll('"', "").split(" "));
        await world.must(...call, "-I", chain, "-m", "mark", "--mark", "7", "-j", "ACCEPT");
      }
    }
  }
  const before = await world.state();
  const enable = ["firewall", "enable", "--agent-user", agent, "--apply"];
  for (const when of ["before", "after"] as const) {
    for (let call = 1; call <= 4; call++) {
      const fault = `fails ${when} it has done its work` as const;
      const { stderr } = await faults.run(fault, call, ...enable);
      assertEquals(await world.state(), before, `${fault}, call ${call}: ${stderr}`);
      assertMatch(stderr, /^broken\nnothing was changed\n$/m);
    }
  }
});

worldTest("100 SIGKILLs at random moments: each leaves all or nothing", async (world) => {
  const agent = await world.account();
  const states: Record<string, string> = { unlocked: await world.state() };
  const start = performance.now();
  await change(world, "enable", agent, "iptables");
  let duration = performance.now() - start;
  states.locked = await world.state();
  const seen = { locked: 0, unlocked: 0 };
  for (let i = 0; i < 100; i++) {
    const action = await world.state() === states.locked ? "disable" : "enable";
    const [name, ...rest] = world.command(
      ...[...program(), "firewall", action, "--agent-user", agent, "--apply"],
    );
    const child = new Deno.Command(name!, {
      args: rest,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const begin = performance.now();
    const moment = duration * (0.2 + Math.random());
    const timer = setTimeout(() => {
      try {
        child.kill("SIGKILL");
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // it has ended by itself in this very moment
      }
    }, moment);
    const { success } = await child.status;
    clearTimeout(timer);
    // How long a run takes changes with what else the machine does: none that ends may be too long now.
    duration = success ? performance.now() - begin : duration * 1.02;
    await world.settled();
    const state = await world.state();
    const which = (["locked", "unlocked"] as const).find((one) => states[one] === state);
    assert(which !== undefined, `${action}, killed after ${moment} ms:\n${state}`);
    seen[which!]++;
  }
  assert(seen.locked > 0 && seen.unlocked > 0, JSON.stringify(seen));
});

worldTest(
  "a terminal that is closed half-way, where sudo asks for a password each time",
  async (world) => {
    const agent = await world.account();
    await using operator = await Operator.in(world);
    await operator.allow("ALL", "timestamp_timeout=0");
    const unlocked = await world.state();
    const args = ["firewall", "enable", "--agent-user", agent, "--apply"];
    const password: readonly [string, string] = ["password for .*: ", `${operator.password}\r`];

    const { code, shown } = await operator.onTerminal([password], args);
    assertEquals(code, 0, shown);
    assertEquals(shown.match(/password for /g)?.length, 1, "one prompt, for all commands");
    const locked = await world.state();
    assertNotEquals(locked, unlocked);
    await unlockIn(world, agent);

    for (const at of ["sudo ip -4", "-I POSTROUTING 1 -m owner", "-I OUTPUT 1 -m owner"]) {
      await operator.onTerminal([password, [at, "\x04hang up"]], args);
      await world.settled();
      const state = await world.state();
      assert([unlocked, locked].includes(state), `closed at ${at}:\n${state}`);
      await unlockIn(world, agent);
      assertEquals(await world.state(), unlocked);
    }
  },
);

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

/**
 * A hostile account beside root: whatever it does, all at once, changes no verdict, no warning and
 * no byte of the terminal, and costs seconds at most; and nothing is ever run as it.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Verification } from "../../src/lock/judge.ts";
import { Operator } from "../support/operator.ts";
import { linesOf, must } from "../support/process.ts";
import { PYTHON, type World, worldTest } from "../support/world.ts";

const HOSTILE = await Deno.readTextFile(new URL("../support/hostile.py", import.meta.url));
const UID_EVENTS = new URL("../support/uid_events.py", import.meta.url).pathname;

/** Runs something beside the hostile program; returns that program's own account of it. */
async function beside(
  world: World,
  agent: string,
  how: "quiet" | "loud",
  action: () => Promise<void>,
): Promise<Record<string, number | string[]>> {
  const program = world.start(world.commandAs(agent, PYTHON, "-c", HOSTILE, how), {
    stdin: "piped",
  });
  const lines = linesOf(program.stdout);
  assertEquals((await lines.read()).value, "ready");
  await action();
  const writer = program.stdin.getWriter();
  await writer.write(new TextEncoder().encode("\n"));
  await writer.close();
  const { value } = await lines.read();
  await program.status;
  await lines.cancel();
  return JSON.parse(value!);
}

/** What a person sees of the commands, and what a program reads of them. */
async function look(operator: Operator, agent: string) {
  const seconds: number[] = [];
  const timed = async <T>(promise: Promise<T>): Promise<T> => {
    const began = performance.now();
    const result = await promise;
    seconds.push((performance.now() - began) / 1000);
    return result;
  };
  const args = (command: string) => ["firewall", command, "--agent-user", agent];
  const json = async (command: string) => {
    const { code, stdout } = await timed(operator.run(...args(command), "--json"));
    return { code, ...JSON.parse(stdout) };
  };
  const terminal = async (command: string, ...more: string[]) =>
    (await timed(operator.onTerminal([], [...args(command), ...more]))).shown;
  const status = await json("status");
  const verified: Verification & { code: number } = await json("verify")
    .then(({ code, accounts }) => ({ code, ...accounts[0] }));
  const shown = {
    status: await terminal("status"),
    verify: await terminal("verify"),
    enable: await terminal("enable", "--apply"),
  };
  return { status, verified, shown, slowest: Math.max(...seconds) };
}

worldTest(
  "an account that traces, kills, stops, floods, lies and forges, all at once, changes nothing",
  async (world) => {
    const agent = await world.account();
    await using operator = await Operator.in(world);
    await operator.allow("NOPASSWD: ALL");
    const { code, stderr } = await operator.run(
      ...["firewall", "enable", "--agent-user", agent, "--apply"],
    );
    assertEquals(code, 0, stderr);
    let quiet: Awaited<ReturnType<typeof look>> | undefined;
    await beside(world, agent, "quiet", async () => {
      quiet = await look(operator, agent);
    });
    assertEquals([quiet!.status.code, quiet!.verified.code], [0, 0], JSON.stringify(quiet));
    let loud: Awaited<ReturnType<typeof look>> | undefined;
    const achieved = await beside(world, agent, "loud", async () => {
      loud = await look(operator, agent);
    });

    assertEquals(loud!.verified, quiet!.verified);
    assertEquals(loud!.status, quiet!.status);
    assertEquals(loud!.shown, quiet!.shown);
    for (const shown of Object.values(loud!.shown)) {
      // deno-lint-ignore no-control-regex -- our own colours, and the line that shows progress
      const own = shown.replace(/\x1b\[\d{1,2}m|\r\n|\r\x1b\[K/g, "");
      assertMatch(own, /^[^\p{Cc}\p{Cf}]*$/u);
    }
    assert(
      loud!.slowest < 15 + quiet!.slowest,
      `${loud!.slowest} s, and ${quiet!.slowest} s undisturbed`,
    );
    const { traced, signalled, read, rounds, named, flooded, seen } = achieved;
    assertEquals({ traced, signalled, read }, { traced: [], signalled: [], read: [] });
    for (const [what, count] of Object.entries({ rounds, named, flooded, seen })) {
      assert(Number(count) > 0, `the hostile program did nothing: ${what}`);
    }
  },
);

/** A uid that nobody has, for the end of a listing. */
const MARK_UID = 4_000_000_001;

worldTest("no command ever starts a process with the account's real uid", async (world) => {
  // The whole machine is watched, and a container on it may have the next free uid.
  const uid = `${world.firstUid}`;
  const agent = await world.account({ args: ["--uid", uid] });
  const watched = async (action: () => Promise<unknown>): Promise<string[]> => {
    const watcher = world.start([PYTHON, UID_EVENTS, `${MARK_UID}`], { stdin: "piped" });
    const lines = linesOf(watcher.stdout);
    assertEquals((await lines.read()).value, "listening");
    await action();
    const writer = watcher.stdin.getWriter();
    await writer.write(new TextEncoder().encode("\n"));
    await writer.close();
    const changes: string[] = [];
    for (let line = await lines.read(); !line.done; line = await lines.read()) {
      changes.push(line.value);
    }
    assertEquals((await watcher.status).code, 0, "the watcher missed something");
    return changes;
  };
  const of = (changes: readonly string[], which: 0 | 1) =>
    changes.filter((change) => change.split(" ")[which] === uid);
  const control = await watched(() => must("sudo", "-u", agent, "true"));
  assert(of(control, 0).length > 0, "the control: a process that sudo runs as the account");
  const runs: readonly (readonly string[])[] = [
    ["enable", "--apply"],
    ["status"],
    ["verify"],
    ["disable", "--apply"],
  ];
  for (const [command, ...more] of runs) {
    const changes = await watched(() =>
      world.fishnet("firewall", command!, "--agent-user", agent, ...more)
    );
    assertEquals(of(changes, 0), [], command);
    if (command === "verify") {
      assert(of(changes, 1).length > 0, "its tries have that effective uid");
    }
  }
});

/** Uids that adjoin share a routing rule: what the rules hold is always what the accounts hold. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import * as fc from "fast-check";
import { routingHolds } from "../../src/linux/routing.ts";
import type { UidRange } from "../../src/linux/uid_range.ts";
import { type Step, undoOf } from "../../src/plan.ts";
import { attempt, change, serve, WAYS } from "../support/lock.ts";
import { must } from "../support/process.ts";
import { OUTSIDE_V4, OUTSIDE_V6, type World, worldTest } from "../support/world.ts";

/** The ranges of the routing rules, as the kernel has them, in ascending order. */
async function ruled(world: World, family: 4 | 6): Promise<UidRange[]> {
  const rules = await world.must("ip", `-${family}`, "rule", "show", "pref", "77");
  return [...rules.matchAll(/from all uidrange (\d+)-(\d+) prohibit/g)]
    .map(([, first, last]) => ({ first: Number(first), last: Number(last) }))
    .sort((a, b) => a.first - b.first);
}

/** The fewest ranges that hold the same uids. */
function merged(uids: ReadonlySet<number>): UidRange[] {
  const starts = [...uids].filter((uid) => !uids.has(uid - 1)).sort((a, b) => a - b);
  return starts.map((first) => {
    let last = first;
    while (uids.has(last + 1)) last++;
    return { first, last };
  });
}

async function runStep(world: World, line: string): Promise<string[]> {
  const printed = (await world.must("sh", "-ec", line)).trim();
  return printed === "" ? [] : printed.split("\n");
}

worldTest(
  "routing rules: after any locks, unlocks and undos, the fewest that hold just the locked uids",
  async (world) => {
    const first = world.firstUid;
    // Accounts that adjoin, with a gap before the last; their ranges adjoin and overlap their own.
    const accounts = [0, 1, 2, 3, 5].map((i) => ({
      name: `routed${i}`,
      uid: first + i,
      ranges: [first + 100 + i * 10, first + 105 + i * 10].map((uid) => ({
        first: uid,
        last: uid + (uid % 10 < 5 ? 6 : 4),
      })),
    }));
    await Deno.writeTextFile(
      `/etc/netns/${world.inside}/subuid`,
      accounts.flatMap(({ name, ranges }) =>
        ranges.map(({ first, last }) => `${name}:${first}:${last - first + 1}\n`)
      ).join(""),
    );
    const uidsOf = (locked: ReadonlySet<number>) =>
      new Set(
        [...locked].flatMap((i) => {
          const { uid, ranges } = accounts[i]!;
          return [uid, ...ranges.flatMap((range) => uidsIn(range))];
        }),
      );
    const expectRules = async (locked: ReadonlySet<number>) => {
      for (const family of [4, 6] as const) {
        assertEquals(await ruled(world, family), merged(uidsOf(locked)), `IPv${family}`);
      }
    };
    const change = fc.record({
      account: fc.nat({ max: accounts.length - 1 }),
      action: fc.constantFrom("take" as const, "release" as const),
      undone: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 3, maxLength: 10 }), async (changes) => {
        let locked: ReadonlySet<number> = new Set<number>();
        for (const { account, action, undone } of changes) {
          const others = [...locked].filter((i) => i !== account).flatMap((i) => [
            `${accounts[i]!.uid}`,
            ...accounts[i]!.ranges.map(({ first, last }) => `${first}-${last}`),
          ]);
          const [hold] = routingHolds(accounts[account]!, {
            recorded: ":",
            others: `echo ${others.join(" ")}`,
          });
          const step: Step = hold![action]!;
          const printed = await runStep(world, step.run);
          const after = new Set(locked);
          if (action === "take") after.add(account);
          else after.delete(account);
          await expectRules(after);
          if (undone && printed.length > 0) {
            for (const line of undoOf(step, printed)) await runStep(world, line);
            await expectRules(locked);
          } else locked = after;
        }
        for (const { name, uid } of accounts) {
          const [hold] = routingHolds({ name, uid }, { recorded: ":", others: ":" });
          await runStep(world, hold!.release!.run);
        }
        await expectRules(new Set());
      }),
      { numRuns: 12 },
    );
  },
);

function uidsIn({ first, last }: UidRange): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

for (const { backend, variant, label } of WAYS) {
  worldTest(
    `${label}: accounts made in a row share their routing rules, and each is let go alone`,
    async (world) => {
      const names = [];
      for (let i = 0; i < 3; i++) names.push(await world.account());
      const [low, middle, high] = names as [string, string, string];
      await serve(world, "outside");
      const before = await world.state();
      const uids: number[] = [];
      for (const name of names) uids.push(Number(await must("id", "-u", name)));
      await change(world, "enable", low, backend);
      const one = await world.state();
      await change(world, "enable", high, backend);
      await change(world, "enable", middle, backend);
      const owns = (await ruled(world, 4)).filter(({ first }) => first === uids[0]);
      assertEquals(owns, [{ first: uids[0]!, last: uids[2]! }], "useradd made them in a row");
      await change(world, "disable", middle, backend);
      for (const [address, filter] of [[OUTSIDE_V4, "ip"], [OUTSIDE_V6, "ip6"]] as const) {
        const frames = (account: string) =>
          world.captured(`${filter} and udp`, () => attempt(world, account, "udp", address));
        assert((await frames(middle)).length > 0, "the control: the one that was let go");
        assertEquals(await frames(low), []);
        assertEquals(await frames(high), []);
      }
      await change(world, "disable", high, backend);
      const lines = (state: string) => state.split("\n").sort();
      assertEquals(lines(await world.state()), lines(one));
      await change(world, "disable", low, backend);
      assertEquals(await world.state(), before);
    },
    variant,
  );
}

worldTest(
  "two accounts whose ranges overlap in part do not free each other's uids",
  async (world) => {
    // --apply refuses such accounts, but pasted lines look at nothing.
    const [agent, second] = [await world.account(), await world.account()];
    const first = world.firstUid;
    await world.subordinate(`${agent}:${first}:100`, `${second}:${first + 50}:100`);
    const before = await world.state();
    const lines = async (action: "enable" | "disable", name: string) => {
      const { stdout } = await world.fishnet("firewall", action, "--agent-user", name);
      return stdout.split("\n").filter((line) => line.startsWith("  ")).join("\n");
    };
    await world.must("sh", "-ec", await lines("enable", agent));
    await world.must("sh", "-ec", await lines("enable", second));
    await world.must("sh", "-ec", await lines("disable", second));
    for (const uid of [first, first + 49, first + 50, first + 99]) {
      const { code, stderr } = await world.exec(
        ...["ip", "route", "get", OUTSIDE_V4, "uid", `${uid}`],
      );
      assertEquals(code, 2, `${uid}`);
      assertMatch(stderr, /Permission denied/);
    }
    await world.must("ip", "route", "get", OUTSIDE_V4, "uid", "0");
    await world.must("sh", "-ec", await lines("disable", agent));
    await world.must("sh", "-ec", await lines("disable", second));
    assertEquals(await world.state(), before);
  },
);

worldTest(
  "nftables: subordinate uids among those of ordinary accounts are refused, and nothing is changed",
  async (world) => {
    const agent = await world.account();
    await world.subordinate(`${agent}:60100:10`);
    const before = await world.state();
    const args = ["firewall", "enable", "--agent-user", agent, "--apply"];
    const { code, stderr } = await world.fishnet(...args, "--backend", "nftables");
    assertEquals(code, 1);
    assertMatch(
      stderr,
      /subordinate uids below 65536 need --backend iptables\nnothing was changed\n$/,
    );
    assertEquals(await world.state(), before);
    const other = await world.fishnet(...args);
    assertEquals(other.code, 0, other.stderr);
    const { code: dropped } = await world.exec(
      ...["sh", "-c", "iptables -w -t mangle -S POSTROUTING | grep -q 'uid-owner 60100-60109 '"],
    );
    assertEquals(dropped, 0);
  },
);

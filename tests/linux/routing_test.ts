/** Uids that adjoin share a routing rule: what the rules hold is always what the accounts hold. */
import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { added, cut } from "../../src/linux/routing.ts";
import type { UidRange } from "../../src/lock/uid_range.ts";
import { lockIn, unlockIn } from "../support/inside.ts";
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

function uidsIn({ first, last }: UidRange): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** Five accounts: some adjoin, and so do their ranges, of which some overlap. */
const ACCOUNTS = [0, 1, 2, 3, 5].map((i) => [
  { first: i, last: i },
  { first: 100 + i * 10, last: 106 + i * 10 },
  { first: 105 + i * 10, last: 109 + i * 10 },
]);

Deno.test("routing rules: after any locks and unlocks, the fewest that hold just the locked uids", () => {
  const change = fc.record({
    account: fc.nat({ max: ACCOUNTS.length - 1 }),
    action: fc.constantFrom("lock" as const, "unlock" as const),
  });
  const uidsOf = (accounts: ReadonlySet<number>) =>
    new Set([...accounts].flatMap((i) => ACCOUNTS[i]!.flatMap(uidsIn)));
  const byFirst = (ranges: readonly UidRange[]) => ranges.toSorted((a, b) => a.first - b.first);
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      let there: UidRange[] = [];
      const locked = new Set<number>();
      for (const { account, action } of changes) {
        const { add, del } = action === "lock"
          ? added(there, ACCOUNTS[account]!)
          : cut(there, ACCOUNTS[account]!);
        // What stays held is held throughout: the new rules come before the old ones go.
        const both = new Set([...there, ...add].flatMap(uidsIn));
        there = [...there.filter((range) => !del.includes(range)), ...add];
        if (action === "lock") locked.add(account);
        else locked.delete(account);
        for (const uid of uidsOf(locked)) if (!both.has(uid)) throw new Error(`${uid} was open`);
        assertEquals(byFirst(there), merged(uidsOf(locked)));
      }
    }),
    { numRuns: 2000 },
  );
});

for (const { backend, variant, label } of WAYS) {
  worldTest(
    `${label}: accounts made in a row share their routing rules, and each is let go alone`,
    async (world) => {
      const names: string[] = [];
      // In a row, whatever accounts other tests make meanwhile.
      for (let i = 0; i < 3; i++) {
        names.push(await world.account({ args: ["--uid", `${world.firstUid + i}`] }));
      }
      const [low, middle, high] = names as [string, string, string];
      await serve(world, "outside");
      const before = await world.state();
      const uids: number[] = [];
      for (const name of names) uids.push(Number(await must("id", "-u", name)));
      await lockIn(world, [low], { backend });
      const one = await world.state();
      await lockIn(world, [high], { backend });
      await change(world, "enable", middle, backend);
      const owns = (await ruled(world, 4)).filter(({ first }) => first === uids[0]);
      assertEquals(owns, [{ first: uids[0]!, last: uids[2]! }], "they are in a row");
      await change(world, "disable", middle, backend);
      for (const [address, filter] of [[OUTSIDE_V4, "ip"], [OUTSIDE_V6, "ip6"]] as const) {
        const frames = (account: string) =>
          world.captured(`${filter} and udp`, () => attempt(world, account, "udp", address));
        assert((await frames(middle)).length > 0, "the control: the one that was let go");
        assertEquals(await frames(low), []);
        assertEquals(await frames(high), []);
      }
      await unlockIn(world, high);
      const lines = (state: string) => state.split("\n").sort();
      assertEquals(lines(await world.state()), lines(one));
      await unlockIn(world, low);
      assertEquals(await world.state(), before);
    },
    variant,
  );
}

worldTest(
  "iptables: subordinate uids among those of ordinary accounts are locked",
  async (world) => {
    const agent = await world.account();
    await world.subordinate(`${agent}:60100:10`);
    await lockIn(world, [agent], { backend: "iptables" });
    const { code: dropped } = await world.exec(
      ...["sh", "-c", "iptables -w -t mangle -S POSTROUTING | grep -q 'uid-owner 60100-60109 '"],
    );
    assertEquals(dropped, 0);
  },
);

worldTest(
  "rules that stand before ours are moved, all of them, as often as they come",
  async (world) => {
    const agent = await world.account();
    await change(world, "enable", agent, "iptables");
    const status = async () => {
      const words = ["firewall", "status", "--agent-user", agent, "--json"];
      return JSON.parse((await world.fishnet(...words)).stdout).accounts[0];
    };
    for (let times = 0; times < 2; times++) {
      for (const preference of ["5", "6"]) {
        await world.must("ip", "rule", "add", "pref", preference, "lookup", "main");
      }
      const enable = ["firewall", "enable", "--agent-user", agent, "--apply"];
      const { code, stderr } = await world.fishnet(...enable);
      assertEquals(code, 3, "enable does not mend it, and says so");
      assert(
        stderr.includes("not whole (partial)") && !stderr.includes("already in force"),
        stderr,
      );
      const { stdout } = await world.fishnet(...enable, "--json");
      assertEquals(JSON.parse(stdout).accounts.map(({ state }: { state: string }) => state), [
        "partial",
      ]);
      const { pieces } = await status();
      const [fault] = pieces.filter(({ present }: { present: boolean }) => !present);
      assertEquals(
        fault.detail,
        "shadowed by an earlier rule: 5: from all lookup main, 6: from all lookup main",
      );
      await world.must("sh", "-ec", fault.remedy.replaceAll("sudo ", ""));
      assertEquals((await status()).state, "locked");
    }
  },
);

worldTest(
  "a rule before ours for a device that is gone is moved as well, without what ip adds to it",
  async (world) => {
    const agent = await world.account();
    await change(world, "enable", agent, "iptables");
    const words = ["firewall", "status", "--agent-user", agent, "--json"];
    const status = async () => JSON.parse((await world.fishnet(...words)).stdout).accounts[0];
    await world.must("ip", "rule", "add", "pref", "5", "oif", "tun7", "lookup", "main");
    await world.must("ip", "rule", "add", "pref", "6", "goto", "200");
    // A name that a shell would obey is a word.
    await world.must("ip", "rule", "add", "pref", "7", "oif", "a;id&$(id)", "lookup", "main");
    const { pieces } = await status();
    const [fault] = pieces.filter(({ present }: { present: boolean }) => !present);
    await world.must("sh", "-ec", fault.remedy.replaceAll("sudo ", ""));
    assertEquals((await status()).state, "locked");
  },
);

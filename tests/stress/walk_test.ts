/**
 * A walk of random steps: locks come, change and go, and somebody else breaks them, beside rules of
 * others. After each step every account is what was asked for last; in the end nothing is left.
 */
import { assert, assertEquals } from "@std/assert";
import { statusOf } from "../support/inside.ts";
import { must, run } from "../support/process.ts";
import { type World, worldTest } from "../support/world.ts";

/** How many walks, and of how many steps each; FISHNET_SEED takes other ones. */
const [WALKS, STEPS] = [3, 30];
const FIRST_SEED = Number(Deno.env.get("FISHNET_SEED") ?? 1);

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Somebody else's rules, in the places that ours stand in; one is of a uid that gets locked. */
const THEIRS = (uid: string) =>
  `*mangle
:theirs - [0:0]
-A OUTPUT -j theirs
-A POSTROUTING -p tcp -j MARK --set-xmark 0x9/0xffffffff
-A theirs -m owner --uid-owner ${uid} -m comment --comment "not \\"ours\\"" -j DSCP --set-dscp 0x01
COMMIT
*filter
:theirs - [0:0]
-A OUTPUT -j theirs
-A theirs -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`;

type Locks = Map<string, { backend: string; onlyPorts: readonly number[] }>;

/** What somebody does to rules of ours; what it says is told where the walk fails. */
type Breaking = (world: World, pick: <T>(some: readonly T[]) => T) => Promise<string>;

const TOOLS = ["iptables", "ip6tables"] as const;

const rulesOf = async (world: World, tool: string) => {
  let table = "";
  return (await world.must(`${tool}-save`)).split("\n").flatMap((line) => {
    if (line.startsWith("*")) table = line.slice(1);
    const isOurs = /^-A (?!theirs).*(--uid-owner|fishnet)/.test(line);
    return isOurs ? [`${tool} -w -t ${table} ${line}`] : [];
  });
};

const BREAKINGS: Readonly<Record<string, Breaking>> = {
  async "a rule is deleted, or moved behind the others"(world, pick) {
    const rules = await rulesOf(world, pick(TOOLS));
    if (rules.length === 0) return "";
    const rule = pick(rules);
    const commands = [rule.replace(" -A ", " -D "), ...pick([[], [rule]])];
    for (const command of commands) await world.must("sh", "-c", command);
    return commands.join("; ");
  },
  async "a routing rule is deleted"(world, pick) {
    const family = pick(["-4", "-6"]);
    const rules = await world.must("ip", family, "rule", "show", "pref", "77");
    const range = pick([...rules.matchAll(/uidrange (\S+)/g)].map(([, range]) => range!));
    if (range === undefined) return "";
    const rule = ["pref", "77", "uidrange", range, "prohibit"];
    await world.must("ip", family, "rule", "del", ...rule);
    return `${family} ${range}`;
  },
  async "our chain is emptied"(world, pick) {
    const [tool, table] = [pick(TOOLS), pick(["mangle", "filter"])];
    await world.exec(tool, "-w", "-t", table, "-F", "fishnet");
    return `${tool} ${table}`;
  },
  async "a set is emptied"(world, pick) {
    const set = pick(["fishnet locked", "fishnet subordinate", "fishnet_loopback narrowed"]);
    await world.exec("nft", "flush", "set", "inet", ...set.split(" "));
    return set;
  },
  async "a table is deleted"(world, pick) {
    const table = pick(["fishnet", "fishnet_loopback"]);
    await world.exec("nft", "delete", "table", "inet", table);
    return table;
  },
};

worldTest(
  "random steps: all is as it was asked for last, and in the end as before",
  async (world) => {
    const names = [await world.account(), await world.account(), await world.account()];
    const first = world.firstUid;
    // Ranges that adjoin, overlap, and hold one uid.
    const ranges = [[0, 0, 100], [0, 50, 100], [1, 150, 50], [2, 200, 1]] as const;
    await world.subordinate(
      ...ranges.map(([i, at, count]) => `${names[i]}:${first + at}:${count}`),
    );
    const uid = (await must("id", "-u", names[0]!)).trim();
    for (const tool of TOOLS) {
      const input = THEIRS(uid);
      assertEquals((await run(world.command(`${tool}-restore`), { input })).code, 0);
    }
    const others = async () =>
      (await world.must("iptables-save")).match(/^-A .*theirs.*$|MARK.*$/gm);
    const before = [await world.state(), await others()];
    for (let walk = 0; walk < WALKS; walk++) {
      const seed = FIRST_SEED + walk;
      const random = randomOf(seed);
      const pick = <T>(some: readonly T[]) => some[Math.floor(random() * some.length)]!;
      const some = () => names.filter(() => random() < 0.5);
      const told: string[] = [];
      const said = () => `seed ${seed}:\n${told.join("\n")}`;
      const change = async (action: string, on: readonly string[], ...more: string[]) => {
        const words = [...on.flatMap((name) => ["--agent-user", name]), ...more];
        told.push(`${action} ${words.join(" ")}`);
        const { code, stderr } = await world.fishnet("firewall", action, ...words, "--apply");
        assertEquals(code, 0, `${said()}\n${stderr}`);
      };
      const locks: Locks = new Map();
      const enable = async (on: readonly string[]) => {
        const backend = pick([undefined, "iptables", "nftables"]);
        const onlyPorts = pick([[], [], [3777], [53, 3777]]);
        for (const name of on) {
          const was = locks.get(name) ?? { backend: "iptables", onlyPorts: [] };
          locks.set(name, {
            backend: backend ?? was.backend,
            onlyPorts: onlyPorts.length > 0 ? onlyPorts : was.onlyPorts,
          });
        }
        const ports = onlyPorts.flatMap((port) => ["--only-port", `${port}`]);
        await change("enable", on, ...backend ? ["--backend", backend] : [], ...ports);
      };
      for (let step = 0; step < STEPS; step++) {
        const on = some();
        const kind = random();
        if (kind < 0.4 && on.length > 0) await enable(on);
        else if (kind < 0.6 && on.length > 0) {
          on.forEach((name) => locks.delete(name));
          await change("disable", on);
        } else if (kind >= 0.6 && locks.size > 0) {
          const [name, breaking] = pick(Object.entries(BREAKINGS));
          told.push(`${name}: ${await breaking(world, pick)}`);
          // All that they had may be gone, and the one backend's rules be back: so both are said again.
          for (const [name, { backend, onlyPorts }] of locks) {
            const ports = onlyPorts.flatMap((port) => ["--only-port", `${port}`]);
            await change("enable", [name], "--backend", backend, ...ports);
          }
        }
        for (
          const { name, state, backend, onlyPorts } of (await statusOf(world, ...names)).accounts
        ) {
          const lock = locks.get(name);
          const is = state === "unlocked" ? undefined : { backend, onlyPorts };
          assertEquals(is, lock, said());
          assert(state === (lock ? "locked" : "unlocked"), `${name} is ${state}: ${said()}`);
        }
      }
      await change("disable", names);
      assertEquals([await world.state(), await others()], before, said());
    }
  },
);

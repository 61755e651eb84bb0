/**
 * `deno task bench`: every figure that README.md quotes, as a ratio against
 * something that runs beside it in the same run. Ends with 1 when a bound is missed.
 *
 *     deno task bench [--quick | --long]
 *
 * `--quick` measures less, for information. `--long` also applies plans for 1,000 accounts, which
 * takes most of an hour with iptables: each rule is one more for every later command to read.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { PORT, probe } from "../tests/support/lock.ts";
import { linesOf, must, run } from "../tests/support/process.ts";
import {
  OUTSIDE_V4,
  OUTSIDE_V6,
  program,
  PYTHON,
  whyNoWorld,
  World,
} from "../tests/support/world.ts";
import { compile, compileArguments, HOST } from "../packaging/compile.ts";
import { costOf, ratio, secondsOf, type Spread, spreadOf } from "./measure.ts";

const { quick, long } = parseArgs(Deno.args, { boolean: ["quick", "long"] }) as {
  quick: boolean;
  long: boolean;
};

/** How often a pair is measured, and how long traffic flows; the quick form is for information. */
const PAIRS = quick ? 15 : 21;
const TRAFFIC_PAIRS = quick ? 3 : 7;
const TRAFFIC_SECONDS = quick ? 0.3 : 1;
const LOCKED = quick ? [1, 10] : [1, 10, 100, 1000];
const APPLIED = quick ? [1, 10] : long ? [1, 10, 100, 1000] : [1, 10, 100];

/** As text, for accounts that may not read where the sources lie. */
const TRAFFIC = await Deno.readTextFile(new URL("traffic.py", import.meta.url));

interface Row {
  readonly what: string;
  readonly beside: string;
  readonly figure: string;
  readonly bound: string;
  readonly held: boolean;
}

const rows: Row[] = [];

function report(row: Row): void {
  rows.push(row);
  print(`${row.held ? "ok  " : "MISS"} ${row.what} | ${row.beside} | ${row.figure} | ${row.bound}`);
}

function print(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}

function text({ min, median, max }: Spread, digits = 2): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`;
}

/** A figure that has to stay at or below a bound; without one it is for information. */
function atMost(what: string, beside: string, spread: Spread, bound?: number, digits = 2): void {
  report({
    what,
    beside,
    figure: text(spread, digits),
    bound: bound === undefined ? "-" : `at most ${bound}`,
    held: bound === undefined || spread.median <= bound,
  });
}

function atLeast(what: string, beside: string, spread: Spread, bound?: number): void {
  report({
    what,
    beside,
    figure: text(spread),
    bound: bound === undefined ? "-" : `at least ${bound}`,
    held: bound === undefined || spread.median >= bound,
  });
}

/** Compiles the program as users get it, and beside it a hello-world with the same Deno. */
async function compileBoth(folder: string): Promise<{ binary: string; hello: string }> {
  const binary = await compile(HOST, folder);
  const [source, hello] = [`${folder}/hello.js`, `${folder}/hello`];
  await Deno.writeTextFile(source, 'console.log("hello");\n');
  await must(Deno.execPath(), ...compileArguments(source, hello));
  return { binary, hello };
}

const DRY_RUN = ["firewall", "enable", "--agent-user", "agent_runner"] as const;

async function startUp(binary: string, hello: string): Promise<void> {
  const dryRun = secondsOf(binary, ...DRY_RUN);
  atMost("dry-run, wall time", "hello-world", await ratio(PAIRS, dryRun, secondsOf(hello)), 1.15);
  const memory = await ratio(
    5,
    async () => (await costOf([binary, ...DRY_RUN])).kib,
    async () => (await costOf([hello])).kib,
  );
  atMost("dry-run, peak memory", "hello-world", memory, 1.2);
  // Two medians of one and the same thing differ by some hundredths: that much is no slowness.
  const noSlower = 1.05;
  for (
    const [what, args] of [
      ["--help", ["firewall", "enable", "--help"]],
      ["a wrong option", ["firewall", "enable", "--aply"]],
    ] as const
  ) {
    atMost(what, "dry-run", await ratio(PAIRS, secondsOf(binary, ...args), dryRun), noSlower);
  }
  for (
    const other of [
      ["ufw", "--dry-run", "enable"],
      ["firewall-cmd", "--version"],
      ["nft", "list", "ruleset"],
    ]
  ) {
    if (await has(other[0]!)) {
      atMost("dry-run", other.join(" "), await ratio(5, dryRun, secondsOf(...other)));
    }
  }
}

async function has(tool: string): Promise<boolean> {
  const { success } = await new Deno.Command("sh", { args: ["-c", `command -v ${tool}`] }).output();
  return success;
}

async function size(binary: string, hello: string): Promise<void> {
  const bytes = async (file: string) => (await Deno.stat(file)).size;
  const packed = async (file: string) =>
    Number((await must("sh", "-c", `gzip -9 <"${file}" | wc -c`)).trim());
  const of = (a: number, b: number) => spreadOf([a / b]);
  atMost("binary, size", "hello-world", of(await bytes(binary), await bytes(hello)), 1.03, 3);
  const compressed = of(await packed(binary), await packed(hello));
  atMost("binary, gzip -9", "hello-world", compressed, undefined, 3);
}

/** The accounts of a world here: uids in a row, and ranges in a row, as useradd gives them. */
const FIRST_UID = 20_000;
const FIRST_SUBORDINATE = 10_000_000;
const RANGE = 65_536;

/**
 * Gives a world accounts of its own: `ip netns exec` lays these files over /etc/passwd and
 * /etc/subuid there, so that a thousand accounts come and go with the world.
 */
async function addAccounts(world: World, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, i) => `bench${i}`);
  const etc = `/etc/netns/${world.inside}`;
  await Deno.writeTextFile(
    `${etc}/passwd`,
    await Deno.readTextFile("/etc/passwd") +
      names.map((name, i) => `${name}:x:${FIRST_UID + i}:65534::/:/bin/sh\n`).join(""),
  );
  await Deno.writeTextFile(
    `${etc}/subuid`,
    names.map((name, i) => `${name}:${FIRST_SUBORDINATE + i * RANGE}:${RANGE}\n`).join(""),
  );
  return names;
}

const agentUsers = (names: readonly string[]) => names.flatMap((name) => ["--agent-user", name]);

async function linesOfPlan(binary: string, ...args: readonly string[]): Promise<string> {
  const document = JSON.parse(await must(binary, "firewall", ...args, "--json"));
  return document.steps.map(({ line }: { line: string }) => `${line}\n`).join("");
}

async function apply(binary: string, backend: string, count: number): Promise<void> {
  await using world = await World.create();
  const names = await addAccounts(world, count);
  const args = [...agentUsers(names), "--backend", backend];
  const file = await Deno.makeTempFile();
  const seconds = async (action: "enable" | "disable", way: "apply" | "sh") => {
    if (way === "apply") {
      return await secondsOf(...world.command(binary, "firewall", action, ...args, "--apply"))();
    }
    await Deno.writeTextFile(file, await linesOfPlan(binary, action, ...args));
    return await secondsOf(...world.command("sh", file))();
  };
  const ratios: Record<"enable" | "disable", number[]> = { enable: [], disable: [] };
  const pairs = count >= 100 ? 1 : quick ? 3 : 9; // a hundred accounts are long enough for one
  for (let i = 0; i < pairs; i++) {
    const times: Record<string, number> = {};
    for (const way of i % 2 === 0 ? ["apply", "sh"] as const : ["sh", "apply"] as const) {
      for (const action of ["enable", "disable"] as const) {
        times[`${action} ${way}`] = await seconds(action, way);
      }
    }
    for (const action of ["enable", "disable"] as const) {
      ratios[action].push(times[`${action} apply`]! / times[`${action} sh`]!);
    }
  }
  await Deno.remove(file);
  for (const action of ["enable", "disable"] as const) {
    const what = `${action} --apply, ${backend}, ${count} account(s)`;
    atMost(what, "the same lines in sh", spreadOf(ratios[action]), 1.5);
  }
}

async function refusal(backend: string): Promise<void> {
  await using world = await World.create();
  const agent = await world.account();
  await world.must(
    ...program(),
    ...["firewall", "enable", "--agent-user", agent],
    "--backend",
    backend,
    "--apply",
  );
  for (const vector of ["tcp", "udp", "mptcp"]) {
    for (const address of [OUTSIDE_V4, OUTSIDE_V6]) {
      const waits: number[] = [];
      for (let i = 0; i < 9; i++) {
        const { stdout } = await world.as(agent, ...probe(vector, address));
        const waited = /after ([0-9.]+) ms/.exec(stdout)?.[1];
        if (waited === undefined) throw new Error(`${vector} to ${address} was not refused`);
        waits.push(Number(waited));
      }
      const family = address === OUTSIDE_V4 ? "IPv4" : "IPv6";
      atMost(`refusal in ms, ${vector}, ${family}, ${backend}`, "-", spreadOf(waits), 5);
    }
  }
}

/**
 * Locks the accounts `from` to `to` in a few commands, with what `enable` would leave, where those
 * below are locked. That it is a lock, the program's own status has to say.
 */
async function lockMany(world: World, backend: string, from: number, to: number): Promise<void> {
  const all = [
    { first: FIRST_UID, uids: 1 },
    { first: FIRST_SUBORDINATE, uids: RANGE },
  ];
  // Accounts in a row share one routing rule, and their ranges another.
  const routing = all.flatMap(({ first, uids }) => {
    const rule = (verb: string, count: number) =>
      `rule ${verb} pref 77 uidrange ${first}-${
        first + count * uids - 1
      } prohibit protocol kernel\n`;
    return [rule("add", to), ...(from > 0 ? [rule("del", from)] : [])];
  }).join("");
  for (const family of ["-4", "-6"]) await feed(world, routing, "ip", family, "-batch", "-");
  const owners = Array.from({ length: to - from }, (_, i) => from + i).flatMap((i) =>
    all.map(({ first, uids }) => {
      const start = first + i * uids;
      return {
        name: `bench${i}`,
        uids: uids === 1 ? `${start}` : `${start}-${start + uids - 1}`,
        ranged: uids > 1,
      };
    })
  );
  if (backend === "nftables") {
    const first = `bench${from}`;
    await world.must(...program(), ...enableOne(first, backend));
    const others = owners.filter(({ name }) => name !== first);
    for (const [set, ranged] of [["locked", false], ["subordinate", true]] as const) {
      const elements = others.filter((owner) => owner.ranged === ranged)
        .map(({ name, uids }) => `${uids} comment "${name}"`);
      if (elements.length === 0) continue;
      const line = `add element inet fishnet ${set} { ${elements.join(", ")} }\n`;
      await feed(world, line, ...["nft", "-f", "-"]);
    }
  } else {
    const mangle = owners.map(({ name, uids }) =>
      `-I POSTROUTING 1 -m owner --uid-owner ${uids} ! -o lo -m comment --comment fishnet:${name} ` +
      "-j DROP\n"
    );
    const filter = owners.filter(({ ranged }) => !ranged).map(({ uids }) =>
      `-I OUTPUT 1 -m owner --uid-owner ${uids} ! -o lo -j REJECT\n`
    );
    const rules = ["*mangle\n", ...mangle, "COMMIT\n*filter\n", ...filter, "COMMIT\n"].join("");
    for (const command of ["iptables-restore", "ip6tables-restore"]) {
      await feed(world, rules, command, "--noflush");
    }
  }
  const { code, stdout } = await world.fishnet("firewall", "status");
  if (code !== 0) throw new Error(`not locked as enable would: ${stdout}`);
}

/** Runs a command inside that reads what it is to do, and has to succeed. */
async function feed(world: World, input: string, ...command: string[]): Promise<void> {
  const { code, stderr } = await run(world.command(...command), { input });
  if (code !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
}

const enableOne = (name: string, backend: string) => [
  ...["firewall", "enable", "--agent-user", name, "--backend", backend, "--apply"],
];

/** Traffic of `traffic.py`. */
const KINDS = ["udp", "tcp"] as const;

const HOOKS_ALONE = `table inet hooks {
  chain out { type filter hook output priority filter - 10; }
  chain post { type filter hook postrouting priority srcnat + 10; }
}
`;

async function bystanders(backend: string): Promise<void> {
  await using empty = await World.create();
  await using locked = await World.create();
  const bystander = await empty.account();
  await addAccounts(locked, LOCKED.at(-1)!);
  for (const world of [empty, locked]) {
    const child = world.start(
      ["ip", "netns", "exec", world.outside, PYTHON, "-c", TRAFFIC, "serve", `${PORT}`],
    );
    const lines = linesOf(child.stdout);
    await lines.read();
    lines.releaseLock();
  }
  const rate = (world: World, kind: string) => async () => {
    const seconds = `${TRAFFIC_SECONDS}`;
    const { code, stdout, stderr } = await world.as(
      bystander,
      ...[PYTHON, "-c", TRAFFIC, kind, OUTSIDE_V4, `${PORT}`, seconds],
    );
    if (code !== 0) throw new Error(`the bystander's ${kind} failed: ${stderr}`);
    return Number(stdout);
  };
  const withOne = new Map<string, number>();
  const besideEmpty = (kind: string) => ratio(TRAFFIC_PAIRS, rate(locked, kind), rate(empty, kind));
  const compare = async (count: number) => {
    for (const kind of KINDS) {
      const figures = await besideEmpty(kind);
      const what = `bystander's ${kind} rate, ${backend}, ${count} locked`;
      atLeast(what, "an empty ruleset", figures, count === 1 ? 0.95 : undefined);
      if (count === 1) withOne.set(kind, figures.median);
      const one = withOne.get(kind);
      if (backend !== "nftables" || count === 1 || one === undefined) continue;
      const { min, median, max } = figures;
      const beside = { min: min / one, median: median / one, max: max / one };
      atLeast(what, "the same with 1 locked", beside, 0.95);
    }
  };
  await compare(0);
  if (backend === "nftables") {
    // What any rule set costs, whatever it asks: the floor of the figures below.
    await feed(locked, HOOKS_ALONE, ...["nft", "-f", "-"]);
    for (const kind of KINDS) {
      const what = `bystander's ${kind} rate, two hooks without a rule`;
      atLeast(what, "an empty ruleset", await besideEmpty(kind));
    }
    await locked.must("nft", "delete", "table", "inet", "hooks");
  }
  let done = 0;
  for (const count of LOCKED) {
    await lockMany(locked, backend, done, count);
    done = count;
    await compare(count);
    if (count === 1000) await status(locked);
  }
}

async function status(world: World): Promise<void> {
  const { seconds } = await costOf(world.command(...program(), "firewall", "status", "--json"));
  atMost("status, 1000 accounts, seconds", "-", spreadOf([seconds]), 2);
}

function table(): string {
  const head = "| what | beside | median (least-most) | bound |\n|---|---|---|---|";
  return [
    head,
    ...rows.map((row) =>
      `| ${row.what} | ${row.beside} | ${row.figure} | ${row.bound}${
        row.held ? "" : " **missed**"
      } |`
    ),
  ].join("\n");
}

const why = whyNoWorld();
if (why !== undefined) {
  print(`bench: ${why}`);
  Deno.exit(1);
}
const { binary, hello } = await compileBoth(await Deno.makeTempDir());
Deno.env.set("FISHNET_BIN", binary); // what every `program()` below runs
await size(binary, hello);
await startUp(binary, hello);
for (const backend of ["iptables", "nftables"]) {
  await refusal(backend);
  for (const count of APPLIED) await apply(binary, backend, count);
  await bystanders(backend);
}
print(`\n${table()}`);
const missed = rows.filter(({ held }) => !held);
if (missed.length > 0) {
  print(`\n${missed.length} bound(s) missed`);
  Deno.exit(1);
}

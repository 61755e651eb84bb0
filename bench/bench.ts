/**
 * `deno task bench`: every figure that docs/measured.md quotes, as a ratio against
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
/** For how many accounts plans are applied; with iptables every rule is one more for each command. */
const APPLIED = {
  iptables: quick ? [1] : long ? [1, 10, 100, 1000] : [1, 10, 100],
  nftables: quick ? [1, 1000] : [1, 10, 100, 1000],
} as const;

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
  const applied: Record<"enable" | "disable", number[]> = { enable: [], disable: [] };
  const pairs = count >= 100 ? 1 : quick ? 3 : 9; // a hundred accounts are long enough for one
  for (let i = 0; i < pairs; i++) {
    const times: Record<string, number> = {};
    for (const way of i % 2 === 0 ? ["apply", "sh"] as const : ["sh", "apply"] as const) {
      for (const action of ["enable", "disable"] as const) {
        times[`${action} ${way}`] = await seconds(action, way);
      }
    }
    for (const action of ["enable", "disable"] as const) {
      applied[action].push(times[`${action} apply`]!);
      ratios[action].push(times[`${action} apply`]! / times[`${action} sh`]!);
    }
  }
  await Deno.remove(file);
  for (const action of ["enable", "disable"] as const) {
    const what = `${action} --apply, ${backend}, ${count} account(s)`;
    atMost(what, "the dry-run's lines in sh", spreadOf(ratios[action]));
    const bound = backend === "nftables" && count === 1000 ? 3 : undefined;
    if (count > 1) atMost(`${what}, seconds`, "-", spreadOf(applied[action]), bound);
  }
}

/** `enable` and `disable` of one account beside ufw, which adds and deletes one rule. */
async function besideUfw(binary: string, hello: string, backend: string): Promise<void> {
  await using world = await World.create();
  const [name] = await addAccounts(world, 1);
  const ufw = `/etc/netns/${world.inside}/ufw`;
  await must("cp", "-a", "/etc/ufw", ufw);
  await must("sh", "-c", `rm -f ${ufw}/*.rules && cp /usr/share/ufw/iptables/* ${ufw}`);
  await world.must("ufw", "--force", "enable");
  const args = ["--agent-user", name!, "--backend", backend, "--apply"];
  const inside = (...command: string[]) => secondsOf(...world.command(...command));
  const enable = inside(binary, "firewall", "enable", ...args);
  const disable = inside(binary, "firewall", "disable", ...args);
  const [add, del] = [
    inside("ufw", "allow", "4711/tcp"),
    inside("ufw", "delete", "allow", "4711/tcp"),
  ];
  const figures = { enable: [] as number[], disable: [] as number[] };
  for (let i = 0; i < PAIRS / 2; i++) {
    const [allowed, locked] = [await add(), await enable()];
    const [freed, deleted] = [await disable(), await del()];
    figures.enable.push(locked / allowed);
    figures.disable.push(freed / deleted);
  }
  atMost(`enable --apply, ${backend}, 1 account`, "ufw allow", spreadOf(figures.enable), 1);
  atMost(`disable --apply, ${backend}, 1 account`, "ufw delete", spreadOf(figures.disable), 1);
  // What the time of an enable is made of.
  const status = inside(binary, "firewall", "status", "--agent-user", name!);
  const medianOf = async (seconds: () => Promise<number>, before = async () => {}) => {
    const all: number[] = [];
    for (let i = 0; i < 7; i++) {
      await before();
      all.push(await seconds());
    }
    return spreadOf(all).median * 1000;
  };
  const deno = await medianOf(secondsOf(hello));
  const sudo = await medianOf(inside("sudo", "sh", "-c", ":"));
  const read = await medianOf(status);
  const whole = await medianOf(enable, async () => void await disable());
  const part = (ms: number) => `${Math.round(ms)} ms`;
  print(
    `     enable, ${backend}: ${part(whole)} = Deno's start ${part(deno)}, sudo ${part(sudo)}, ` +
      `reading and judging ${part(read - deno - sudo)}, commands and the second reading ` +
      part(whole - read),
  );
  atMost(`status, 1 account, ${backend}, seconds`, "-", spreadOf([read / 1000]), 0.15);
}

async function refusal(backend: string): Promise<void> {
  await using world = await World.create();
  const agent = await world.account();
  const args = ["--agent-user", agent, "--backend", backend, "--apply"];
  await world.must(...program(), "firewall", "enable", ...args);
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
 * Locks the accounts `from` to `to`, where those below are locked: with nftables by the program
 * itself, with iptables in a few commands, with what `enable` would leave. That it is a lock, the
 * program's own status has to say.
 */
async function lockMany(world: World, backend: string, from: number, to: number): Promise<void> {
  const numbers = Array.from({ length: to - from }, (_, i) => from + i);
  if (backend === "nftables") {
    const names = numbers.map((i) => `bench${i}`);
    const args = [...agentUsers(names), "--backend", backend, "--apply"];
    await world.must(...program(), "firewall", "enable", ...args);
  } else {
    const ranges = (i: number) => {
      const first = FIRST_SUBORDINATE + i * RANGE;
      return [`${FIRST_UID + i}`, `${first}-${first + RANGE - 1}`];
    };
    // Accounts in a row share one routing rule, and their ranges another.
    const routing = [[FIRST_UID, 1], [FIRST_SUBORDINATE, RANGE]].flatMap(([first, uids]) => {
      const rule = (verb: string, count: number) =>
        `rule ${verb} pref 77 uidrange ${first}-${first! + count * uids! - 1} prohibit ` +
        "protocol kernel\n";
      return [rule("add", to), ...(from > 0 ? [rule("del", from)] : [])];
    }).join("");
    const mangle = numbers.flatMap((i) =>
      ranges(i).flatMap((uids) => [
        `-I POSTROUTING 1 -m owner --uid-owner ${uids} ! -o lo -m comment ` +
        `--comment fishnet:bench${i} -j DROP\n`,
        `-I POSTROUTING 1 -o lo -p tcp -m owner --uid-owner ${uids} -m tcp --tcp-flags SYN SYN ` +
        "-j TCPOPTSTRIP --strip-options 30\n",
        `-I POSTROUTING 1 -p sctp -m owner --uid-owner ${uids} -j DROP\n`,
      ])
    );
    const filter = numbers.map((i) =>
      `-I OUTPUT 1 -m owner --uid-owner ${FIRST_UID + i} ! -o lo -j REJECT\n`
    );
    const rules = ["*mangle\n", ...mangle, "COMMIT\n*filter\n", ...filter, "COMMIT\n"].join("");
    for (const [family, command] of [["-4", "iptables-restore"], ["-6", "ip6tables-restore"]]) {
      await feed(world, routing, "ip", family!, "-batch", "-");
      await feed(world, rules, command!, "--noflush");
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

/** Traffic of `traffic.py`. */
const KINDS = ["udp", "tcp"] as const;

const HOOKS_ALONE = `table inet hooks {
  chain out { type filter hook output priority filter - 10; }
  chain post { type filter hook postrouting priority srcnat + 10; }
}
`;

async function bystanders(backend: string): Promise<void> {
  await using empty = await World.create();
  await using hooks = await World.create();
  await using locked = await World.create();
  const bystander = await empty.account();
  await addAccounts(locked, LOCKED.at(-1)!);
  for (const world of [empty, hooks, locked]) {
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
  const beside = (world: World, kind: string) =>
    ratio(TRAFFIC_PAIRS, rate(locked, kind), rate(world, kind));
  const compare = async (count: number) => {
    for (const kind of KINDS) {
      const figures = await beside(empty, kind);
      const what = `bystander's ${kind} rate, ${backend}, ${count} locked`;
      atLeast(what, "an empty ruleset", figures);
      if (count === 1) atLeast(what, "two hooks without a rule", await beside(hooks, kind), 0.97);
      if (count === 1) withOne.set(kind, figures.median);
      const one = withOne.get(kind);
      if (backend !== "nftables" || count === 1 || one === undefined) continue;
      const { min, median, max } = figures;
      const besideOne = { min: min / one, median: median / one, max: max / one };
      atLeast(what, "the same with 1 locked", besideOne, 0.95);
    }
  };
  await compare(0);
  // What any rule set costs, whatever it asks.
  await feed(hooks, HOOKS_ALONE, ...["nft", "-f", "-"]);
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
for (const backend of ["iptables", "nftables"] as const) {
  await refusal(backend);
  await besideUfw(binary, hello, backend);
  for (const count of APPLIED[backend]) await apply(binary, backend, count);
  await bystanders(backend);
}
print(`\n${table()}`);
const missed = rows.filter(({ held }) => !held);
if (missed.length > 0) {
  print(`\n${missed.length} bound(s) missed`);
  Deno.exit(1);
}

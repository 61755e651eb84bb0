/**
 * `deno task bench`: every figure that docs/measured.md quotes, as a ratio against
 * something that runs beside it in the same run. Ends with 1 when a bound is missed.
 *
 *     deno task bench [--quick]
 *
 * `--quick` measures less, for information.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { PORT, probe } from "../tests/support/lock.ts";
import { linesOf, must } from "../tests/support/process.ts";
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

const { quick } = parseArgs(Deno.args, { boolean: ["quick"] }) as { quick: boolean };

/** How often a pair is measured, and how long traffic flows; the quick form is for information. */
const PAIRS = quick ? 15 : 21;
/** Traffic is measured in many short pairs: what else a machine does disturbs some of them alone. */
const TRAFFIC_PAIRS = quick ? 15 : 41;
const TRAFFIC_SECONDS = 0.3;
const COUNTS = quick ? [10] : [10, 100, 1000];

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

/** How long many accounts take, all in one run; what one takes is measured beside ufw. */
async function apply(binary: string, backend: string, count: number): Promise<void> {
  await using world = await World.create();
  const args = [...agentUsers(await addAccounts(world, count)), "--backend", backend, "--apply"];
  const limit = backend === "nftables" ? 3 : undefined;
  for (
    const [words, bound] of [
      [["enable", ...args], limit],
      [["status", "--json"], 2],
      [["disable", ...args], limit],
    ] as const
  ) {
    const seconds = await secondsOf(...world.command(binary, "firewall", ...words))();
    atMost(`${words[0]}, ${backend}, ${count} accounts, seconds`, "-", spreadOf([seconds]), bound);
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

const HOOKS_ALONE = `table inet hooks {
  chain out { type filter hook output priority filter - 10; }
  chain post { type filter hook postrouting priority srcnat + 10; }
}`;

/** UDP ends where it comes in, so that its rate is the sender's alone. */
const NO_UDP = `table netdev quiet {
  chain in { type filter hook ingress device in0 priority 0; ip protocol udp drop; }
}`;

/** What an account that nobody locks gets through, with locked accounts beside it. */
async function bystanders(backend: string): Promise<void> {
  await using empty = await World.create();
  await using hooks = await World.create();
  await using page = await World.create();
  await using one = await World.create();
  await using many = await World.create();
  const bystander = await empty.account();
  for (const world of [empty, hooks, page, one, many]) {
    const outside = ["ip", "netns", "exec", world.outside];
    await must(...outside, "nft", NO_UDP);
    const child = world.start([...outside, PYTHON, "-c", TRAFFIC, "serve", `${PORT}`]);
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
  const compare = async (
    what: string,
    world: World,
    beside: string,
    other: World,
    bound?: number,
  ) => {
    for (const kind of ["udp", "tcp"]) {
      const figures = await ratio(TRAFFIC_PAIRS, rate(world, kind), rate(other, kind));
      atLeast(`bystander's ${kind} rate, ${what}`, beside, figures, bound);
    }
  };
  const lock = async (world: World, names: readonly string[]) => {
    const args = [...agentUsers(names), "--backend", backend, "--apply"];
    await world.must(...program(), "firewall", "enable", ...args);
  };
  // Two of the same: how much the figures below spread by themselves.
  await compare("nothing locked", one, "an empty ruleset", empty);
  await lock(one, await addAccounts(one, 1));
  // What any rule set costs, whatever it asks, and what the page's own rule does.
  await hooks.must("nft", HOOKS_ALONE);
  const owner = ["-m", "owner", "--uid-owner", `${FIRST_UID}`];
  await page.must("iptables", "-I", "OUTPUT", ...owner, "!", "-o", "lo", "-j", "REJECT");
  const with1 = `${backend}, 1 locked`;
  await compare(with1, one, "an empty ruleset", empty);
  await compare(with1, one, "two hooks without a rule", hooks, 0.97);
  await compare(with1, one, "the page's rule in OUTPUT alone", page);
  const names = await addAccounts(many, COUNTS.at(-1)!);
  for (const count of COUNTS) {
    await lock(many, names.slice(0, count));
    const bound = backend === "nftables" ? 0.95 : undefined;
    await compare(`${backend}, ${count} locked`, many, "1 locked", one, bound);
  }
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
  for (const count of [10, 1000]) await apply(binary, backend, count);
  await bystanders(backend);
}
print(`\n${table()}`);
const missed = rows.filter(({ held }) => !held);
if (missed.length > 0) {
  print(`\n${missed.length} bound(s) missed`);
  Deno.exit(1);
}

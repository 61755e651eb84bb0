/**
 * What is there, what is wanted, the commands there and the commands back: as a table, by reading
 * texts alone, and then in a real kernel, where after there and back the state is what it was.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { FishnetError } from "../../src/errors.ts";
import type { LockOptions } from "../../src/lock/piece.ts";
import { statusIn } from "../../src/lock/status.ts";
import {
  LAPSED,
  LOCKED,
  OVERDUE,
  ownerless,
  type Printed,
  shut,
  sightWith,
} from "../support/fake_machine.ts";
import {
  disableSteps,
  enableSteps,
  lockIn,
  paste,
  perform,
  sightIn,
  statusOf,
  undoOf,
  unlockIn,
} from "../support/inside.ts";
import { must } from "../support/process.ts";
import { type World, worldTest } from "../support/world.ts";

/** One row: the account is `agent`, uid 1001; the ranges are of its subordinate uids. */
interface Case {
  readonly name: string;
  readonly found: Printed;
  readonly wanted: Partial<LockOptions> | "unlocked";
  readonly there: readonly string[];
  readonly back: readonly string[];
}

const words = (verb: "add" | "del") => (range: string) =>
  `rule ${verb} pref 77 uidrange ${range} prohibit${verb === "add" ? " protocol kernel" : ""}`;
const [add, del] = [words("add"), words("del")];
/** What stands in a row is one command, and its undo goes backwards. */
const batch = (family: 4 | 6, ...lines: readonly string[]) =>
  `echo '${lines.join("\n")}' | sudo ip -${family} -force -batch -`;
const rule = (verb: "add" | "del", family: 4 | 6, range = "1001-1001") =>
  `sudo ip -${family} ${words(verb)(range)}`;
const reject = (place: string, six = "") =>
  `sudo ip${six}tables -w ${place} -m owner --uid-owner 1001 ! -o lo -j REJECT`;
const SAVED_REJECT =
  "! -o lo -m owner --uid-owner 1001 -j REJECT --reject-with icmp6-port-unreachable";
const saved = (name: "iptables-nft-save" | "ip6tables-nft-save", from: RegExp, to = "") => ({
  ...LOCKED,
  [name]: LOCKED[name].replace(from, to),
});
const TABLE = "table inet fishnet {\n\tset locked {\n\t\ttype uid\n";

const CASES: readonly Case[] = [
  { name: "all is in force", found: LOCKED, wanted: {}, there: [], back: [] },
  {
    name: "nothing is there, and nothing wanted",
    found: {},
    wanted: "unlocked",
    there: [],
    back: [],
  },
  {
    name: "a routing rule is missing",
    found: { ...LOCKED, "ip -6 rule show": "0:\tfrom all lookup local\n" },
    wanted: {},
    there: [rule("add", 6)],
    back: [rule("del", 6)],
  },
  {
    name: "the page's rule is missing",
    found: saved("iptables-nft-save", /-A OUTPUT ! -o lo.*\n/),
    wanted: {},
    there: [reject("-I OUTPUT 1")],
    back: [reject("-D OUTPUT")],
  },
  {
    name: "the page's rule is shadowed: it moves on top, and back to where it stood",
    found: saved("ip6tables-nft-save", /(?=-A OUTPUT ! -o lo)/, "-A OUTPUT -j ACCEPT\n"),
    wanted: {},
    there: change("ip6tables", "filter", [
      `-D OUTPUT ${SAVED_REJECT}`,
      "-I OUTPUT 1 -m owner --uid-owner 1001 ! -o lo -j REJECT",
    ]),
    back: change("ip6tables", "filter", [
      "-D OUTPUT -m owner --uid-owner 1001 ! -o lo -j REJECT",
      `-I OUTPUT 2 ${SAVED_REJECT}`,
    ]),
  },
  {
    name: "our chain was changed: it is made anew as a whole",
    found: saved("ip6tables-nft-save", /-A fishnet -p sctp.*\n/, "-A fishnet -j ACCEPT\n"),
    wanted: {},
    there: change("ip6tables", "mangle", [":fishnet - [0:0]", ...shut(6)]),
    back: change("ip6tables", "mangle", [
      ":fishnet - [0:0]",
      ...shut(6).with(4, "-A fishnet -j ACCEPT"),
    ]),
  },
  {
    name: "uids that adjoin share a routing rule",
    found: { ...LOCKED, "/etc/subuid": "agent:1002:8\n" },
    wanted: {},
    there: [
      ...[
        batch(4, add("1001-1009"), del("1001-1001")),
        batch(6, add("1001-1009"), del("1001-1001")),
      ],
      ...rangeRules("1002-1009"),
    ],
    back: [
      ...rangeRules("1002-1009", "-D"),
      ...[
        batch(6, add("1001-1001"), del("1001-1009")),
        batch(4, add("1001-1001"), del("1001-1009")),
      ],
    ],
  },
  {
    name: "a lock of another backend stays until the new one stands",
    found: LOCKED,
    wanted: { backend: "nftables" },
    there: [
      `echo '${TABLE}…' | sudo nft -f -`,
      `sudo nft create element inet fishnet locked '{ 1001 comment "agent" }'`,
      ...lockedRules("-D"),
    ],
    back: [
      ...lockedRules("-I"),
      "sudo nft delete element inet fishnet locked '{ 1001 }'",
      "sudo nft delete table inet fishnet",
    ],
  },
  {
    name: "two copies of a rule: both go, and come back where they stood",
    found: saved("iptables-nft-save", /(-A OUTPUT ! -o lo.*\n)/, "-A OUTPUT -j LOG\n$1$1"),
    wanted: "unlocked",
    there: [
      ...lockedRules("-D", { rejects: ["", ""] }),
      ...[rule("del", 4), rule("del", 6)],
    ],
    back: [
      ...[rule("add", 6), rule("add", 4)],
      ...lockedRules("-I", { rejects: [" 2", " 2"] }),
    ],
  },
  {
    name: "the other variant's rules are taken away by its name",
    found: {
      ...LOCKED,
      "iptables-nft-save": "",
      "iptables-legacy-save": LOCKED["iptables-nft-save"],
      "ip6tables-nft-save": "",
    },
    wanted: "unlocked",
    there: [
      ...lockedRules("-D", { families: [""], variant: "-legacy" }),
      ...[rule("del", 4), rule("del", 6)],
    ],
    back: [
      ...[rule("add", 6), rule("add", 4)],
      ...lockedRules("-I", { families: [""], variant: "-legacy" }),
    ],
  },
  {
    name: "somebody else's rule counts, and is never taken away",
    found: {
      "iptables-nft-save":
        "*mangle\n-A POSTROUTING ! -o lo -m owner --uid-owner 1001 -j DROP\nCOMMIT\n",
    },
    wanted: "unlocked",
    there: [],
    back: [],
  },
];

/** The changes of one table: one is a command, several are one text; what goes back goes backwards. */
function change(name: string, table: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [];
  const flag = table === "filter" ? "" : `-t ${table} `;
  if (lines.length === 1) return [`sudo ${name} -w ${flag}${lines[0]}`];
  const text = [`*${table}`, ...lines, "COMMIT"].join("\n");
  return [`echo '${text}' | sudo ${name}-restore -w --noflush`];
}

/** Of IPv6 it comes before the filter, where a REJECT would answer. */
function jump(verb: string, six: string, range: string, at = ""): string {
  const place = six === "" ? `POSTROUTING${at} -o lo` : `OUTPUT${at}`;
  return `${verb} ${place} -m owner --uid-owner ${range} -j fishnet`;
}

/** The rules for one range, as they are made, or as that is taken back. */
function rangeRules(range: string, verb: "-I" | "-D" = "-I"): string[] {
  const at = verb === "-I" ? " 1" : "";
  const drop = `-m owner --uid-owner ${range} ! -o lo -m comment --comment fishnet:agent -j DROP`;
  const lines = (six: string) => [
    `${verb} POSTROUTING${at} ${drop}`,
    jump(verb, six, range, at),
    ...(six === "" ? [`${verb} OUTPUT${at} -d 224.0.0.0/4 ${drop}`] : []),
  ];
  return verb === "-I"
    ? ["", "6"].flatMap((six) => change(`ip${six}tables`, "mangle", lines(six)))
    : ["6", ""].flatMap((six) => change(`ip${six}tables`, "mangle", lines(six).toReversed()));
}

/** The lock's rules as they were saved, as they go (`-D`), or as they come back (`-I`). */
function lockedRules(
  verb: "-D" | "-I",
  { families = ["", "6"], rejects = [" 1"], variant = "" }: {
    readonly families?: readonly string[];
    readonly rejects?: readonly string[];
    readonly variant?: string;
  } = {},
): string[] {
  const at = (position: string) => verb === "-I" ? position : "";
  // First what has the account's name on it; of IPv4, the jump stands above it. The chain is last.
  const mangle = (six: string) => [
    [
      `${verb} POSTROUTING${at(six === "" ? " 2" : " 1")} ! -o lo -m owner --uid-owner 1001 ` +
      "-m comment --comment fishnet:agent -j DROP",
    ],
    [jump(verb, six, "1001", at(" 1"))],
    [`${verb} POSTROUTING${at(" 1")} ${ownerless(six === "" ? 4 : 6)}`],
    ...(six === "" ? [] : [
      [`${verb} POSTROUTING${at(" 1")} ${LAPSED}`],
      [`${verb} POSTROUTING${at(" 1")} ${OVERDUE}`],
    ]),
    verb === "-D"
      ? ["-F fishnet", "-X fishnet"]
      : [":fishnet - [0:0]", ...shut(six === "" ? 4 : 6)],
  ];
  const filter = (six: string) =>
    (six === "" ? rejects : [" 1"]).map((place) => [
      `${verb} OUTPUT${at(place)} ! -o lo -m owner --uid-owner 1001 ` +
      `-j REJECT --reject-with icmp${six}-port-unreachable`,
    ]);
  const ordered = (parts: readonly string[][]) =>
    (verb === "-D" ? parts : parts.toReversed()).flat();
  const calls = [
    ...families.map((six) => ({ six, table: "mangle", lines: ordered(mangle(six)) })),
    ...families.map((six) => ({ six, table: "filter", lines: ordered(filter(six)) })),
  ];
  return (verb === "-D" ? calls : calls.toReversed())
    .flatMap(({ six, table, lines }) => change(`ip${six}tables${variant}`, table, lines));
}

/** A table's text is compared as it begins: another test reads it back from the kernel. */
const short = (line: string) =>
  line.replace(/^(echo 'table inet fishnet \{\n[^]*?type uid\n)[^]*'/, "$1…'");

for (const { name, found, wanted, there, back } of CASES) {
  Deno.test(`as texts: ${name}`, async () => {
    const sight = await sightWith(found);
    const steps = wanted === "unlocked"
      ? disableSteps(sight, ["agent"])
      : enableSteps(sight, ["agent"], wanted);
    assertEquals(steps.map(({ line }) => short(line)), [...there]);
    assertEquals(undoOf(steps), [...back]);
  });
}

Deno.test("a rule that leads into an empty chain limits nothing, whatever another variant has", async () => {
  const limits = "-A OUTPUT -o lo -p tcp -m owner --uid-owner 1001 -m multiport ! --dports 3777 " +
    "-j fishnet\n-A OUTPUT ! -p tcp -m owner --uid-owner 1001 -j fishnet\n";
  const chain = "-A fishnet -m addrtype ! --src-type LOCAL -j DROP\n" +
    "-A fishnet -p tcp -m tcp --tcp-flags SYN,ACK SYN -j REJECT --reject-with tcp-reset\n" +
    "-A fishnet -m conntrack --ctdir REPLY -j RETURN\n" +
    "-A fishnet -p tcp -j REJECT --reject-with tcp-reset\n" +
    "-A fishnet -j REJECT --reject-with icmp-port-unreachable\n";
  const legacy = (rules: string) => ({
    "iptables-nft-save": LOCKED["iptables-nft-save"].replace(
      /COMMIT\n$/,
      `:fishnet - [0:0]\n${chain}COMMIT\n`,
    ),
    "iptables-legacy-save": `*filter\n:fishnet - [0:0]\n${limits}${rules}COMMIT\n`,
    "/proc/net/if_inet6": null,
  });
  for (const [rules, state] of [[chain, "locked"], ["", "partial"]] as const) {
    const sight = await sightWith({ ...LOCKED, ...legacy(rules) });
    assertEquals(statusIn(sight, ["agent"]).state, state);
  }
});

const above = (rules: string) => ({
  ...LOCKED,
  "iptables-nft-save": LOCKED["iptables-nft-save"].replace("*filter\n", `*filter\n${rules}`),
});
const stateOf = async (found: Printed) => statusIn(await sightWith(found), ["agent"]).state;

Deno.test("ports that stand in two rules stay both, until others are asked for", async () => {
  const limit = (port: number) =>
    `-A OUTPUT -o lo -p tcp -m owner --uid-owner 1001 -m multiport ! --dports ${port} -j fishnet\n`;
  const sight = await sightWith(above(`:fishnet - [0:0]\n${limit(1)}${limit(2)}`));
  const gone = (asked: Partial<LockOptions>) =>
    enableSteps(sight, ["agent"], asked).flatMap(({ line }) => line.match(/-D .*dports \d/g) ?? []);
  assertEquals([gone({}).length, gone({ onlyPorts: [1, 2] }).length], [0, 2]);
});

Deno.test("a chain of somebody's with a target's name may accept, and is no target", async () => {
  const chain = (name: string) => `:${name} - [0:0]\n-A ${name} -j ACCEPT\n`;
  assertEquals(await stateOf(above(`${chain("MARK")}-A OUTPUT -j MARK\n`)), "partial");
  assertEquals(await stateOf(above("-A OUTPUT -j MARK\n")), "locked", "the control");
  const rejecting = LOCKED["iptables-nft-save"].replace(/-j REJECT --reject-with \S+/, "-j REJECT");
  assertEquals(await stateOf({ ...LOCKED, "iptables-nft-save": rejecting }), "locked");
  const shadow = rejecting.replace("*filter\n", `*filter\n${chain("REJECT")}`);
  assertEquals(await stateOf({ ...LOCKED, "iptables-nft-save": shadow }), "partial");
});

Deno.test("a chain of somebody's may accept by any of its rules, and not where all go on or refuse", async () => {
  const jump = (...rules: readonly string[]) =>
    above(
      `:theirs - [0:0]\n${rules.map((one) => `-A theirs ${one}\n`).join("")}-A OUTPUT -j theirs\n`,
    );
  assertEquals(await stateOf(jump("-j LOG", "-p udp -j ACCEPT", "-j DROP")), "partial");
  assertEquals(await stateOf(jump("-j LOG", "-p udp -j RETURN", "-j DROP")), "locked");
});

Deno.test("a match that has no option of its own makes a rule narrower", async () => {
  for (const match of ["frag", "rt", "hbh"]) {
    const narrow = saved(
      "ip6tables-nft-save",
      /(?=-m owner --uid-owner 1001 -j REJECT)/,
      `-m ${match} `,
    );
    assertEquals(await stateOf(narrow), "partial", match);
  }
  const twice = saved("ip6tables-nft-save", /(?=-m owner --uid-owner 1001 -j REJECT)/, "-m owner ");
  assertEquals(await stateOf(twice), "locked", "the control");
});

Deno.test("somebody's DROP where the page has its REJECT holds as well, and stays", async () => {
  const dropping = saved("iptables-nft-save", /-j REJECT --reject-with \S+/, "-j DROP");
  assertEquals(await stateOf(dropping), "locked");
  const gone = disableSteps(await sightWith(dropping), ["agent"]).map(({ line }) => line).join(
    "\n",
  );
  assert(!gone.includes("sudo iptables -w -D OUTPUT"), gone);
  assert(gone.includes("sudo ip6tables -w -D OUTPUT"), gone);
});

Deno.test("a rule that nft wrote, and iptables-save prints in part, may accept", async () => {
  assertEquals(await stateOf(above("-A OUTPUT\n")), "partial");
  const legacy = {
    ...above("-A OUTPUT\n"),
    "iptables --version": "iptables v1.8.9 (legacy)\n",
    "iptables-nft-save": "",
    "iptables-legacy-save": above("-A OUTPUT\n")["iptables-nft-save"],
    "ip6tables-nft-save": "",
    "ip6tables-legacy-save": LOCKED["ip6tables-nft-save"],
  };
  assertEquals(await stateOf(legacy), "locked", "there it only counts");
});

Deno.test("the other variant's chain is none to lead to", async () => {
  const sight = await sightWith({
    ...LOCKED,
    "iptables --version": "iptables v1.8.9 (legacy)\n",
    "getent passwd": "agent:x:1001:1001::/:/bin/sh\nbeside:x:1002:1002::/:/bin/sh\n",
  });
  const lines = enableSteps(sight, ["beside"]).map(({ line }) => line);
  for (const name of ["iptables", "ip6tables"]) {
    assert(
      lines.some((line) => line.includes(":fishnet") && line.includes(`sudo ${name}-restore`)),
      lines.join("\n"),
    );
  }
});

Deno.test("a chain that others lead to, or have filled, is theirs: it stays, and is not made anew", async () => {
  for (const led of ["-A INPUT -p tcp --dport 22 -j fishnet\n", "-A INPUT -g fishnet\n", ""]) {
    const sight = await sightWith(above(
      `:fishnet - [0:0]\n${led}-A fishnet -s 10.0.0.5 -j ACCEPT\n` +
        "-A fishnet -p tcp -j REJECT --reject-with tcp-reset\n",
    ));
    const gone = disableSteps(sight, ["agent"]).map(({ line }) => line);
    assertEquals(gone, disableSteps(await sightWith(LOCKED), ["agent"]).map(({ line }) => line));
    assertThrows(
      () => enableSteps(sight, ["agent"], { onlyPorts: [3777] }),
      FishnetError,
      "somebody else has a chain 'fishnet' in iptables, or leads to ours",
    );
  }
});

/** What an administrator finds, makes of it, and gets back: each also with the ranges of useradd. */
const REAL: readonly (readonly [
  name: string,
  found: (world: World, agent: string) => Promise<unknown>,
  wanted: Partial<LockOptions> | "unlocked",
])[] = [
  ["nothing, and iptables wanted", nothing, { backend: "iptables" }],
  ["nothing, and nftables wanted", nothing, { backend: "nftables" }],
  ["nothing, and two ports of iptables", nothing, { backend: "iptables", onlyPorts: [53, 3777] }],
  ["nothing, and two ports of nftables", nothing, { backend: "nftables", onlyPorts: [53, 3777] }],
  ["a lock, and ports of it", locked({ backend: "iptables" }), { onlyPorts: [3777] }],
  ["a lock, and ports of it, nftables", locked({ backend: "nftables" }), { onlyPorts: [3777] }],
  ["ports, and others", locked({ backend: "iptables", onlyPorts: [1, 2] }), { onlyPorts: [2, 3] }],
  [
    "ports, and others, nftables",
    locked({ backend: "nftables", onlyPorts: [1, 2] }),
    { onlyPorts: [2, 3] },
  ],
  [
    "iptables, and nftables wanted",
    locked({ backend: "iptables", onlyPorts: [3777] }),
    { backend: "nftables" },
  ],
  [
    "nftables, and iptables wanted",
    locked({ backend: "nftables", onlyPorts: [3777] }),
    { backend: "iptables" },
  ],
  ["a whole lock, and none wanted", locked({ backend: "iptables", onlyPorts: [1] }), "unlocked"],
  [
    "a whole lock of nftables, and none",
    locked({ backend: "nftables", onlyPorts: [1] }),
    "unlocked",
  ],
  ["both backends, and none wanted", both, "unlocked"],
  ["two copies of the page's rule, and none", copies, "unlocked"],
  ["a lock that somebody damaged", damaged, {}],
  ["a table that somebody emptied", emptied, {}],
  ["ports below somebody else's rule, and others", below, { onlyPorts: [2, 3] }],
  ["a chain that somebody changed", chain, {}],
  ["a lock whose mangle somebody flushed", flushed, {}],
  ["a lock whose mangle somebody flushed, and none", flushed, "unlocked"],
];

function nothing(): Promise<void> {
  return Promise.resolve();
}

function locked(asked: Partial<LockOptions>) {
  return (world: World, agent: string) => lockIn(world, [agent], asked);
}

async function both(world: World, agent: string): Promise<void> {
  await lockIn(world, [agent], { backend: "nftables" });
  const tables = await world.must("nft", "list", "ruleset");
  await lockIn(world, [agent], { backend: "iptables" });
  await paste(world, [`echo '${tables.match(/table inet fishnet \{[^]*?\n\}/)![0]}' | nft -f -`]);
}

async function copies(world: World, agent: string): Promise<void> {
  await lockIn(world, [agent], { backend: "iptables" });
  const page = `OUTPUT -m owner --uid-owner ${agent} ! -o lo -j REJECT`;
  await paste(world, [
    "iptables -w -A OUTPUT -j LOG",
    `iptables -w -A ${page}`,
    "iptables -w -A OUTPUT -p icmp -j LOG",
    `iptables -w -A ${page}`,
    `ip6tables -w -A ${page}`,
  ]);
}

async function damaged(world: World, agent: string): Promise<void> {
  await lockIn(world, [agent], { backend: "iptables", onlyPorts: [3777] });
  const uid = (await must("id", "-u", agent)).trim();
  await paste(world, [
    `ip -4 rule del pref 77 uidrange ${uid}-${uid} prohibit`,
    "ip6tables -w -t mangle -D POSTROUTING 1",
    "ip6tables -w -t mangle -D fishnet 2",
    "iptables -w -D fishnet 1",
    "iptables -w -I OUTPUT 1 -p udp -j ACCEPT",
  ]);
}

async function emptied(world: World, agent: string): Promise<void> {
  await lockIn(world, [agent], { backend: "nftables", onlyPorts: [3777] });
  await paste(world, [
    "nft flush chain inet fishnet post",
    "nft delete chain inet fishnet_loopback in",
    "nft flush set inet fishnet subordinate",
  ]);
}

async function below(world: World, agent: string): Promise<void> {
  await lockIn(world, [agent], { backend: "iptables", onlyPorts: [1, 2] });
  await paste(world, ["iptables -w -I OUTPUT 1 -o lo -p tcp --dport 5432 -j LOG"]);
}

async function chain(world: World, agent: string): Promise<void> {
  await lockIn(world, [agent], { backend: "iptables", onlyPorts: [3777] });
  await paste(world, ['iptables -w -I fishnet 1 -m comment --comment "it\'s mine" -j LOG']);
}

/** Our chain is empty then, and nothing leads to it. */
async function flushed(world: World, agent: string): Promise<void> {
  await lockIn(world, [agent], { backend: "iptables", onlyPorts: [3777] });
  await paste(world, ["iptables -w -t mangle -F", "ip6tables -w -t mangle -F"]);
}

/** The kernel lists what is in a set in the order in which it came there, which means nothing. */
const ordered = (state: string) =>
  state.replace(
    /elements = \{([^}]*)\}/g,
    (_, all: string) => all.split(",").map((one) => one.trim()).sort().join(", "),
  );

worldTest(
  "in a real kernel: there, as it is wanted, and back to what was found",
  async (world, t) => {
    const agent = await world.account();
    const bare = await world.state();
    for (const [name, found, wanted] of REAL) {
      await t.step(name, async () => {
        await found(world, agent);
        const before = await world.state();
        const asked = wanted === "unlocked" ? {} : wanted;
        const sight = await sightIn(world, [agent], asked);
        const steps = wanted === "unlocked"
          ? disableSteps(sight, [agent])
          : enableSteps(sight, [agent], wanted);
        const back = await perform(world, steps);
        if (wanted === "unlocked") {
          const [status] = (await statusOf(world, agent)).accounts;
          assertEquals(status!.state, "unlocked");
          assert(!/fishnet|uidrange|--uid-owner/.test(await world.state()), await world.state());
        } else {
          const [status] = (await statusOf(world, agent)).accounts;
          assertEquals([status!.state, status!.backend], [
            "locked",
            wanted.backend ?? status!.backend,
          ]);
          if (wanted.onlyPorts) assertEquals(status!.onlyPorts, wanted.onlyPorts);
          const again = enableSteps(await sightIn(world, [agent]), [agent], wanted);
          assertEquals(again, [], "nothing is left to do");
        }
        await paste(world, back);
        assertEquals(ordered(await world.state()), ordered(before), "back");
        await unlockIn(world, agent);
        await paste(world, ["iptables -w -F OUTPUT", "ip6tables -w -F OUTPUT"]);
        assertEquals(await world.state(), bare);
      });
    }
  },
);

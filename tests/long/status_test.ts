/** `status` on real rules: what it says must be what the kernel has. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { AccountStatus, PieceStatus, StatusReport } from "../../src/lock/report.ts";
import { lockIn, paste, statusOf } from "../support/inside.ts";
import { run } from "../support/process.ts";
import { ReadableProgram } from "../support/readable_program.ts";
import { program, type Variant, type World, worldTest } from "../support/world.ts";
import { LAPSED, OVERDUE, ownerless, shut } from "../support/fake_machine.ts";

type Backend = "iptables" | "nftables";

const BACKENDS: readonly (readonly [Backend, Variant])[] = [
  ["iptables", "nft"],
  ["iptables", "legacy"],
  ["nftables", "nft"],
];

async function statusJson(
  world: World,
  ...names: string[]
): Promise<StatusReport & { code: number; warnings: unknown[] }> {
  const { code, stdout, stderr } = await world.fishnet(
    ...["firewall", "status", "--json", ...names.flatMap((name) => ["--agent-user", name])],
  );
  assertEquals(stderr, "");
  const report = JSON.parse(stdout) as StatusReport & { warnings: unknown[] };
  // Rules of the kernel's audit, and files for boot, are the machine's: another test's are no matter.
  const accounts = report.accounts.filter(({ name }) => world.owns(name));
  return { code, ...report, accounts };
}

async function only(world: World, name: string): Promise<AccountStatus> {
  const { accounts } = await statusJson(world, name);
  assertEquals(accounts.length, 1);
  return accounts[0]!;
}

async function enable(world: World, name: string, backend: Backend, ...more: string[]) {
  const { code, stderr } = await world.fishnet(
    ...["firewall", "enable", "--agent-user", name, "--backend", backend, "--apply", ...more],
  );
  assertEquals(code, 0, stderr);
}

const absent = ({ pieces }: AccountStatus): PieceStatus[] =>
  pieces.filter(({ present }) => !present);

/** Runs the remedies that a status names, each once, as they stand. */
async function mend(world: World, status: AccountStatus): Promise<void> {
  const remedies = new Set(status.pieces.flatMap(({ present, remedy }) => present ? [] : remedy));
  assert(remedies.size > 0 && !remedies.has(undefined), JSON.stringify(status));
  for (const remedy of remedies) {
    const { code, stderr } = remedy!.startsWith("fishnet ")
      ? await world.fishnet(...remedy!.split(" ").slice(1))
      : await world.exec("sh", "-c", remedy!);
    assertEquals(code, 0, `${remedy}: ${stderr}`);
  }
}

async function uidOf(name: string): Promise<number> {
  return Number((await run(["id", "-u", name])).stdout);
}

const SAVES = (["iptables", "ip6tables"] as const).flatMap((command) =>
  (["nft", "legacy"] as const).map((variant) => `${command}-${variant}`)
);

/** Every command that removes one single thing of the locks inside. */
async function removals(world: World): Promise<string[]> {
  const commands: string[] = [];
  for (const save of SAVES) {
    let table = "";
    for (const line of (await world.must(`${save}-save`)).split("\n")) {
      if (line.startsWith("*")) table = line.slice(1);
      if (line.startsWith("-A ")) commands.push(`${save} -w -t ${table} -D ${line.slice(3)}`);
    }
  }
  for (const family of [4, 6]) {
    for (const line of (await world.must("ip", `-${family}`, "rule", "show")).split("\n")) {
      if (line.includes("uidrange")) {
        commands.push(`ip -${family} rule del pref ${line.replace(":", "")}`);
      }
    }
  }
  const tables = await world.exec("nft", "list", "ruleset");
  for (
    const [table, ...sets] of [
      ["inet fishnet", "locked", "subordinate"],
      ["inet fishnet_loopback", "narrowed", "allowed", "allowed_subordinate"],
    ] as const
  ) {
    if (!tables.stdout.includes(`table ${table} {`)) continue;
    for (const set of sets) {
      const elements = await world.must("nft", "list", "set", ...table.split(" "), set);
      for (const [, key] of elements.matchAll(/([\d-]+(?: \. \d+)?) comment/g)) {
        commands.push(`nft delete element ${table} ${set} "{ ${key} }"`);
      }
    }
    commands.push(`nft flush chain ${table} out`);
    commands.push(`nft "add table ${table} { flags dormant; }"`);
  }
  return [...new Set(commands)];
}

for (const [backend, variant] of BACKENDS) {
  worldTest(
    `status, ${backend} (${variant}): locked after enable, and partial without any single piece, whose remedy mends it`,
    async (world, t) => {
      const agent = await world.account();
      assertEquals((await statusJson(world)).accounts, []);
      assertEquals((await only(world, agent)).state, "unlocked");
      await enable(world, agent, backend, "--only-port", "3777");
      const sound = await only(world, agent);
      assertEquals([sound.state, sound.backend, sound.onlyPorts], ["locked", backend, [3777]]);
      assertEquals((await statusJson(world, agent)).code, 0);
      const all = await removals(world);
      const enableAgain = `fishnet firewall enable --agent-user ${agent}` +
        `${backend === "nftables" ? " --backend nftables" : ""} --only-port 3777 --apply`;
      assert(all.length >= 10, all.join("\n"));
      // Without a process of the program for each: what it reads, says and plans is the same.
      for (const removal of all) {
        await t.step(removal, async () => {
          await world.must("sh", "-c", removal);
          const { state, accounts: [account] } = await statusOf(world, agent);
          assertEquals(state, "partial", removal);
          const remedies = new Set(absent(account!).map(({ remedy }) => remedy));
          assert(remedies.size > 0 && !remedies.has(undefined), JSON.stringify(account));
          for (const remedy of remedies) {
            if (remedy === enableAgain) await lockIn(world, [agent]);
            else await paste(world, [remedy!]);
          }
          assertEquals((await statusOf(world, agent)).state, "locked", removal);
        });
      }
      // And once as a person would do it.
      await world.must("sh", "-c", all[0]!);
      const broken = await statusJson(world, agent);
      assertEquals([broken.code, broken.state], [3, "partial"]);
      await mend(world, broken.accounts[0]!);
      assertEquals((await only(world, agent)).state, "locked");
    },
    variant,
  );
}

worldTest("status names the missing piece: its family, layer and uid", async (world) => {
  const agent = await world.account();
  await enable(world, agent, "iptables");
  const uid = await uidOf(agent);
  await world.must(
    ...["ip", "-6", "rule", "del", "pref", "77", "uidrange", `${uid}-${uid}`, "prohibit"],
  );
  assertEquals(absent(await only(world, agent)).map(({ name }) => name), [
    `IPv6: routing rule (prohibit), uid ${uid}`,
  ]);
  const { code, stdout } = await world.fishnet("firewall", "status", "--agent-user", agent);
  assertEquals(code, 3);
  assertMatch(stdout, new RegExp(`^IPv6: routing rule \\(prohibit\\), uid ${uid} +missing$`, "m"));
  assertStringIncludes(stdout, `fishnet firewall enable --agent-user ${agent} --apply\n`);
  assert(!stdout.includes("\x1b"));
});

worldTest(
  "status: a rule below one that may accept is shadowed, and the remedy helps",
  async (world, t) => {
    const agent = await world.account();
    const shadows: readonly string[] = [
      "iptables -I OUTPUT 1 -j ACCEPT",
      "iptables -I OUTPUT 1 -m conntrack --ctstate ESTABLISHED -j ACCEPT",
      "ip6tables -t mangle -I POSTROUTING 1 -p udp -j ACCEPT",
      "iptables -N vpn && iptables -A vpn -d 192.0.2.1 -j ACCEPT && iptables -I OUTPUT 1 -j vpn",
      "ip -4 rule add pref 5 lookup main",
      "ip -6 rule add pref 6 fwmark 0x7 lookup 100",
      // As wg-quick(8) does it: without a preference, a rule comes to stand above ours.
      "ip -4 rule add not fwmark 51820 table 51820 && " +
      "ip -4 rule add table main suppress_prefixlength 0",
    ];
    for (const shadow of shadows) {
      await t.step(shadow, async () => {
        await enable(world, agent, "iptables");
        await world.must("sh", "-c", shadow);
        const status = await only(world, agent);
        assertEquals(status.state, "partial");
        for (const { detail } of absent(status)) assertMatch(detail!, /^shadowed by/);
        // A remedy is for the first of several.
        for (let left = status; left.state !== "locked"; left = await only(world, agent)) {
          await mend(world, left);
        }
      });
    }
  },
);

worldTest("status: foreign rules that cannot let the account out change nothing", async (world) => {
  const agent = await world.account();
  const other = await uidOf(await world.account());
  await enable(world, agent, "iptables");
  for (
    const harmless of [
      "iptables -I OUTPUT 1 -o lo -j ACCEPT",
      "iptables -I OUTPUT 1 -p tcp -j LOG",
      `iptables -I OUTPUT 1 -m owner --uid-owner ${other} -j ACCEPT`,
      "iptables -I OUTPUT 1 -d 192.0.2.1 -j DROP",
      "iptables -N quiet && iptables -A quiet -j RETURN && iptables -I OUTPUT 1 -j quiet",
      "iptables -A OUTPUT -j ACCEPT",
      `ip -4 rule add pref 5 uidrange ${other}-${other} lookup 100`,
    ]
  ) await world.must("sh", "-c", harmless);
  assertEquals((await only(world, agent)).state, "locked");
});

worldTest(
  "status: a rule that holds only some packets of the account does not count",
  async (world) => {
    const agent = await world.account();
    const uid = await uidOf(agent);
    for (
      const narrow of [
        `iptables -A OUTPUT -m owner --uid-owner ${uid} ! -o lo -d 192.0.2.1 -j REJECT`,
        `iptables -A OUTPUT -m owner --uid-owner ${uid} ! -o lo -p tcp -j REJECT`,
        `iptables -A OUTPUT -m owner ! --uid-owner ${uid} ! -o lo -j REJECT`,
        `iptables -t mangle -A POSTROUTING -m owner --uid-owner ${uid} ! -o lo -m limit --limit 1/s -j DROP`,
        `ip -4 rule add pref 77 to 192.0.2.1 uidrange ${uid}-${uid} prohibit`,
        `ip -4 rule add pref 77 uidrange ${uid}-${uid} lookup main`,
      ]
    ) await world.must("sh", "-c", narrow);
    assertEquals((await only(world, agent)).state, "unlocked");
  },
);

for (const [backend, variant] of BACKENDS) {
  worldTest(
    `status, ${backend} (${variant}): a subordinate range that came after enable is open, and so partial`,
    async (world) => {
      const agent = await world.account();
      await enable(world, agent, backend);
      // By number this time: both forms count (subuid(5)).
      const range = "1900000000-1900000099";
      await world.must("usermod", "--add-subuids", range, agent);
      const status = await only(world, agent);
      assertEquals(status.state, "partial");
      for (const { name } of absent(status)) assertStringIncludes(name, range);
      await mend(world, status);
      assertEquals((await only(world, agent)).state, "locked");
    },
    variant,
  );
}

worldTest("status: each of several accounts has its own state", async (world) => {
  const [one, two, three] = [
    await world.account(),
    await world.account(),
    await world.account(),
  ];
  await enable(world, one, "iptables");
  await enable(world, two, "nftables", "--only-port", "8080");
  const all = await statusJson(world);
  assertEquals(all.accounts.map(({ name, state }) => [name, state]), [[one, "locked"], [
    two,
    "locked",
  ]]);
  const asked = await statusJson(world, three, two);
  assertEquals(asked.accounts.map(({ name, state }) => [name, state]), [[three, "unlocked"], [
    two,
    "locked",
  ]]);
  assertEquals([asked.code, asked.state], [3, "partial"]);
  assertEquals(asked.accounts[1]!.onlyPorts, [8080]);
});

for (const [backend, variant] of BACKENDS) {
  worldTest(
    `status, ${backend} (${variant}): a deleted account's rules are shown under its name, with what removes them`,
    async (world) => {
      const agent = await world.account();
      const uid = await uidOf(agent);
      const before = await world.state();
      await enable(world, agent, backend);
      await world.must("userdel", agent);
      const { accounts: [status] } = await statusJson(world);
      assertEquals([status!.name, status!.uid], [agent, uid]);
      const note = status!.notes!.find((note) => note.includes("no longer exists"));
      const remedy = /fishnet (firewall disable .* --apply)/.exec(note!)![1]!;
      const { code, stderr } = await world.fishnet(...remedy.split(" "));
      assertEquals(code, 0, stderr);
      assertEquals(await world.state(), before);
    },
    variant,
  );
}

worldTest(
  "status: a routing rule of nobody is left over, with the line that removes it",
  async (world) => {
    const before = await world.state();
    await world.must(
      ...[
        "ip",
        "-4",
        "rule",
        "add",
        "pref",
        "77",
        "uidrange",
        `${world.firstUid}-${world.firstUid}`,
        "prohibit",
      ],
    );
    const { code, accounts } = await statusJson(world);
    assertEquals([code, accounts.length, accounts[0]!.name], [3, 1, `uid ${world.firstUid}`]);
    await world.must("sh", "-c", accounts[0]!.pieces[0]!.remedy!);
    assertEquals(await world.state(), before);
  },
);

worldTest(
  "status: what is left of an account without its name is one row, and goes at once",
  async (world) => {
    const before = await world.state();
    // Where the uids beside it are this world's.
    const agent = await world.account({ args: ["--uid", `${world.firstUid + 9000}`] });
    const name = `uid ${await uidOf(agent)}`;
    await enable(world, agent, "iptables");
    await world.must("userdel", agent);
    for (const command of ["iptables", "ip6tables"]) {
      await world.must(command, "-t", "mangle", "-F");
    }
    const { accounts, warnings } = await statusJson(world);
    const [left] = accounts.filter((one) => one.name === name);
    assertEquals(accounts.filter((one) => one.name === name), [left!]);
    assert(left!.pieces.length >= 4, "the routing rules, and the page's own");
    assert(!JSON.stringify(warnings).includes(name), "it can't be kept over a reboot");
    await world.must("sh", "-ec", left!.pieces[0]!.remedy!);
    assertEquals(await world.state(), before);
  },
);

worldTest(
  "status: what mends one account, and takes away what is left over, can be run in that order",
  async (world) => {
    const [gone, agent] = [
      await world.account({ args: ["--uid", `${world.firstUid + 9000}`] }),
      await world.account({ args: ["--uid", `${world.firstUid + 9002}`] }),
    ];
    await lockIn(world, [gone], { backend: "nftables" });
    await lockIn(world, [agent], { backend: "nftables", onlyPorts: [3777] });
    for (const set of ["locked", "subordinate"]) {
      await world.must("nft", "flush", "set", "inet", "fishnet", set);
    }
    await world.must("userdel", gone);
    const { accounts } = await statusJson(world);
    assertEquals(accounts[0]!.name, agent);
    await lockIn(world, [agent]); // what its remedy says
    const left = new Set(
      accounts.slice(1).flatMap(({ pieces }) => pieces).map((one) => one.remedy),
    );
    assert(left.size > 0);
    await paste(world, [...left].map((line) => line!));
    const after = (await statusJson(world)).accounts;
    assertEquals(after.map(({ name, state }) => [name, state]), [[agent, "locked"]]);
  },
);

worldTest(
  "status: uids of nobody in a routing rule that an account shares are left over, and cut out",
  async (world) => {
    // Where the uids beside it are this world's.
    const agent = await world.account({ args: ["--uid", `${world.firstUid + 9000}`] });
    const uid = await uidOf(agent);
    await enable(world, agent, "iptables");
    const before = await world.state();
    const rule = ["ip", "-6", "rule", "add", "pref", "77", "uidrange", `${uid}-${uid + 2}`];
    await world.must(...rule, "prohibit");
    await world.must(
      ...["ip", "-6", "rule", "del", "pref", "77", "uidrange", `${uid}-${uid}`, "prohibit"],
    );
    const { accounts } = await statusJson(world);
    assertEquals(
      accounts.map(({ name, state }) => [name, state]).sort(),
      [[agent, "locked"], [`uids ${uid + 1}-${uid + 2}`, "partial"]].sort(),
    );
    const { pieces } = accounts.find(({ name }) => name !== agent)!;
    await world.must("sh", "-c", pieces[0]!.remedy!);
    assertEquals((await world.state()).split("\n").sort(), before.split("\n").sort());
  },
);

worldTest(
  "status: accounts that only a shared routing rule is left of are partial",
  async (world) => {
    const agents = [await world.account(), await world.account()];
    for (const agent of agents) await enable(world, agent, "nftables");
    await world.must("nft", "flush", "ruleset");
    const { code, accounts } = await statusJson(world);
    assertEquals([code, accounts.map(({ name }) => name).sort()], [3, agents.sort()]);
    for (const account of accounts) {
      assertEquals(account.state, "partial");
      assertEquals(
        account.pieces.filter(({ present }) => present).map(({ name }) => name.slice(0, 18)).sort(),
        ["IPv4: routing rule", "IPv4: routing rule", "IPv6: routing rule", "IPv6: routing rule"],
      );
    }
  },
);

worldTest(
  "status: rules in the variant that iptables does not stand for hold, and disable finds them",
  async (world) => {
    const agent = await world.account();
    const before = await world.state();
    await enable(world, agent, "iptables");
    await world.must(
      "sh",
      "-c",
      SAVES.slice(0, 4).filter((save) => save.endsWith("nft")).map((save) =>
        `${save}-save > /tmp/${world.inside} && ` +
        `${save.replace("nft", "legacy")}-restore < /tmp/${world.inside} && ` +
        `${save} -F && ${save} -t mangle -F`
      ).join(" && ") + `; rm /tmp/${world.inside}`,
    );
    assertEquals((await only(world, agent)).state, "locked");
    const { code, stderr } = await world.fishnet(
      ...["firewall", "disable", "--agent-user", agent, "--apply"],
    );
    assertEquals(code, 0, stderr);
    assertEquals(await world.state(), before);
  },
);

worldTest("status without the right to look is unknown, never unlocked", async (world) => {
  const agent = await world.account();
  await enable(world, agent, "iptables");
  await using own = await ReadableProgram.for(agent);
  for (const command of ["status", "verify"]) {
    const may = await world.as(
      ...[agent, "env", ...Object.entries(own.env).map(([name, value]) => `${name}=${value}`)],
      ...own.command,
      ...["firewall", command, "--agent-user", agent, "--json"],
    );
    const document = JSON.parse(may.stdout);
    assertEquals([may.code, document.accounts[0].state], [3, "unknown"], may.stderr);
    assertStringIncludes(may.stdout, "could not run as root: sudo: ");
  }
});

worldTest("status of an account that does not exist is an error", async (world) => {
  const { code, stderr } = await world.fishnet("firewall", "status", "--agent-user", "no_such_one");
  assertEquals([code, stderr], [1, "[fishnet] the account 'no_such_one' does not exist\n"]);
});

worldTest("status tells 1,000 locked accounts apart", async (world) => {
  const uids = Array.from({ length: 1000 }, (_, i) => 1_700_000_000 + i);
  const restoreOf = (family: 4 | 6) =>
    [
      "*mangle",
      ":fishnet - [0:0]",
      ...shut(family),
      `-A POSTROUTING ${ownerless(family)}`,
      ...(family === 4 ? [] : [LAPSED, OVERDUE].map((rule) => `-A POSTROUTING ${rule}`)),
      ...uids.map((uid) =>
        `-A ${family === 4 ? "POSTROUTING -o lo" : "OUTPUT"} -m owner --uid-owner ${uid} -j fishnet`
      ),
      ...uids.map((uid) =>
        `-A POSTROUTING ! -o lo -m owner --uid-owner ${uid} -m comment --comment fishnet:${
          world.named(uid)
        } -j DROP`
      ),
      "COMMIT",
      "*filter",
      ...uids.map((uid) => `-A OUTPUT ! -o lo -m owner --uid-owner ${uid} -j REJECT`),
      "COMMIT",
      "",
    ].join("\n");
  const rules = uids.map((uid) => `rule add pref 77 uidrange ${uid}-${uid} prohibit\n`).join("");
  for (const [command, family] of [["iptables-restore", 4], ["ip6tables-restore", 6]] as const) {
    const input = restoreOf(family);
    assertEquals((await run(world.command(command), { input })).code, 0);
  }
  for (const family of ["-4", "-6"]) {
    assertEquals((await run(world.command("ip", family, "-batch", "-"), { input: rules })).code, 0);
  }
  const { code, accounts } = await statusJson(world);
  assertEquals([code === 0 || code === 3, accounts.length], [true, 1000]);
  assert(accounts.every(({ state }) => state === "locked"));
});

worldTest("status colours a terminal, and none with NO_COLOR", async (world) => {
  const agent = await world.account();
  await enable(world, agent, "iptables");
  const status = [...program(), "firewall", "status"].join(" ");
  const onTerminal = (env: string) =>
    world.must("script", "-qec", `env ${env} ${status}`, "/dev/null");
  assertStringIncludes(await onTerminal("-u NO_COLOR TERM=xterm"), "\x1b[32mlocked\x1b[39m");
  assert(!(await onTerminal("TERM=xterm NO_COLOR=1")).includes("\x1b["));
});

worldTest("status reads the rules where iptables has its plain names alone", async (world) => {
  const agent = await world.account();
  await enable(world, agent, "iptables");
  const layer = await Deno.makeTempDir();
  try {
    const { stdout } = await world.exec(
      ...["unshare", "-m", "sh", "-ec"],
      `mkdir "$0/changed" "$0/work"; mount -t overlay overlay ` +
        `-o "lowerdir=/usr/sbin,upperdir=$0/changed,workdir=$0/work" /usr/sbin; cd /usr/sbin; ` +
        `rm iptables* ip6tables*; for c in iptables ip6tables; do for s in "" -save; do ` +
        `ln -s xtables-nft-multi $c$s; done; done; exec "$@"`,
      ...[layer, ...program(), "firewall", "status", "--agent-user", agent, "--json"],
    );
    const { state, accounts } = JSON.parse(stdout) as StatusReport;
    assertEquals([state, accounts[0]!.notes], ["locked", []]);
  } finally {
    await Deno.remove(layer, { recursive: true });
  }
});

/** Rules of an administrator's for the very uids that are locked: they stay, and keep nothing of ours. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { lockIn, sightIn, statusOf, unlockIn } from "../support/inside.ts";
import { must, run } from "../support/process.ts";
import { type World, worldTest } from "../support/world.ts";

const fishnet = (world: World, action: string, name: string, ...more: string[]) =>
  world.fishnet("firewall", action, "--agent-user", name, ...more, "--apply");

worldTest("a rule of somebody's for the uid keeps none of what accounts share", async (world) => {
  const agent = await world.account();
  const rule = ["-A", "POSTROUTING", "!", "-o", "lo", "-m", "owner", "--uid-owner", agent];
  for (const tool of ["iptables", "ip6tables"]) {
    await world.must(tool, "-t", "mangle", ...rule, "-j", "DROP");
  }
  const before = await world.state();
  for (const onlyPorts of [[], [3777]]) {
    await lockIn(world, [agent], { backend: "iptables", onlyPorts });
    assertEquals((await statusOf(world, agent)).state, "locked");
    await unlockIn(world, agent);
    assertEquals(await world.state(), before);
  }
});

worldTest(
  "a REJECT of somebody's for many uids is his, and no left-over of ours",
  async (world) => {
    const agent = await world.account();
    const uid = Number((await must("id", "-u", agent)).trim());
    const ranges = [`${uid}-${uid + 1}`, `${world.firstUid}-${world.firstUid + 10}`];
    for (const range of ranges) {
      const rule = ["-A", "OUTPUT", "!", "-o", "lo", "-m", "owner", "--uid-owner", range];
      await world.must("iptables", ...rule, "-j", "REJECT");
    }
    const before = await world.state();
    const told = async () =>
      (await statusOf(world)).accounts.filter(({ name }) => world.owns(name))
        .map(({ name, state }) => `${name} ${state}`);
    assertEquals(await told(), []);
    await lockIn(world, [agent], { backend: "iptables" });
    assertEquals(await told(), [`${agent} locked`]);
    await unlockIn(world, agent);
    assertEquals(await world.state(), before);
  },
);

/** Tables of iptables' names, as people write them for nft: iptables has no words for their sets. */
const NAT = `table ip nat {
  chain POSTROUTING {
    type nat hook postrouting priority 100
    oifname "out0" ip saddr { 10.0.0.0/8, 192.168.0.0/16 } masquerade
  }
}`;
const FILTER = `table ip filter {
  chain OUTPUT {
    type filter hook output priority 0
    ct state { established, related } accept
    meta skuid { 33, 34 } tcp dport 25 accept
    tcp dport { 25, 465 } drop
  }
}`;

async function nft(world: World, text: string): Promise<void> {
  const { code, stderr } = await run(world.command("nft", "-f", "-"), { input: text });
  assertEquals(code, 0, stderr);
}

worldTest("a table that only nft can read, and that holds nothing of ours", async (world, t) => {
  const agent = await world.account();

  await t.step("is no matter where no rule of ours would stand", async () => {
    await nft(world, NAT);
    for (const backend of ["iptables", "nftables"] as const) {
      await lockIn(world, [agent], { backend });
      assertEquals((await statusOf(world, agent)).state, "locked");
      await unlockIn(world, agent);
      assertEquals((await statusOf(world, agent)).state, "unlocked");
    }
  });

  await t.step("and no matter to nftables, which iptables is told to take", async () => {
    await nft(world, FILTER);
    const table = () => world.must("nft", "list", "table", "ip", "filter");
    const before = await table();
    const { code, stderr } = await fishnet(world, "enable", agent);
    assertEquals(code, 1);
    assertMatch(stderr, /iptables cannot read its table 'filter', .*: use --backend nftables\n/);
    await lockIn(world, [agent], { backend: "nftables" });
    assertEquals((await statusOf(world, agent)).state, "locked");
    await unlockIn(world, agent);
    assertEquals((await statusOf(world, agent)).state, "unlocked");
    assertEquals(await table(), before);
  });

  await t.step("but what may hold a lock is not taken for none", async () => {
    await world.must("nft", "delete table ip filter");
    await lockIn(world, [agent], { backend: "iptables" });
    const rule = "ct state { related, established } counter";
    await world.must("nft", `add rule ip filter OUTPUT ${rule}`);
    const { code, stdout } = await world.fishnet("firewall", "status", "--agent-user", agent);
    assertEquals(code, 3);
    assertMatch(stdout, /unknown: iptables-nft cannot read the table 'filter'/);
    // As it says.
    const listed = await world.must("nft", "-a", "list", "table", "ip", "filter");
    const handle = /ct state \{.*# handle (\d+)/.exec(listed)![1]!;
    await world.must("nft", `delete rule ip filter OUTPUT handle ${handle}`);
    assertEquals((await statusOf(world, agent)).state, "locked");
  });
});

worldTest("a routing rule in our place that says more is not deleted for ours", async (world) => {
  const agent = await world.account();
  const uid = (await must("id", "-u", agent)).trim();
  const theirs = ["pref", "77", "uidrange", `${uid}-${uid}`, "ipproto", "udp", "prohibit"];
  for (const family of ["-4", "-6"]) await world.must("ip", family, "rule", "add", ...theirs);
  const before = await world.state();
  await lockIn(world, [agent], { backend: "iptables" });
  await unlockIn(world, agent);
  assertEquals(await world.state(), before);
  // Nor does it keep one of ours that somebody made by hand, without its protocol, and before his own.
  for (const family of ["-4", "-6"]) {
    const rule = (verb: string, words: string[]) =>
      world.must("ip", family, "rule", verb, ...words);
    await rule("del", theirs);
    await rule("add", theirs.filter((word) => !["ipproto", "udp"].includes(word)));
    await rule("add", theirs);
  }
  await lockIn(world, [agent], { backend: "iptables" });
  await unlockIn(world, agent);
  assertEquals(await world.state(), before);
});

worldTest("what is there again behind a disable is told", async (world) => {
  const agent = await world.account();
  await lockIn(world, [agent], { backend: "iptables" });
  const restore = await world.must("iptables-save");
  // Somebody's firewall that puts back, whenever it is called, what it once saved.
  const tools = `/etc/netns/${world.inside}/alternatives`;
  await Deno.writeTextFile(`${tools}/saved`, restore);
  await Deno.remove(`${tools}/ip6tables`);
  await Deno.writeTextFile(
    `${tools}/ip6tables`,
    `#!/bin/sh\n/usr/sbin/ip6tables-nft "$@" || exit\n` +
      `case "$*" in *-D*) /usr/sbin/iptables-nft-restore </etc/alternatives/saved ;; esac\n`,
    { mode: 0o755 },
  );
  const { code, stdout, stderr } = await fishnet(world, "disable", agent);
  assertEquals(code, 1, stderr);
  assertStringIncludes(stderr, `'${agent}' is not unlocked: `);
  assertEquals(stdout, "Firewall disable: applying 6 command(s)\n");
  const { holdings } = await sightIn(world, [agent]);
  // Rules of the audit, which is one for the whole machine, may have others.
  assert(holdings.owners.includes(agent));
});

/** The plan, carried out on a stand-in for a Mac: what is there afterwards. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { A, ANCHOR, B, CALL, FILE, inUse, isLocked, LINES, loaded } from "./support/in_use.ts";
import { AGENTS, faults, SERVICE, standInTest, STOCK_PF_CONF } from "./support/stand_in.ts";
import { STATE } from "./support/state.ts";

standInTest(
  "enable puts the anchor, its call and one reference there, and disable leaves nothing",
  async (mac) => {
    const before = await mac.state();
    await mac.applied("enable", { accounts: [A] });
    const uid = (await mac.must("id", "-u", A)).trim();
    assertEquals(
      await loaded(mac),
      `\
block return out quick on ! lo0 proto tcp from any to any port 1:65535 user = ${uid}
block return out quick on ! lo0 proto udp from any to any port 1:65535 user = ${uid}
block drop in quick on ! lo0 proto tcp from any to any port 1:65535 user = ${uid}
`,
    );
    assertEquals(await mac.read("/etc/pf.conf"), `${STOCK_PF_CONF}${LINES}`);
    assertStringIncludes(await mac.must("pfctl", "-s", "rules"), `${CALL} all\n`);
    assertStringIncludes(await mac.must("pfctl", "-s", "info"), "Status: Enabled");
    assertEquals(await mac.must("stat", "-c", "%A %u", "/var/db/fishnet.token"), "-rw------- 0\n");
    const enabled = await mac.state();
    assertEquals(await mac.applied("enable", { accounts: [A] }), "changed 0");
    assertEquals(await mac.state(), enabled, "enable twice is enable once, with one reference");
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before);
    assertEquals(await mac.applied("disable", { accounts: [A] }), "changed 0");
  },
);

standInTest(
  "no call of pfctl turns pf off, loads pf.conf over the running rules, or touches a foreign anchor",
  async (mac) => {
    await mac.changes();
    await mac.applied("enable", { accounts: AGENTS, onlyPorts: [3777] });
    await mac.applied("disable", { accounts: AGENTS });
    const calls = (await mac.changes()).map((call) => call.replace(/-X \d+/, "-X TOKEN"));
    const call = "-o none -R -f -";
    assertEquals(calls, [
      ...[`-a ${ANCHOR} -f ${FILE}`, call, "-E"],
      ...["-X TOKEN", call, `-a ${ANCHOR} -F rules`],
    ]);
  },
);

standInTest(
  "a Mac in use keeps every rule of others through enable, a second one, failures and disable",
  async (mac, t) => {
    await inUse(mac);
    const before = await mac.state();
    const others = async () =>
      (await mac.must("pfctl", "-s", "rules")).replace(`${CALL} all\n`, "");
    const rules = await others();
    await t.step(
      "the stand-in has the fault: without -o none, no rule is left, and pfctl ends with 0",
      async () => {
        const { code, stderr } = await mac.feed(rules, "pfctl", "-R", "-f", "-");
        assertEquals(code, 0);
        assertStringIncludes(stderr, "Must enable table loading for optimizations");
        assertEquals(await others(), "");
        await mac.feed(rules, "pfctl", "-o", "none", "-R", "-f", "-");
        assertEquals(await mac.state(), before);
      },
    );
    await t.step("enable, twice, and of a second account", async () => {
      await mac.applied("enable", { accounts: [A] });
      await mac.applied("enable", { accounts: [A] });
      await mac.applied("enable", { accounts: [B] });
      assertEquals(await others(), rules);
    });
    await t.step("an enable that fails", async () => {
      const enabled = await mac.state();
      await mac.fail("-a com.fishnet");
      assertEquals((await mac.apply("enable", { accounts: [SERVICE] })).code, 1);
      await mac.fail("");
      assertEquals(await mac.state(), enabled);
    });
    await t.step("disable of one, and of the other", async () => {
      await mac.applied("disable", { accounts: [A] });
      assertEquals([await isLocked(mac, A), await isLocked(mac, B)], [false, true]);
      assertEquals(await others(), rules);
      await mac.applied("disable", { accounts: [B] });
      assertEquals(await mac.state(), before);
    });
  },
);

standInTest("what could pass packets past our call stands below it", async (mac) => {
  const main = await mac.must("pfctl", "-s", "rules");
  const foreign = `${main}pass in on en0 all flags S/SA keep state\nanchor "vpn" all\n` +
    "pass out quick on en0 all flags S/SA keep state\n";
  await mac.feed(foreign, "pfctl", "-o", "none", "-R", "-f", "-");
  await mac.feed("pass quick on utun4 all\n", "pfctl", "-a", "vpn", "-f", "-");
  const before = await mac.state();
  await mac.applied("enable", { accounts: [A] });
  const scrub = 'scrub-anchor "com.apple/*" all fragment reassemble\n';
  assertEquals(
    await mac.must("pfctl", "-s", "rules"),
    foreign.replace(scrub, (first) => `${first}${CALL} all\n`),
  );
  assertEquals((await mac.status(A))[0]!.state, "locked");
  await mac.applied("disable", { accounts: [A] });
  assertEquals(await mac.state(), before);
});

standInTest("what a call with a star leads to may pass first, too", async (mac) => {
  await mac.applied("enable", { accounts: [A] });
  const main = await mac.must("pfctl", "-s", "rules");
  const load = ["pfctl", "-o", "none", "-R", "-f", "-"];
  await mac.feed("block drop all\n", "pfctl", "-a", "vpn/100.block", "-f", "-");
  await mac.feed(main.replace(/^anchor/m, 'anchor "vpn/*" all\nanchor'), ...load);
  assertEquals(faults((await mac.status(A))[0]!), []);
  await mac.feed("pass out quick on utun4 all\n", "pfctl", "-a", "vpn/200.pass", "-f", "-");
  assertStringIncludes(
    faults((await mac.status(A))[0]!)[0]!,
    'before it stands "anchor "vpn/*" all"',
  );
  await mac.applied("enable", { accounts: [A] });
  assertEquals(faults((await mac.status(A))[0]!), []);
});

standInTest(
  "a call that something else has come to stand before is moved above it",
  async (mac) => {
    await mac.applied("enable", { accounts: [A] });
    const main = await mac.must("pfctl", "-s", "rules");
    await mac.feed(
      main.replace(/^anchor/m, "pass quick on en0 all\nanchor"),
      "pfctl",
      "-o",
      "none",
      "-R",
      "-f",
      "-",
    );
    const [status] = await mac.status(A);
    assertEquals(status!.state, "partial");
    assertMatch(
      faults(status!)[0]!,
      /before it stands "pass quick on en0 all flags S\/SA keep state"/,
    );
    await mac.applied("enable", { accounts: [A] });
    assertEquals(faults((await mac.status(A))[0]!), []);
  },
);

standInTest(
  "pf stays on for whoever else holds a reference, and that reference stays",
  async (mac) => {
    const token = await mac.foreignReference();
    const before = await mac.state();
    await mac.applied("enable", { accounts: [A] });
    await mac.fail("launchctl bootstrap");
    assertEquals((await mac.apply("enable", { accounts: [B], persist: true })).code, 1);
    await mac.fail("");
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before);
    assertStringIncludes(await mac.must("pfctl", "-s", "References"), ` ${token} `);
  },
);

standInTest(
  "the reference page's own file and line make way, since they enforce nothing",
  async (mac) => {
    await mac.write(
      FILE,
      `block drop out quick user ${A} to any\npass out quick on lo0 user ${A} to any\n`,
    );
    await mac.write("/etc/pf.conf", `${STOCK_PF_CONF}${CALL}\n`);
    assertEquals((await mac.status(A))[0]!.state, "unlocked");
    await mac.applied("enable", { accounts: [A] });
    assertEquals(faults((await mac.status(A))[0]!), []);
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.read("/etc/pf.conf"), STOCK_PF_CONF);
  },
);

standInTest("somebody else's rules among ours are refused, and stay", async (mac) => {
  await mac.applied("enable", { accounts: [A] });
  await mac.write(FILE, `${await mac.read(FILE)}pass quick on en0 all\n`);
  const before = await mac.state();
  for (const action of ["enable", "disable"] as const) {
    const { code, text } = await mac.apply(action, { accounts: [action === "enable" ? B : A] });
    assertEquals(code, 1);
    assertStringIncludes(text, '"pass quick on en0 all" is none of our rules');
    assertEquals(await mac.state(), before);
  }
});

standInTest("an account that the file has lost comes back with the next one", async (mac) => {
  await mac.applied("enable", { accounts: [A] });
  await mac.must("rm", FILE);
  await mac.applied("enable", { accounts: [B] });
  assertEquals([await isLocked(mac, A), await isLocked(mac, B)], [true, true]);
  assertStringIncludes((await mac.read(FILE))!, `# ${A}\n`);
});

standInTest("a change of --only-port replaces the rules at once, in one load", async (mac) => {
  await mac.applied("enable", { accounts: [A], onlyPorts: [3777] });
  const limited = await mac.state();
  assertStringIncludes(await loaded(mac), "port 3778:65535");
  await mac.fail(`-a ${ANCHOR} -f /etc`);
  assertEquals((await mac.apply("enable", { accounts: [A], onlyPorts: [8080] })).code, 1);
  await mac.fail("");
  assertEquals(await mac.state(), limited, "a failure brings the old ones back");
  await mac.changes();
  await mac.applied("enable", { accounts: [A], onlyPorts: [8080, 9090] });
  assertEquals(await mac.changes(), [`-a ${ANCHOR} -f ${FILE}`]);
  assertEquals((await mac.status(A))[0]!.onlyPorts, [8080, 9090]);
});

standInTest(
  "an account that does not exist, is root, or is called otherwise, is not locked",
  async (mac) => {
    await mac.must("sh", "-c", "echo toor:x:0:0::/root:/bin/sh >>/etc/passwd");
    await mac.must("sh", "-c", "echo Agent_A:x:64001:64001::/nonexistent:/bin/sh >>/etc/passwd");
    const before = await mac.state();
    for (
      const [name, said] of [
        ["nobody_there", "the account 'nobody_there' does not exist"],
        ["toor", "refusing to lock 'toor', which has uid 0"],
        ["Agent_A", `the account 'Agent_A' is called '${A}'`],
      ] as const
    ) {
      const { code, text } = await mac.apply("enable", { accounts: [name] });
      assertEquals(code, 1);
      assertStringIncludes(text, said);
      assertEquals(await mac.state(), before);
    }
  },
);

standInTest("to disable an account opens no uid that it shares with a locked one", async (mac) => {
  const [passwd, entry] = [await mac.read("/etc/passwd"), ":x:64001:64001::/nonexistent:/bin/sh\n"];
  // Whichever of the two the directory names first.
  for (
    const [text, lock, other] of [
      [`${passwd}twin${entry}`, A, "twin"],
      [`twin${entry}${passwd}`, "twin", A],
    ] as const
  ) {
    await mac.write("/etc/passwd", text);
    await mac.applied("enable", { accounts: [lock] });
    assertEquals(await mac.applied("disable", { accounts: [other] }), "changed 0");
    assert(await isLocked(mac, lock));
    await mac.applied("disable", { accounts: [lock] });
    assert(!await isLocked(mac, lock));
  }
  // Another spelling is the same account.
  await mac.write("/etc/passwd", `${passwd}Agent_A${entry}`);
  await mac.applied("enable", { accounts: [A] });
  await mac.applied("disable", { accounts: ["Agent_A"] });
  assert(!await isLocked(mac, A));
});

standInTest("where others pass first below com.apple, our call goes before them", async (mac) => {
  await mac.feed("pass out quick on en0 all\n", "pfctl", "-a", "com.apple/box/uid_502", "-f", "-");
  const before = await mac.state();
  const main = await mac.must("pfctl", "-s", "rules");
  await mac.applied("enable", { accounts: [A] });
  const call = `anchor "${ANCHOR}" all\n`;
  assertEquals(
    await mac.must("pfctl", "-s", "rules"),
    main.replace('anchor "com.apple/*" all\n', (apples) => call + apples),
  );
  assertEquals(faults((await mac.status(A))[0]!), []);
  await mac.applied("disable", { accounts: [A] });
  assertEquals(await mac.state(), before);
});

standInTest("where translation passes packets before any rule, enable refuses", async (mac) => {
  await mac.write(`${STATE}/nat`, "nat pass on utun3 inet all -> 10.0.0.1\n");
  const before = await mac.state();
  const { code, text } = await mac.apply("enable", { accounts: [A] });
  assertEquals(code, 1);
  assertStringIncludes(text, 'take "pass" out of it');
  assertEquals(await mac.state(), before);
});

standInTest("where pf looks at no packet of an interface, enable refuses", async (mac) => {
  const before = await mac.state();
  await mac.skip("en0");
  const { code, text } = await mac.apply("enable", { accounts: [A] });
  assertEquals(code, 1);
  assertStringIncludes(text, "pf looks at no packet of en0");
  await mac.skip("lo0");
  assertEquals((await mac.apply("enable", { accounts: [A], onlyPorts: [3777] })).code, 1);
  assertEquals(await mac.state(), before);
  await mac.applied("enable", { accounts: [A] });
});

/** What outlasts a restart, and what comes back by itself, on a stand-in for a Mac. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { A, ANCHOR, B, CALL, FILE, inUse, isLocked } from "./support/in_use.ts";
import { AGENTS, faults, standInTest, STOCK_PF_CONF } from "./support/stand_in.ts";

standInTest(
  "after a restart the lock is gone and enable puts it back, with a new reference",
  async (mac) => {
    const before = await mac.state();
    await mac.applied("enable", { accounts: [A] });
    // A start of macOS has the call where pf.conf has it.
    const state = async () => (await mac.state()).replace(`${CALL} all\n`, "");
    const enabled = await state();
    await mac.reboot();
    const [status] = await mac.status(A);
    assertEquals(faults(status!), ["a reference of our own that keeps pf on: pf is off"]);
    await mac.applied("enable", { accounts: [A] });
    assertEquals(await state(), enabled);
    assertEquals(faults((await mac.status(A))[0]!), []);
    await mac.reboot();
    await mac.foreignReference();
    await mac.applied("disable", { accounts: [A] });
    await mac.must("pfctl", "-d");
    assertEquals(await mac.state(), before, "a token that pf no longer knows is no failure");
  },
);

standInTest("disable also cleans up what somebody has half removed", async (mac) => {
  const before = await mac.state();
  for (const removed of ["/var/db/fishnet.token", FILE, "/Library/LaunchDaemons/*.plist"]) {
    await mac.applied("enable", { accounts: [A], persist: true });
    await mac.must("sh", "-c", `pfctl -d; rm ${removed}`);
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before);
  }
});

standInTest(
  "with --persist one LaunchDaemon restores all locks, at boot and each minute",
  async (mac, t) => {
    await inUse(mac);
    const before = await mac.state();
    await mac.applied("enable", { accounts: AGENTS, persist: true });
    assertEquals(await mac.must("ls", "/Library/LaunchDaemons"), `${ANCHOR}.plist\n`);
    assertEquals(await mac.applied("enable", { accounts: AGENTS, persist: true }), "changed 0");
    const enabled = await mac.state();
    const main = await mac.must("pfctl", "-s", "rules");
    const restored: Readonly<Record<string, () => Promise<unknown>>> = {
      "another program replaced the main rules": () =>
        mac.feed(main.replace(`${CALL} all\n`, ""), "pfctl", "-o", "none", "-R", "-f", "-"),
      "somebody turned pf off": () => mac.must("pfctl", "-d"),
      "somebody emptied the anchor": () => mac.must("pfctl", "-a", ANCHOR, "-F", "rules"),
      "the token is gone": () => mac.must("sh", "-c", "rm /var/db/fishnet.token; pfctl -d"),
      "nothing happened": () => Promise.resolve(),
    };
    for (const [name, happens] of Object.entries(restored)) {
      await t.step(name, async () => {
        await happens();
        await mac.minute();
        assertEquals(await mac.state(), enabled);
      });
    }
    await t.step("another program's rules, in the place of all, pass at once", async () => {
      const theirs = "pass quick on utun4 all flags S/SA keep state\n";
      const load = ["pfctl", "-o", "none", "-R", "-f", "-"];
      await mac.feed(
        main.replace(`${CALL} all\n`, "").replace(/^anchor/m, `${theirs}anchor`),
        ...load,
      );
      await mac.minute();
      for (const status of await mac.status(...AGENTS)) assertEquals(faults(status), []);
      await mac.feed(main, ...load);
      assertEquals(await mac.state(), enabled);
    });
    await t.step("a call of our name that is none of filter rules", async () => {
      const load = ["pfctl", "-o", "none", "-R", "-f", "-"];
      const scrub = `scrub-${CALL} all fragment reassemble\n`;
      await mac.feed(scrub + main.replace(`${CALL} all\n`, ""), ...load);
      await mac.minute();
      assertStringIncludes(await mac.must("pfctl", "-s", "rules"), `\n${CALL} all\n`);
      await mac.feed(main, ...load);
      assertEquals(await mac.state(), enabled);
    });
    await t.step("pf is busy for others, three times", async () => {
      await mac.must("sh", "-c", `pfctl -a ${ANCHOR} -F rules`);
      await mac.strike("busy", 3);
      await mac.minute();
      assertEquals(await mac.state(), enabled);
    });
    await t.step("a load that loses a rule of others is taken back, and tried again", async () => {
      await mac.feed(main.replace(`${CALL} all\n`, ""), "pfctl", "-o", "none", "-R", "-f", "-");
      await mac.strike("lossy", 1);
      await mac.minute();
      assertEquals(await mac.state(), enabled);
    });
    await t.step("a list that is cut off is not loaded", async () => {
      await mac.feed(main.replace(`${CALL} all\n`, ""), "pfctl", "-o", "none", "-R", "-f", "-");
      await mac.strike("cut", 3);
      await mac.minute();
      assertEquals(await mac.state(), enabled);
    });
    await t.step("not while the program is at work", async () => {
      await mac.must("pfctl", "-d");
      await mac.must("flock", "/etc/sudoers", "launchctl", "tick");
      assertStringIncludes(await mac.must("pfctl", "-s", "info"), "Disabled");
      await mac.minute();
      assertEquals(await mac.state(), enabled);
    });
    await t.step("a restart, after an update of macOS has replaced pf.conf", async () => {
      const text = (await mac.read("/etc/pf.conf"))!;
      await mac.write("/etc/pf.conf", STOCK_PF_CONF);
      await mac.reboot();
      assertEquals([await isLocked(mac, A), await isLocked(mac, B)], [true, true]);
      const [status] = await mac.status(A);
      assertEquals(faults(status!), ["the two lines of /etc/pf.conf: missing"]);
      await mac.write("/etc/pf.conf", text);
      await mac.must("pfctl", "-f", "/etc/pf.conf");
      await inUse(mac);
    });
    await t.step("disable", async () => {
      await mac.applied("disable", { accounts: AGENTS });
      assertEquals(await mac.state(), before);
    });
  },
);

standInTest("enable right after a disable waits until the LaunchDaemon has gone", async (mac) => {
  const before = await mac.state();
  for (let round = 0; round < 2; round++) {
    await mac.applied("enable", { accounts: [A], persist: true });
    await mac.applied("disable", { accounts: [A] });
  }
  assertEquals(await mac.state(), before);
});

standInTest("a LaunchDaemon of another version is replaced by this one", async (mac) => {
  await mac.applied("enable", { accounts: [A], persist: true });
  const enabled = await mac.state();
  for (const file of ["/var/db/fishnet.sh", `/Library/LaunchDaemons/${ANCHOR}.plist`]) {
    await mac.must("sh", "-c", `echo >>${file}`);
    assertMatch(faults((await mac.status(A))[0]!)[0]!, /is not the one of this version/);
    await mac.applied("enable", { accounts: [A] });
    assertEquals(await mac.state(), enabled);
  }
});

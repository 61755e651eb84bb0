/** What is left on a stand-in for a Mac when something goes wrong: nothing. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { A, ANCHOR, B, CALL, FILE, inUse } from "./support/in_use.ts";
import { standInTest } from "./support/stand_in.ts";

standInTest(
  "rules that get lost as they are loaded are put back, and the run fails",
  async (mac) => {
    await inUse(mac);
    const before = await mac.state();
    await mac.strike("lossy", 1);
    const { code, text } = await mac.apply("enable", { accounts: [A] });
    assertEquals(code, 1);
    assertStringIncludes(text, "pf's running rules are no longer those that were read");
    assertEquals(await mac.state(), before);
  },
);

standInTest(
  "a rule that another program adds meanwhile stays, though the run fails",
  async (mac) => {
    await inUse(mac);
    const theirs = "pass out on utun7 all flags S/SA keep state";
    for (const action of ["enable", "disable"] as const) {
      const rules = await mac.must("pfctl", "-s", "rules");
      await mac.sneak(theirs);
      const { code, text } = await mac.apply(action, { accounts: [A] });
      assertEquals(code, 1);
      assertStringIncludes(text, "pf's running rules are no longer those that were read");
      // Nobody knows what the new rule passes: a lock that stays is asked before all others.
      const others = rules.trim().split("\n").filter((rule) => rule !== `${CALL} all`);
      const [scrub, filter] = [true, false].map((wanted) =>
        others.filter((rule) => rule.startsWith("scrub") === wanted)
      );
      const expected = action === "enable"
        ? [...others, theirs]
        : [...scrub!, `${CALL} all`, ...filter!, theirs];
      const now = await mac.must("pfctl", "-s", "rules");
      assertEquals(now.trim().split("\n"), expected);
      await mac.feed(rules, "pfctl", "-o", "none", "-R", "-f", "-");
      if (action === "enable") await mac.applied("enable", { accounts: [A] });
    }
  },
);

standInTest("a list of rules that is cut off by somebody's change is read again", async (mac) => {
  await inUse(mac);
  const before = await mac.state();
  for (const times of [1, 2, 3]) {
    await mac.strike("cut", times);
    await mac.applied("enable", { accounts: [A] });
    await mac.strike("cut", times);
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before);
  }
  await mac.strike("cut", 100);
  const { code, text } = await mac.apply("enable", { accounts: [A] });
  await mac.strike("cut", 0);
  assertEquals(code, 1);
  assertStringIncludes(text, "pf's state could not be read: its rules changed at each look");
  assertEquals(await mac.state(), before);
});

standInTest("where pf is busy, enable fails, and the undo waits until it is not", async (mac) => {
  const before = await mac.state();
  await mac.strike("busy", 1);
  const { code, text } = await mac.apply("enable", { accounts: [A] });
  assertEquals(code, 1);
  assertStringIncludes(text, "DIOCADDRULE: Device busy");
  assertEquals(await mac.state(), before);
  await mac.applied("enable", { accounts: [A] });
  const enabled = await mac.state();
  await mac.fail("-F rules");
  const failed = mac.apply("disable", { accounts: [A] });
  assertEquals((await failed).code, 1);
  await mac.fail("");
  assertEquals(await mac.state(), enabled);
});

const WHERE_IT_FAILS: readonly (readonly [string, string])[] = [
  [`-nf ${FILE}.new`, "the check of the rules"],
  ["-nf /etc/pf.conf", "the check of pf.conf"],
  [`-a ${ANCHOR} -f ${FILE}`, "the anchor"],
  ["-R -f -", "the running rules"],
  ["-E", "the reference"],
  ["launchctl bootstrap", "the LaunchDaemon"],
];

standInTest("an enable that fails anywhere leaves the machine as it was", async (mac, t) => {
  const options = { accounts: [B], persist: true, onlyPorts: [3777, 8080] };
  const fails = async (rows: typeof WHERE_IT_FAILS, before: string) => {
    for (const [call, name] of rows) {
      await t.step(name, async () => {
        await mac.fail(call);
        const { code, text } = await mac.apply("enable", options);
        await mac.fail("");
        assertEquals(code, 1);
        assertStringIncludes(text, "nothing was changed");
        assertEquals(await mac.state(), before);
      });
    }
  };
  await fails(WHERE_IT_FAILS, await mac.state());
  // Beside another account's lock, less is to be done.
  await mac.applied("enable", { accounts: [A], onlyPorts: [22] });
  const rest = WHERE_IT_FAILS.filter(([call]) => /\.new$|^-a|launchctl/.test(call));
  await fails(rest, await mac.state());
});

standInTest("a disable that fails anywhere leaves the account locked as it was", async (mac, t) => {
  await mac.applied("enable", { accounts: [A], persist: true, onlyPorts: [3777] });
  const before = await mac.state();
  for (const call of ["launchctl bootout", "-X", "-F rules", "-R -f -"]) {
    await t.step(call, async () => {
      await mac.fail(call);
      const { code, text } = await mac.apply("disable", { accounts: [A] });
      await mac.fail("");
      assertEquals(code, 1);
      assertStringIncludes(text, "nothing was changed");
      assertEquals(await mac.state(), before);
    });
  }
});

standInTest("stopped before any step, everything is as it was, token and all", async (mac) => {
  const options = { accounts: [A], persist: true, onlyPorts: [3777] };
  for (const action of ["enable", "disable"] as const) {
    const before = await mac.state();
    for (let step = 2;; step++) {
      const { code, text } = await mac.apply(action, options, step);
      if (code === 0) break;
      assertEquals(text, "stopped");
      assertEquals(await mac.state(), before, `${action}, before step ${step}`);
    }
    assert(await mac.state() !== before);
  }
});

standInTest(
  "where the token's file cannot be written, the one new reference is given back",
  async (mac) => {
    const token = await mac.foreignReference();
    const before = await mac.state();
    // A disk that is full: tee fails, and pfctl has given a reference already.
    await mac.must("sh", "-c", "mv /usr/bin/tee /usr/bin/tee.whole");
    await mac.write(
      "/usr/bin/tee",
      `#!/bin/sh
case "$*" in *fishnet.token) cat >/dev/null; echo "No space left on device" >&2; exit 1 ;; esac
exec tee.whole "$@"\n`,
    );
    await mac.must("chmod", "755", "/usr/bin/tee");
    const { code, text } = await mac.apply("enable", { accounts: [A] });
    await mac.must("mv", "/usr/bin/tee.whole", "/usr/bin/tee");
    assertEquals(code, 1);
    assertStringIncludes(text, "No space left on device\nnothing was changed");
    assertEquals(await mac.state(), before);
    assertStringIncludes(await mac.must("pfctl", "-s", "References"), ` ${token} `);
  },
);

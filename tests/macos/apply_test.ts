/**
 * The plan's lines, run for real on a stand-in for a Mac: what is there afterwards,
 * and what is left when something goes wrong.
 */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { ANCHOR_CALL } from "../../src/macos/pf.ts";
import { lineOf } from "../../src/plan.ts";
import { planDisable, planEnable } from "../../src/planner.ts";
import {
  AGENTS,
  type Options,
  SERVICE,
  StandIn,
  standInTest,
  STOCK_PF_CONF,
} from "./support/stand_in.ts";

const [A, B] = AGENTS;

/** The lines as a person would paste them. */
const PLAN = {
  system: "macos",
  backend: "iptables",
  onlyPorts: [3777],
  persist: true,
  sessions: false,
} as const;
const ENABLE = planEnable([{ name: A }], PLAN).map(lineOf);
const DISABLE = planDisable([{ name: A }], PLAN).map(lineOf);

/** Those of them that are about our directory and pf.conf. */
const PF_CONF_LINES = { enable: ENABLE.slice(1, 3), disable: DISABLE.slice(-2) };

const rulesOf = (mac: StandIn, name: string) =>
  mac.exec("pfctl", "-a", `com.fishnet.localonly/${name}`, "-s", "rules");
const isLocked = async (mac: StandIn, name: string) =>
  (await rulesOf(mac, name)).stdout.includes("block return out quick on ! lo0 proto tcp");

standInTest(
  "enable puts the anchor, its call and one reference there, and disable leaves nothing",
  async (mac) => {
    const before = await mac.state();
    assertEquals(await mac.applied("enable", { accounts: [A] }), "changed 6 of 7");
    const uid = (await mac.must("id", "-u", A)).trim();
    assertEquals(
      (await rulesOf(mac, A)).stdout,
      `\
block return out quick on ! lo0 proto tcp from any to any port 1:65535 user = ${uid}
block return out quick on ! lo0 proto udp from any to any port 1:65535 user = ${uid}
block drop in quick on ! lo0 proto tcp from any to any port 1:65535 user = ${uid}
`,
    );
    assertEquals(await mac.read("/etc/pf.conf"), `${STOCK_PF_CONF}${ANCHOR_CALL}\n`);
    assertStringIncludes(await mac.must("pfctl", "-s", "rules"), `${ANCHOR_CALL} all\n`);
    assertStringIncludes(await mac.must("pfctl", "-s", "info"), "Status: Enabled");
    assertEquals(
      await mac.must("stat", "-c", "%A %u", "/var/db/fishnet", `/var/db/fishnet/${A}.token`),
      "drwx------ 0\n-rw------- 0\n",
    );
    const enabled = await mac.state();
    assertEquals(await mac.applied("enable", { accounts: [A] }), "changed 0 of 7");
    assertEquals(await mac.state(), enabled, "enable twice is enable once, with one reference");
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before);
    assertEquals(await mac.applied("disable", { accounts: [A] }), "changed 0 of 7");
  },
);

standInTest(
  "no call of pfctl turns pf off, loads pf.conf over the running rules, or touches a foreign anchor",
  async (mac) => {
    await mac.changes();
    await mac.applied("enable", { accounts: AGENTS, onlyPorts: [3777] });
    await mac.applied("disable", { accounts: AGENTS });
    const anchor = (name: string) => `-a com.fishnet.localonly/${name}`;
    const calls = (await mac.changes()).map((call) => call.replace(/-X \d+/, "-X TOKEN"));
    const load = (name: string) =>
      `${anchor(name)} -f /etc/pf.anchors/com.fishnet.localonly.${name}`;
    assertEquals(calls, [
      "-R -f -",
      ...[load(A), "-E", load(B), "-E"],
      ...["-X TOKEN", `${anchor(B)} -F rules`, "-X TOKEN", `${anchor(A)} -F rules`],
      "-R -f -",
    ]);
  },
);

standInTest(
  "an account whose name begins with an underscore is locked, found and freed",
  async (mac) => {
    const before = await mac.state();
    await mac.applied("enable", { accounts: [SERVICE, A] });
    const { accounts } = await mac.status();
    assertEquals(accounts.map(({ name, state }) => [name, state]), [
      [SERVICE, "locked"],
      [A, "locked"],
    ]);
    await mac.applied("disable", { accounts: [SERVICE, A] });
    assertEquals(await mac.state(), before);
  },
);

standInTest("disabling one agent leaves the other one locked", async (mac) => {
  const before = await mac.state();
  await mac.applied("enable", { accounts: AGENTS });
  await mac.applied("disable", { accounts: [A] });
  assertEquals(await isLocked(mac, A), false);
  assertEquals(await isLocked(mac, B), true);
  assertStringIncludes(await mac.must("pfctl", "-s", "rules"), ANCHOR_CALL);
  assertStringIncludes(await mac.must("pfctl", "-s", "info"), "Status: Enabled");
  await mac.applied("disable", { accounts: [B] });
  assertEquals(await mac.state(), before);
});

standInTest(
  "pf stays on for whoever else holds a reference, and that reference stays",
  async (mac) => {
    const token = await mac.foreignReference();
    const before = await mac.state();
    await mac.applied("enable", { accounts: [A] });
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before);
    assertStringIncludes(await mac.must("pfctl", "-s", "References"), ` ${token} `);
  },
);

standInTest(
  "calls that others put into the running rules at run time are there all along",
  async (mac) => {
    await mac.feed(
      `${await mac.must("pfctl", "-s", "rules")}anchor "com.apple.internet-sharing" all\n`,
      "pfctl",
      "-R",
      "-f",
      "-",
    );
    const before = await mac.state();
    await mac.applied("enable", { accounts: [A] });
    assertStringIncludes(await mac.must("pfctl", "-s", "rules"), "internet-sharing");
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before);
  },
);

standInTest(
  "pf.conf comes back byte for byte, with its mode, whatever it ends in",
  async (mac, t) => {
    const withoutEnd = STOCK_PF_CONF.trimEnd();
    for (
      const [name, text] of Object.entries({
        "a file that ends in a newline": STOCK_PF_CONF,
        "one that does not": withoutEnd,
        "one that ends in a comment": `${withoutEnd}\n# anchor "com.fishnet.localonly/*"`,
        "one that ends in empty lines": `${STOCK_PF_CONF}\n\n`,
        "an empty one": "",
        "one with the reference page's own line":
          `${STOCK_PF_CONF}anchor "com.fishnet.localonly"\n`,
      })
    ) {
      await t.step(name, async () => {
        await mac.write("/etc/pf.conf", text);
        await mac.must("chmod", "640", "/etc/pf.conf");
        await mac.paste(PF_CONF_LINES.enable);
        const enabled = (await mac.read("/etc/pf.conf"))!;
        assert(enabled.startsWith(text) && enabled.endsWith("\n"));
        assertEquals(await mac.exec("pfctl", "-nf", "/etc/pf.conf").then(({ code }) => code), 0);
        await mac.paste(PF_CONF_LINES.disable);
        assertEquals(await mac.read("/etc/pf.conf"), text);
        assertEquals(await mac.must("stat", "-c", "%a", "/etc/pf.conf"), "640\n");
      });
    }
  },
);

standInTest("what somebody wrote below our line stays, and only our line goes", async (mac) => {
  await mac.write("/etc/pf.conf", STOCK_PF_CONF.trimEnd());
  await mac.applied("enable", { accounts: [A] });
  await mac.write("/etc/pf.conf", `${await mac.read("/etc/pf.conf")}pass in all`);
  await mac.must("sh", "-c", "echo >>/etc/pf.conf");
  await mac.applied("disable", { accounts: [A] });
  assertEquals(await mac.read("/etc/pf.conf"), `${STOCK_PF_CONF}pass in all\n`);
});

standInTest(
  "a pf.conf that pfctl refuses, or that is a link, is refused and left alone",
  async (mac, t) => {
    await t.step("a broken one", async () => {
      await mac.write("/etc/pf.conf", `${STOCK_PF_CONF}let me through\n`);
      const before = await mac.state();
      const { code, stdout } = await mac.apply("enable", { accounts: [A] });
      assertEquals(code, 1);
      assertStringIncludes(stdout, "pf.conf:10: syntax error");
      assertStringIncludes(stdout, "nothing was changed");
      assertEquals(await mac.state(), before);
    });
    await t.step("a link", async () => {
      await mac.write("/etc/pf.conf", STOCK_PF_CONF);
      await mac.must(
        "sh",
        "-c",
        "mv /etc/pf.conf /etc/pf.conf.real; ln -s pf.conf.real /etc/pf.conf",
      );
      const before = await mac.state();
      const { code, stdout } = await mac.apply("enable", { accounts: [A] });
      assertEquals(code, 1);
      assertStringIncludes(stdout, "/etc/pf.conf is a link");
      assertEquals(await mac.state(), before);
    });
  },
);

standInTest(
  "after a restart the lock is gone and enable puts it back, with a new reference",
  async (mac) => {
    const before = await mac.state();
    await mac.applied("enable", { accounts: [A] });
    const enabled = await mac.state();
    await mac.reboot();
    assertEquals(await isLocked(mac, A), false);
    assertEquals(await mac.applied("enable", { accounts: [A] }), "changed 2 of 7");
    assertEquals(await mac.state(), enabled);
    await mac.reboot();
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before, "a token that pf no longer knows is no failure");
  },
);

standInTest("a stale token does no harm either while others keep pf on", async (mac) => {
  await mac.applied("enable", { accounts: [A] });
  await mac.reboot();
  await mac.foreignReference();
  const { code, stdout } = await mac.apply("disable", { accounts: [A] });
  assertEquals(code, 0, stdout);
  assertStringIncludes(await mac.must("pfctl", "-s", "info"), "Status: Enabled");
});

standInTest("disable also cleans up what somebody has half removed", async (mac) => {
  const before = await mac.state();
  for (const removed of ["/var/db/fishnet", "/etc/pf.anchors/com.fishnet.localonly.*"]) {
    await mac.applied("enable", { accounts: [A] });
    await mac.must(
      "sh",
      "-c",
      `pfctl -X $(sed -n "s/^Token : //p" /var/db/fishnet/*); rm -r ${removed}`,
    );
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await mac.state(), before);
  }
});

standInTest(
  "with --persist a LaunchDaemon restores the lock at boot, also where pf.conf was not loaded",
  async (mac) => {
    const before = await mac.state();
    await mac.applied("enable", { accounts: AGENTS, persist: true });
    const enabled = await mac.state();
    assertEquals(
      await mac.applied("enable", { accounts: AGENTS, persist: true }),
      "changed 0 of 13",
    );
    await mac.reboot();
    assertEquals(await mac.state(), enabled);
    assertEquals(await mac.applied("enable", { accounts: AGENTS }), "changed 0 of 11");
    await mac.applied("disable", { accounts: AGENTS });
    assertEquals(await mac.state(), before);
  },
);

standInTest(
  "a change of --only-port replaces the rules at once, and a failure brings the old ones back",
  async (mac) => {
    await mac.applied("enable", { accounts: [A], onlyPorts: [3777] });
    const limited = await mac.state();
    assertStringIncludes((await rulesOf(mac, A)).stdout, "port 3778:65535");
    await mac.must("sh", "-c", "pfctl -X $(sed -n 's/^Token : //p' /var/db/fishnet/*.token)");
    await mac.fail("-E");
    const { code } = await mac.apply("enable", { accounts: [A] });
    assertEquals(code, 1);
    await mac.fail("");
    await mac.applied("enable", { accounts: [A], onlyPorts: [3777] });
    assertEquals(await mac.state(), limited);
    await mac.applied("enable", { accounts: [A] });
    assert(!(await rulesOf(mac, A)).stdout.includes("port 3778:65535"));
  },
);

standInTest(
  "an account that does not exist, is root, or is called otherwise, is not locked",
  async (mac) => {
    await mac.must("sh", "-c", "echo toor:x:0:0::/root:/bin/sh >>/etc/passwd");
    await mac.must("sh", "-c", "echo Agent_A:x:64001:64001::/nonexistent:/bin/sh >>/etc/passwd");
    const before = await mac.state();
    for (
      const [name, said] of [
        ["nobody_there", "no such user"],
        ["toor", "command failed (exit status 1)"],
        ["Agent_A", `the account is called ${A}`],
      ] as const
    ) {
      const { code, stdout } = await mac.apply("enable", { accounts: [name] });
      assertEquals(code, 1);
      assertStringIncludes(stdout, said);
      assertStringIncludes(stdout, "nothing was changed");
      assertEquals(await mac.state(), before);
    }
  },
);

const WHERE_IT_FAILS: readonly (readonly [string, string])[] = [
  ["-nf pf.conf", "the check of pf.conf"],
  ["-R -f -", "the running rules"],
  ["-n -a com.fishnet", "the check of the agent's rules"],
  [`-a com.fishnet.localonly/${B} -f /etc`, "the anchor"],
  ["-E", "the reference"],
  ["launchctl bootstrap", "the LaunchDaemon"],
];

standInTest("an enable that fails anywhere leaves the machine as it was", async (mac, t) => {
  const options: Options = { accounts: [B], persist: true, onlyPorts: [3777, 8080] };
  const before = await mac.state();
  for (const [call, name] of WHERE_IT_FAILS) {
    await t.step(name, async () => {
      await mac.fail(call);
      const { code, stdout } = await mac.apply("enable", options);
      await mac.fail("");
      assertEquals(code, 1);
      assertStringIncludes(stdout, "command failed (exit status");
      assertStringIncludes(stdout, "nothing was changed");
      assertEquals(await mac.state(), before);
    });
  }
});

standInTest("an enable that fails does not open a lock that was there before", async (mac, t) => {
  await mac.applied("enable", { accounts: [A, B], persist: true, onlyPorts: [3777] });
  const before = await mac.state();
  for (const [call, name] of WHERE_IT_FAILS.filter(([call]) => /-n -a|-f .etc/.test(call))) {
    await t.step(name, async () => {
      await mac.fail(call);
      const { code } = await mac.apply("enable", { accounts: [B], persist: true });
      await mac.fail("");
      assertEquals(code, 1);
      assertEquals(await mac.state(), before);
    });
  }
});

standInTest("a disable that fails anywhere leaves the account locked as it was", async (mac, t) => {
  const options: Options = { accounts: [A], persist: true, onlyPorts: [3777] };
  await mac.applied("enable", options);
  const before = await mac.state();
  for (const call of ["-X", "-F rules", "-R -f -"]) {
    await t.step(call, async () => {
      await mac.fail(call);
      const { code, stdout } = await mac.apply("disable", options);
      await mac.fail("");
      assertEquals(code, 1);
      assertStringIncludes(stdout, "nothing was changed");
      assertEquals(await mac.state(), before);
    });
  }
});

standInTest(
  "killed while it holds the machine, the next run does not wait for it, and heals",
  async (mac) => {
    const options: Options = { accounts: [A], persist: true };
    const before = await mac.state();
    assert(await mac.killedBefore(8, "enable", options));
    assertNotEquals(await mac.state(), before);
    await mac.applied("enable", options);
    assert(await isLocked(mac, A));
    assert(await mac.killedBefore(2, "disable", options));
    await mac.applied("disable", options);
    assertEquals(await mac.state(), before);
  },
);

standInTest("ended before any line, enable and disable heal when they run again", async (mac) => {
  // The LaunchDaemon's lines are for the test above: they take the most time.
  const enable = planEnable([{ name: A }], { ...PLAN, persist: false }).map(lineOf);
  const disable = DISABLE.slice(1);
  const before = await mac.state();
  await mac.paste(enable);
  const enabled = await mac.state();
  const ends = async (on: StandIn, lines: readonly string[], state: string) => {
    await on.paste(lines);
    assertEquals(await on.state(), state, lines.join("\n"));
  };
  const heal = {
    async disable() {
      for (let line = 1; line < disable.length; line++) {
        await ends(mac, [...disable.slice(0, line), ...enable], enabled);
        await ends(mac, [...disable.slice(0, line), ...disable], before);
        await mac.paste(enable);
      }
    },
    async enable() {
      await using other = await StandIn.create();
      for (let line = 2; line < enable.length; line++) {
        await ends(other, [...enable.slice(0, line), ...disable], before);
        await ends(other, [...enable.slice(0, line), ...enable], enabled);
        await other.paste(disable);
      }
    },
  };
  await Promise.all([heal.disable(), heal.enable()]); // on two machines, to be quick
});

standInTest(
  "the same lines pasted into a shell, line by line and twice, do what --apply does",
  async (mac, t) => {
    const before = await mac.state();
    await mac.applied("enable", { accounts: [A], onlyPorts: [3777], persist: true });
    const enabled = await mac.state();
    assertNotEquals(enabled, before);
    await mac.applied("disable", { accounts: [A] });
    // zsh is the login shell of macOS; "-i" because a person types these lines.
    for (const shell of [["sh"], ["bash", "-i"], ["zsh", "-f", "-i"]]) {
      const isThere = (await mac.exec("which", shell[0]!)).code === 0;
      await t.step({
        name: `${shell.join(" ")}${isThere ? "" : " (skipped: not installed)"}`,
        ignore: !isThere,
        async fn() {
          for (const [lines, state] of [[ENABLE, enabled], [DISABLE, before]] as const) {
            await mac.paste(lines, ...shell);
            assertEquals(await mac.state(), state);
            await mac.paste(lines, ...shell);
            assertEquals(await mac.state(), state, "twice is once");
          }
        },
      });
    }
  },
);

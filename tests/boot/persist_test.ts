/** What `--persist` writes, on a machine that systemd runs: all of it or nothing, for each account. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Result } from "../support/process.ts";
import { World } from "../support/world.ts";
import { AGENT, type Boot, bootTest, CONTROL, Machine } from "./machine.ts";
import type { Warning } from "../../src/lock/report.ts";

const FOLDER = "/etc/fishnet-firewall";
const LOCK = "/etc/systemd/system/fishnet-lock.service";

function bootedTest(
  name: string,
  body: (on: { machine: Machine; world: World; boot: Boot }) => Promise<void>,
  size?: string,
): void {
  bootTest(name, async () => {
    await using machine = await Machine.create(size);
    await using world = await World.create();
    await using boot = await machine.boot(world);
    await boot.finished();
    await body({ machine, world, boot });
  });
}

const enable = (boot: Boot, names: readonly string[], ...more: readonly string[]) =>
  boot.fishnet("enable", ...names.flatMap((name) => ["--agent-user", name]), "--apply", ...more);

const disable = (boot: Boot, name: string) =>
  boot.fishnet("disable", "--agent-user", name, "--apply");

function assertFailed({ code, stderr }: Result, because: string): void {
  assertEquals(code, 1);
  assertStringIncludes(stderr, because);
  assert(stderr.trimEnd().endsWith("nothing was changed"), stderr);
}

bootedTest(
  "a full disk, or a folder that cannot be, leaves no unit, no script and no rule",
  async ({ machine, world, boot }) => {
    const [etc, state] = [await machine.etc(), await world.state()];
    await boot.exec("sh", "-c", "cat /dev/zero >/opt/filler");
    assertFailed(await enable(boot, [AGENT.name], "--persist"), "No space left on device");
    await boot.must("rm", "/opt/filler");
    assertEquals([await machine.etc(), await world.state()], [etc, state]);

    await boot.must("touch", FOLDER);
    assertFailed(await enable(boot, [AGENT.name], "--persist"), "File exists");
    await boot.must("rm", FOLDER);
    assertEquals([await machine.etc(), await world.state()], [etc, state]);
  },
  "20M",
);

bootedTest(
  "an enable that fails leaves the lock, and the files, of an earlier one as they were",
  async ({ machine, world, boot }) => {
    assertEquals((await enable(boot, [AGENT.name], "--persist")).code, 0);
    // The second account's file cannot be written: the first one's has been by then.
    await boot.must("mkdir", `${FOLDER}/${CONTROL.uid}.account.new`);
    const [etc, state] = [await machine.etc(), await world.state()];
    const both = [AGENT.name, CONTROL.name];
    assertFailed(await enable(boot, both, "--persist", "--only-port", "3777"), "Is a directory");
    assertEquals([await machine.etc(), await world.state()], [etc, state]);
  },
);

bootedTest(
  "disable removes what is the account's, and the units with the last one",
  async ({ machine, world, boot }) => {
    const [etc, state] = [await machine.etc(), await world.state()];
    assertEquals((await enable(boot, [AGENT.name])).code, 0);
    const agentAlone = await world.state();
    assertEquals((await disable(boot, AGENT.name)).code, 0);
    assertEquals((await enable(boot, [AGENT.name, CONTROL.name], "--persist")).code, 0);

    assertEquals((await disable(boot, CONTROL.name)).code, 0);
    assertEquals(await boot.must("ls", FOLDER), `${AGENT.uid}.account\nlock.sh\n`);
    // Nor is it held while other firewalls start, which goes on for the other one.
    const held = await boot.exec("nft", "list", "table", "inet", "fishnet_guard");
    assert(!held.stdout.includes(`${CONTROL.uid}`), held.stdout);
    // Uids that adjoin would share a routing rule: these do not.
    assertEquals(await world.state(), agentAlone);
    for (const unit of ["fishnet-lock", "fishnet-again", "fishnet-beside@nftables"]) {
      assertEquals(await boot.must("systemctl", "is-enabled", unit), "enabled\n", unit);
    }

    assertEquals((await disable(boot, AGENT.name)).code, 0);
    assertEquals((await disable(boot, AGENT.name)).code, 0, "a second time");
    assertEquals([await machine.etc(), await world.state()], [etc, state]);
    // They are not waited for: what they run waits until the program is done.
    await boot.until("sh", "-c", "! systemctl list-units --all -q 'fishnet*' | grep .");
  },
);

bootedTest(
  "what runs at boot asks for no name, and locks the ranges that the account has by then",
  async ({ world, boot }) => {
    assertEquals((await enable(boot, [AGENT.name], "--persist")).code, 0);
    await boot.must("sh", "-c", `echo ${AGENT.uid}:700000:10 >>/etc/subuid`);
    // Whoever looks up a name now fails: nobody has one.
    await boot.must("mount", "--bind", "/dev/null", "/etc/passwd");
    assertEquals((await boot.exec("id", "-u", AGENT.name)).code, 1);
    await boot.must("systemctl", "stop", "fishnet-watch");
    await boot.must("nft", "flush", "ruleset");
    await boot.must("ip", "rule", "del", "pref", "77");
    await boot.must("systemctl", "restart", "fishnet-lock");
    const state = await world.state();
    for (const range of [`${AGENT.uid}-${AGENT.uid}`, "700000-700009"]) {
      assertEquals(state.split(`uidrange ${range} prohibit`).length, 3, `${range}: both families`);
    }
    for (const [family, count] of [["iptables-nft", 3], ["ip6tables-nft", 2]] as const) {
      const rules = await world.must(`${family}-save`);
      // The DROP and the jump; of IPv4 that of multicast, for the account itself the page's own rule.
      assertEquals(rules.match(/uid-owner 700000-700009 /g)?.length, count, family);
      assertEquals(rules.match(new RegExp(`uid-owner ${AGENT.uid} `, "g"))?.length, 3, family);
    }
  },
);

bootedTest(
  "the dry-run's lines, pasted into a shell, do what --apply does",
  async ({ machine, world, boot }) => {
    const shown = await boot.fishnet("enable", "--agent-user", AGENT.name, "--persist");
    // Between its first line and its last; the inside of a quoted text stands as it is.
    const lines = /^Firewall enable: dry-run\n(.*\n)Re-run with --apply/s.exec(shown.stdout)![1]!;
    await Deno.writeTextFile(`${machine.root}/opt/lines`, lines);
    await boot.must("sh", "-e", "/opt/lines");
    const [etc, state] = [await machine.etc(), await world.state()];
    const applied = await enable(boot, [AGENT.name], "--persist", "--json");
    assertEquals(JSON.parse(applied.stdout).changed, false);
    assertEquals([await machine.etc(), await world.state()], [etc, state]);
  },
);

bootedTest(
  "what listens to other firewalls ends by itself, and no process stays",
  async ({ boot }) => {
    assertEquals((await enable(boot, [AGENT.name], "--persist")).code, 0);
    await boot.until("systemctl", "is-active", "fishnet-watch");
    await boot.until(
      "sh",
      "-c",
      "systemctl show -p ActiveState fishnet-watch | grep -x ActiveState=inactive",
    );
    assertEquals((await boot.exec("pgrep", "--full", "fishnet-firewall")).code, 1);
    assertEquals(await boot.must("nft", "list", "tables", "inet"), "", "what it held");
  },
);

/** What an administrator may do to what runs at boot, and how it is undone. */
const BROKEN: readonly (readonly [fault: RegExp, how: string, back: string])[] = [
  [
    /fishnet-lock\.service is masked/,
    `mv ${LOCK} /opt && ln -s /dev/null ${LOCK} && systemctl daemon-reload`,
    `rm ${LOCK} && mv /opt/fishnet-lock.service ${LOCK} && systemctl daemon-reload`,
  ],
  [
    /fishnet-again\.service is changed by .*\/own\.conf/,
    "mkdir /etc/systemd/system/fishnet-again.service.d && printf '[Unit]\\nConditionPathExists=/none\\n' " +
    ">/etc/systemd/system/fishnet-again.service.d/own.conf && systemctl daemon-reload",
    "rm -r /etc/systemd/system/fishnet-again.service.d && systemctl daemon-reload",
  ],
  [
    /missing: .*sysinit\.target\.wants\/fishnet-lock\.service/,
    "rm /etc/systemd/system/sysinit.target.wants/fishnet-lock.service",
    "systemctl -q enable fishnet-lock",
  ],
  [/lock\.sh was changed/, `echo exit >>${FOLDER}/lock.sh`, `sed -i '$d' ${FOLDER}/lock.sh`],
  [/missing: .*lock\.sh/, `mv ${FOLDER}/lock.sh /opt`, `mv /opt/lock.sh ${FOLDER}`],
  [
    /fishnet-watch\.service was changed/,
    "sed -i s/watch$/wait/ /etc/systemd/system/fishnet-watch.service",
    "sed -i s/wait$/watch/ /etc/systemd/system/fishnet-watch.service",
  ],
  [/not root's alone/, `chmod 755 ${FOLDER}`, `chmod 700 ${FOLDER}`],
];

bootedTest(
  "what would not lock at the next boot, status names, and enable puts right",
  async ({ boot, machine }) => {
    assertEquals((await enable(boot, [AGENT.name], "--persist")).code, 0);
    const etc = await machine.etc();
    const status = async () => {
      const { stdout } = await boot.fishnet("status", "--agent-user", AGENT.name, "--json");
      const { accounts: [{ state, survivesReboot, rebootFaults, rebootRemedy }], warnings } = JSON
        .parse(stdout);
      assertEquals(state, "locked");
      const [{ remedy }] = [...warnings.filter((one: Warning) => one.urgency === 1), {}];
      assertEquals(remedy, rebootRemedy);
      return { survivesReboot, rebootFaults, ...(remedy === undefined ? {} : { remedy }) };
    };
    assertEquals(await status(), { survivesReboot: true, rebootFaults: undefined });
    for (const [fault, how, back] of BROKEN) {
      await boot.must("sh", "-c", how);
      const { survivesReboot, rebootFaults, remedy } = await status();
      assertEquals(survivesReboot, false, how);
      assertMatch(`${rebootFaults}`, fault);
      // What an administrator did on purpose stays his: the rest is put right.
      if (/null|own\.conf/.test(how)) {
        assertMatch(remedy!, /^sudo (systemctl unmask fishnet-lock\.service|rm \S+own\.conf && )/);
        await boot.must("sh", "-c", back);
      } else assertEquals((await enable(boot, [AGENT.name], "--persist")).code, 0, how);
      assertEquals(await status(), { survivesReboot: true, rebootFaults: undefined }, how);
      assertEquals(await machine.etc(), etc, how);
    }
  },
);

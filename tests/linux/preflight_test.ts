/** What `--apply` refuses before anything is changed; refusals_test.ts has the rest of the reasons. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { FishnetError } from "../../src/errors.ts";
import type { LockOptions } from "../../src/lock/piece.ts";
import { enableSteps, lockIn, paste, sightIn, statusOf, unlockIn } from "../support/inside.ts";
import { must } from "../support/process.ts";
import { program, type World, worldTest } from "../support/world.ts";

const BACKENDS = ["iptables", "nftables"] as const;

const change = (world: World, action: string, name: string, ...more: string[]) =>
  world.fishnet("firewall", action, "--agent-user", name, "--apply", ...more);

/** Runs a change that must be refused in one line, and must leave the rules as they were. */
async function refused(world: World, message: RegExp, ...args: [string, string, ...string[]]) {
  const before = await world.state();
  const { code, stdout, stderr } = await change(world, ...args);
  assertEquals([code, stdout], [1, ""], stderr);
  assertMatch(stderr, message);
  assertEquals(stderr.trim().split("\n").length, 1);
  assertEquals(await world.state(), before);
}

async function done(world: World, ...args: [string, string, ...string[]]) {
  const { code, stderr } = await change(world, ...args);
  assertEquals(code, 0, stderr);
}

/** Runs a change where a program of the system is another one, which only that run sees. */
async function changeWith(world: World, tool: string, script: string, ...args: string[]) {
  const path = (await must("realpath", tool)).trim();
  const folder = await Deno.makeTempDir({ prefix: "fishnet-old-" });
  try {
    await must("cp", path, `${folder}/real`);
    await Deno.writeTextFile(`${folder}/fake`, script.replace("REAL", `${folder}/real`));
    await must("chmod", "755", folder, `${folder}/fake`);
    return await world.exec(
      ...["sh", "-c", `mount --bind ${folder}/fake ${path} && exec "$@"`, "sh", ...program()],
      ...["firewall", "enable", "--agent-user", ...args, "--apply"],
    );
  } finally {
    await must("rm", "-r", folder);
  }
}

worldTest("enable and disable refuse, and change nothing", async (world, t) => {
  const [agent, other] = [await world.account(), await world.account()];
  const before = await world.state();

  await t.step("an account that does not exist", async () => {
    const why = /account 'no_such_one' does not exist: create it/;
    await refused(world, why, "enable", "no_such_one");
    await refused(world, /'no_such_one' does not exist, and no rule/, "disable", "no_such_one");
    const log = await world.fishnet("firewall", "log", "--agent-user", "no_such_one");
    assertEquals(log.code, 1);
    assertEquals(log.stderr, "[fishnet] the account 'no_such_one' does not exist\n");
  });

  await t.step("one account keeps the others from being locked", async () => {
    await refused(world, /'no_such_one' does not/, "enable", agent, "--agent-user", "no_such_one");
  });

  await t.step("with --json, by a document", async () => {
    const { code, stdout } = await change(world, "enable", "no_such_one", "--json");
    assertEquals(code, 1);
    assertMatch(JSON.parse(stdout).error.message, /does not exist/);
  });

  await t.step("uid 0 under any name", async () => {
    const name = await world.account({ args: ["--non-unique", "--uid", "0"] });
    await refused(world, /refusing to lock '.*', which has uid 0/, "enable", name);
  });

  await t.step("an account that shares its uid", async () => {
    const uid = `${world.firstUid + 9100}`;
    const one = await world.account({ args: ["--uid", uid] });
    const two = await world.account({ args: ["--non-unique", "--uid", uid] });
    await refused(
      world,
      new RegExp(`'${one}', which shares uid ${uid} with '${two}'`),
      "enable",
      one,
    );
  });

  await t.step("subordinate uids that are somebody else's", async () => {
    const entry = await must("grep", `^${other}:`, "/etc/subuid");
    const line = `${agent}:${Number(entry.split(":")[1]) + 7}:1`;
    await world.withSubordinate(
      [line],
      () => refused(world, new RegExp(`overlap those of '${other}'`), "enable", agent),
    );
  });

  await t.step("a line of /etc/subuid that others may read otherwise", async () => {
    const line = `${agent}:0x77359400:10`;
    const said = new RegExp(
      `line for '${agent}' that is no range, "${line}": write ${agent}:FIRST`,
    );
    await world.withSubordinate([line], () => refused(world, said, "enable", agent));
  });

  await t.step("where a lock would come before loopback", async () => {
    await world.must("ip", "-6", "rule", "add", "pref", "100", "lookup", "local");
    await world.must("ip", "-6", "rule", "del", "pref", "0");
    await refused(world, /off loopback as well: ip -6 rule has no .* add it/, "enable", agent);
    // As the message says.
    await world.must("ip", "-6", "rule", "add", "pref", "0", "lookup", "local");
    await world.must("ip", "-6", "rule", "del", "pref", "100");
    assertEquals(await world.state(), before);
  });

  await t.step("a sudo that cannot start the session, with the one it takes", async () => {
    // What sudo-rs 0.2.5 answers to an option that it does not have.
    const old = "#!/bin/sh\necho 'usage: sudo -h | -K | -k | -V' >&2\nexit 1\n";
    const { code, stderr } = await changeWith(world, "/usr/bin/sudo", old, agent);
    assertEquals(code, 1);
    assertMatch(stderr, /this sudo has no -b: sudo 1\.8 is needed, or sudo-rs 0\.2\.12/);
    assertEquals(await world.state(), before);
  });

  await t.step("nothing to take away is no reason", async () => {
    for (const backend of BACKENDS) await done(world, "disable", agent, "--backend", backend);
  });

  await t.step(
    "an nft that is too old for the table, and the other backend does not ask",
    async () => {
      const old = '#!/bin/sh\ncase $1 in --version) echo "nftables v1.0.2 (A Name)" ;; ' +
        '*) exec REAL "$@" ;; esac\n';
      const enable = (backend: string) =>
        changeWith(world, "/usr/sbin/nft", old, agent, "--backend", backend);
      const { code, stderr } = await enable("nftables");
      assertEquals(code, 1);
      assertMatch(stderr, /needs nft 1.0.3, and here is 1.0.2: use/);
      assertEquals(await world.state(), before);
      const taken = await enable("iptables");
      assertEquals(taken.code, 0, taken.stderr);
    },
  );
});

worldTest(
  "somebody else's chain or table of our name is never touched, and refused",
  async (world) => {
    const agent = await world.account();
    for (const tool of ["iptables", "ip6tables"]) {
      await world.must(tool, "-N", "fishnet");
      await world.must(tool, "-A", "fishnet", "-p", "tcp", "--dport", "22", "-j", "ACCEPT");
      await world.must(tool, "-A", "INPUT", "-j", "fishnet");
    }
    for (const table of ["fishnet", "fishnet_loopback"]) {
      await world.must(
        "nft",
        `table inet ${table} { chain in { type filter hook input priority 0; }; }`,
      );
    }
    const before = await world.state();
    await done(world, "disable", agent);
    assertEquals(await world.state(), before);
    const ports = ["--only-port", "3777"];
    await refused(
      world,
      /somebody else has a chain 'fishnet' in iptables/,
      "enable",
      agent,
      ...ports,
    );
    const nft = ["--backend", "nftables"];
    await refused(world, /somebody else has a table 'inet fishnet'/, "enable", agent, ...nft);
    // What needs neither is no reason to refuse.
    await done(world, "enable", agent);
    await done(world, "disable", agent);
    assertEquals(await world.state(), before);
  },
);

worldTest("overlapping ranges of the account itself are no reason to refuse", async (world) => {
  const agent = await world.account();
  const uid = (await must("id", "-u", agent)).trim();
  const ranges = [0, 50].map((more) => world.firstUid + more);
  const lines = [`${agent}:${ranges[0]}:100`, `${uid}:${ranges[1]}:100`];
  await world.withSubordinate(lines, async () => {
    for (const backend of BACKENDS) {
      await lockIn(world, [agent], { backend });
      assertEquals((await statusOf(world, agent)).state, "locked");
      await unlockIn(world, agent);
    }
  });
});

worldTest(
  "an account locked with one backend is changed in place with --backend",
  async (world) => {
    const agent = await world.account();
    const before = await world.state();
    const enable = (backend: string) => done(world, "enable", agent, "--backend", backend);
    await enable("nftables");
    const nftables = await world.state();
    await enable("iptables");
    const iptables = await world.state();
    await done(world, "disable", agent, "--backend", "nftables");
    assertEquals(await world.state(), before, "disable finds it, whichever backend it is told");
    await enable("iptables");
    assertEquals(await world.state(), iptables);
    await enable("nftables");
    assertEquals(await world.state(), nftables);
    // Without the option it stays where it is.
    const { code, stderr } = await change(world, "enable", agent);
    assertEquals(code, 0);
    assertStringIncludes(stderr, "already in force");
    assertEquals(await world.state(), nftables);
    await done(world, "disable", agent, "--backend", "iptables");
    assertEquals(await world.state(), before, "disable finds it, whichever backend it is told");
  },
);

worldTest("other --only-port ports than the lock's take their place", async (world, t) => {
  const agent = await world.account();
  const before = await world.state();
  for (const backend of BACKENDS) {
    await t.step(backend, async () => {
      const enable = (...onlyPorts: number[]) => lockIn(world, [agent], { backend, onlyPorts });
      await enable(9000);
      const one = await world.state();
      await enable(9000, 10000);
      const two = await world.state();
      assert(two !== one);
      // Without the option nothing is loosened.
      await enable();
      assertEquals(await world.state(), two);
      await enable(9000);
      assertEquals(sorted(await world.state()), sorted(one));
      await unlockIn(world, agent);
      assertEquals(await world.state(), before);
    });
  }
});

const sorted = (state: string) => state.split("\n").sort();

/** That a lock of an account would be refused, by what is there now. */
async function wouldRefuse(world: World, name: string, asked: Partial<LockOptions>, says: string) {
  const sight = await sightIn(world, [name]);
  assertThrows(() => enableSteps(sight, [name], asked), FishnetError, says);
}

for (const backend of BACKENDS) {
  worldTest(`${backend}: disable finds what an account left behind`, async (world, t) => {
    const [agent, other] = [await world.account(), await world.account()];
    const before = await world.state();
    const old = (await must("id", "-u", agent)).trim();

    await t.step("when its uid changed", async () => {
      await lockIn(world, [agent], { backend });
      await must("usermod", "-u", `${world.firstUid + 9000}`, agent);
      const note = new RegExp(
        `rules of uid ${old}, which it had, are left: fishnet firewall disable`,
      );
      const status = await world.fishnet("firewall", "status", "--agent-user", agent);
      assertEquals(status.code, 3);
      assertMatch(status.stdout, note);
      await done(world, "disable", agent, "--backend", backend);
      assertEquals(await world.state(), before);
      await must("usermod", "-u", old, agent);
    });

    await t.step("when it was renamed", async () => {
      await lockIn(world, [agent], { backend });
      await must("usermod", "-l", `${agent}_new`, agent);
      try {
        const taken = `is locked already, for '${agent}', which had it`;
        await wouldRefuse(world, `${agent}_new`, { backend }, taken);
        const all = (await statusOf(world)).accounts.filter(({ name }) => name.startsWith(agent));
        assertEquals(all.map(({ name }) => name), [`${agent}_new`], "who is held, by today's name");
        const anew = `--agent-user ${agent}_new --apply removes them, then fishnet firewall enable`;
        assertStringIncludes(all[0]!.notes!.join(), anew);
        const [former] = (await statusOf(world, agent)).accounts;
        assertStringIncludes(former!.notes!.join(), `'${agent}_new' has its uid now`);
        await done(world, "disable", `${agent}_new`, "--backend", backend);
        assertEquals(await world.state(), before);
      } finally {
        await must("usermod", "-l", agent, `${agent}_new`);
      }
    });

    await t.step("and whoever has that uid by now is not locked on top of it", async () => {
      await lockIn(world, [agent], { backend });
      await must("usermod", "-u", `${world.firstUid + 9000}`, agent);
      await must("usermod", "-u", old, other);
      const taken = new RegExp(`uid ${old} of '${other}' is locked already, for '${agent}'`);
      await refused(world, taken, "enable", other, "--backend", backend);
      const held = (await statusOf(world)).accounts.find(({ name }) => name === other);
      assertStringIncludes(
        held!.notes!.join(),
        `uid ${old} is locked for '${agent}', which had it`,
      );
      const instead = new RegExp(`is locked for '${agent}', which had it: disable '${agent}'`);
      await refused(world, instead, "disable", other);
      await done(world, "disable", agent, "--backend", backend);
      assertEquals(await world.state(), before);
    });
  });
}

worldTest("nftables: a subordinate uid that stands alone comes and goes", async (world) => {
  const agent = await world.account();
  const first = world.firstUid;
  const before = await world.state();
  const lines = [`${agent}:${first}:100`, `${agent}:${first + 99}:2`, `${agent}:${first + 500}:1`];
  await world.withSubordinate(lines, async () => {
    await done(world, "enable", agent, "--backend", "nftables", "--only-port", "3777");
    // As the script at boot has it.
    const element = ["element", "inet", "fishnet_loopback", "allowed"];
    const alone = `{ ${first + 500} . 3777 comment "${agent}" }`;
    await world.must("nft", "delete", ...element, `{ ${first + 500} . 3777 }`);
    await world.must("nft", "create", ...element.with(-1, "allowed_subordinate"), alone);
    assertEquals((await statusOf(world, agent)).state, "locked");
    await done(world, "disable", agent);
    assertEquals(await world.state(), before);
  });
});

worldTest(
  "nftables: ports that somebody opens besides are seen, with what shuts them",
  async (world) => {
    const agent = await world.account();
    await lockIn(world, [agent], { backend: "nftables", onlyPorts: [3777] });
    const uid = (await must("id", "-u", agent)).trim();
    for (
      const key of [`${uid} . 9000-9100`, "100000-165535 . 9000-9100", "0-4294967294 . 0-65535"]
    ) {
      const add = [
        "add",
        "element",
        "inet",
        "fishnet_loopback",
        "allowed_subordinate",
        `{ ${key} }`,
      ];
      await world.must("nft", ...add);
      const { accounts: [open] } = await statusOf(world, agent);
      assertEquals(open!.state, "partial", key);
      const { detail, remedy } = open!.pieces.find(({ present }) => !present)!;
      assertStringIncludes(detail!, "which opens more");
      await paste(world, [remedy!]);
      assertEquals((await statusOf(world, agent)).state, "locked", key);
    }
    await unlockIn(world, agent);
  },
);

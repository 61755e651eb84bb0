/** What `--apply` refuses before anything is changed. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { must } from "../support/process.ts";
import { program, type World, worldTest } from "../support/world.ts";

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

worldTest("enable and disable refuse an account that does not exist", async (world) => {
  await refused(world, /account 'no_such_one' does not exist: create it/, "enable", "no_such_one");
  await refused(world, /'no_such_one' does not exist, and no rule/, "disable", "no_such_one");
});

worldTest("enable refuses uid 0 under any name", async (world) => {
  const name = await world.account({ args: ["--non-unique", "--uid", "0"] });
  await refused(world, /refusing to lock '.*', which has uid 0/, "enable", name);
});

worldTest("enable refuses an account that shares its uid", async (world) => {
  const one = await world.account();
  const uid = (await must("id", "-u", one)).trim();
  const two = await world.account({ args: ["--non-unique", "--uid", uid] });
  await refused(
    world,
    new RegExp(`'${one}', which shares uid ${uid} with '${two}'`),
    "enable",
    one,
  );
});

worldTest("enable refuses subordinate uids that are somebody else's", async (world) => {
  const [agent, other] = [await world.account(), await world.account()];
  const uid = Number(await must("id", "-u", other));
  await world.withSubordinate(
    [`${agent}:0:100`],
    () => refused(world, /whose subordinate uids 0-99 contain root's/, "enable", agent),
  );
  // The lock of the own account would be one thing, the other's uid in its range another.
  await world.withSubordinate(
    [`${agent}:${uid}:1`],
    () => refused(world, new RegExp(`contain that of '${other}' \\(${uid}\\)`), "enable", agent),
  );
  const [first] = (await must("sh", "-c", `grep ^${other}: /etc/subuid | cut -d: -f2`)).split("\n");
  await world.withSubordinate(
    [`${agent}:${Number(first) + 7}:1`],
    () => refused(world, new RegExp(`overlap those of '${other}'`), "enable", agent),
  );
  await done(world, "enable", agent);
});

worldTest("enable refuses a uid that is one of somebody else's subordinate uids", async (world) => {
  const [agent, other] = [await world.account(), await world.account()];
  const uid = Number(await must("id", "-u", agent));
  await world.withSubordinate([`${other}:${uid - 1}:3`], () =>
    refused(
      world,
      new RegExp(`uid ${uid} is one of the subordinate uids of '${other}'`),
      ...["enable", agent] as const,
    ));
});

worldTest("enable refuses a line of /etc/subuid that others may read otherwise", async (world) => {
  const agent = await world.account();
  for (
    const line of [`${agent}:0x77359400:10`, `${agent}:02000000000:10`, `${agent}:1950000000:0`]
  ) {
    const said = new RegExp(
      `line for '${agent}' that is no range, "${line}": write ${agent}:FIRST`,
    );
    await world.withSubordinate([line], () => refused(world, said, "enable", agent));
  }
});

worldTest("enable refuses where a lock would come before loopback", async (world) => {
  const agent = await world.account();
  await world.must("ip", "-6", "rule", "add", "pref", "100", "lookup", "local");
  await world.must("ip", "-6", "rule", "del", "pref", "0");
  await refused(world, /off loopback as well: ip -6 rule has no .* add it/, "enable", agent);
  // As the message says.
  await world.must("ip", "-6", "rule", "add", "pref", "0", "lookup", "local");
  await done(world, "enable", agent);
});

worldTest("overlapping ranges of the account itself are no reason to refuse", async (world) => {
  const agent = await world.account();
  const uid = (await must("id", "-u", agent)).trim();
  const ranges = [0, 50].map((more) => world.firstUid + more);
  const lines = [`${agent}:${ranges[0]}:100`, `${uid}:${ranges[1]}:100`];
  await world.withSubordinate(lines, async () => {
    for (const backend of ["iptables", "nftables"]) {
      await done(world, "enable", agent, "--backend", backend);
      const status = await world.fishnet("firewall", "status", "--agent-user", agent);
      assertEquals(status.code, 0, status.stdout);
      await done(world, "disable", agent, "--backend", backend);
    }
  });
});

/** Runs a change where a program of the system is another one, which only that run sees. */
async function changeWith(world: World, tool: string, script: string, ...args: string[]) {
  const folder = await Deno.makeTempDir({ prefix: "fishnet-old-" });
  try {
    await must("cp", tool, `${folder}/real`);
    await Deno.writeTextFile(`${folder}/fake`, script.replace("REAL", `${folder}/real`));
    await must("chmod", "755", folder, `${folder}/fake`);
    return await world.exec(
      ...["sh", "-c", `mount --bind ${folder}/fake ${tool} && exec "$@"`, "sh", ...program()],
      ...["firewall", "enable", "--agent-user", ...args, "--apply"],
    );
  } finally {
    await must("rm", "-r", folder);
  }
}

worldTest(
  "an nft that is too old for the table is refused with the one it takes",
  async (world) => {
    const agent = await world.account();
    const before = await world.state();
    for (const [version, code] of [["0.9.8", 1], ["1.0.2", 1], ["1.0.3", 0], ["1.1", 0]] as const) {
      const old = `#!/bin/sh\ncase $1 in --version) echo "nftables v${version} (A Name)" ;; ` +
        '*) exec REAL "$@" ;; esac\n';
      const nft = (await must("realpath", "/usr/sbin/nft")).trim();
      const enabled = await changeWith(world, nft, old, agent, "--backend", "nftables");
      assertEquals(enabled.code, code, enabled.stderr);
      if (code === 0) await done(world, "disable", agent);
      else assertMatch(enabled.stderr, new RegExp(`needs nft 1.0.3, and here is ${version}: use`));
      assertEquals(await world.state(), before);
      // The other backend does not ask.
      const other = await changeWith(world, nft, old, agent, "--backend", "iptables");
      assertEquals(other.code, 0, other.stderr);
      await done(world, "disable", agent);
    }
  },
);

worldTest("a sudo that cannot start the session is told with the one it takes", async (world) => {
  const agent = await world.account();
  const before = await world.state();
  // What sudo-rs 0.2.5 answers to an option that it does not have.
  const old = "#!/bin/sh\necho 'usage: sudo -h | -K | -k | -V' >&2\nexit 1\n";
  const sudo = (await must("realpath", "/usr/bin/sudo")).trim();
  const { code, stderr } = await changeWith(world, sudo, old, agent);
  assertEquals(code, 1);
  assertMatch(stderr, /this sudo has no -b: sudo 1\.8 is needed, or sudo-rs 0\.2\.12/);
  assertEquals(await world.state(), before);
});

for (const [one, two] of [["iptables", "nftables"], ["nftables", "iptables"]] as const) {
  worldTest(
    `an account locked with ${one} is changed in place with --backend ${two}`,
    async (world) => {
      const agent = await world.account();
      const before = await world.state();
      await done(world, "enable", agent, "--backend", two);
      const wanted = await world.state();
      await done(world, "disable", agent);
      await done(world, "enable", agent, "--backend", one);
      await done(world, "enable", agent, "--backend", two);
      assertEquals(await world.state(), wanted);
      // Without the option it stays where it is.
      const { code, stderr } = await change(world, "enable", agent);
      assertEquals(code, 0);
      assertStringIncludes(stderr, "already in force");
      assertEquals(await world.state(), wanted);
      await done(world, "disable", agent, "--backend", one);
      assertEquals(await world.state(), before, "disable finds it, whichever backend it is told");
    },
  );
}

for (const backend of ["iptables", "nftables"]) {
  worldTest(
    `${backend}: other --only-port ports than the lock's take their place`,
    async (world) => {
      const agent = await world.account();
      const enable = (...ports: string[]): [string, string, ...string[]] => [
        ...["enable", agent, "--backend", backend] as [string, string, string, string],
        ...ports.flatMap((port) => ["--only-port", port]),
      ];
      const before = await world.state();
      await done(world, ...enable("9000"));
      const one = await world.state();
      await done(world, ...enable("9000", "10000"));
      const two = await world.state();
      assert(two !== one);
      await done(world, ...enable("10000", "9000"));
      assertEquals(await world.state(), two);
      // Without the option nothing is loosened, and the program says so.
      const { code, stderr } = await change(world, ...enable());
      assertEquals(code, 0);
      assertMatch(
        stderr,
        new RegExp(`${agent}: --only-port 9000 --only-port 10000 stays as it was`),
      );
      assertEquals(await world.state(), two);
      await done(world, ...enable("9000"));
      assertEquals(sorted(await world.state()), sorted(one));
      await done(world, "disable", agent);
      assertEquals(await world.state(), before);
    },
  );
}

const sorted = (state: string) => state.split("\n").sort();

for (const backend of ["iptables", "nftables"]) {
  worldTest(
    `${backend}: disable finds what an account left behind when its uid changed`,
    async (world) => {
      const [agent, other] = [await world.account(), await world.account()];
      const before = await world.state();
      const old = (await must("id", "-u", agent)).trim();
      await done(world, "enable", agent, "--backend", backend);
      await must("usermod", "-u", `${world.firstUid + 9000}`, agent);
      const note = new RegExp(
        `rules of uid ${old}, which it had, are left: fishnet firewall disable`,
      );
      const status = await world.fishnet("firewall", "status", "--agent-user", agent);
      assertEquals(status.code, 3);
      assertMatch(status.stdout, note);
      await done(world, "disable", agent, "--backend", backend);
      assertEquals(await world.state(), before);

      // Whoever has that uid by now is not locked on top of it.
      await must("usermod", "-u", old, agent);
      await done(world, "enable", agent, "--backend", backend);
      await must("usermod", "-u", `${world.firstUid + 9000}`, agent);
      await must("usermod", "-u", old, other);
      const taken = new RegExp(`uid ${old} of '${other}' is locked already, for '${agent}'`);
      await refused(world, taken, "enable", other, "--backend", backend);
      await done(world, "disable", agent, "--backend", backend);
      assertEquals(await world.state(), before);
    },
  );

  worldTest(
    `${backend}: disable finds what an account left behind when it was renamed`,
    async (world) => {
      const agent = await world.account();
      const before = await world.state();
      await done(world, "enable", agent, "--backend", backend);
      await must("usermod", "-l", `${agent}_new`, agent);
      try {
        const taken = new RegExp(`is locked already, for '${agent}', which had it`);
        await refused(world, taken, "enable", `${agent}_new`, "--backend", backend);
        await done(world, "disable", `${agent}_new`, "--backend", backend);
        assertEquals(await world.state(), before);
      } finally {
        await must("usermod", "-l", agent, `${agent}_new`);
      }
    },
  );
}

worldTest("disable of an account that was never locked is no error", async (world) => {
  const agent = await world.account();
  for (const backend of ["iptables", "nftables"]) {
    await done(world, "disable", agent, "--backend", backend);
  }
});

worldTest("one account that is refused keeps the others from being locked", async (world) => {
  const agent = await world.account();
  await refused(world, /'no_such_one' does not/, "enable", agent, "--agent-user", "no_such_one");
});

worldTest("a refusal is a document with --json", async (world) => {
  const { code, stdout } = await change(world, "enable", "no_such_one", "--json");
  assertEquals(code, 1);
  assertMatch(JSON.parse(stdout).error.message, /does not exist/);
});

worldTest("a dry-run asks the machine nothing, and so refuses nothing", async (world) => {
  const dry = await world.fishnet("firewall", "enable", "--agent-user", "no_such_one");
  assertEquals(dry.code, 0);
  assert(dry.stdout.startsWith("Firewall enable: dry-run\n"));
});

/** What runs at boot: the script and the units, as they lie in the source tree. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { linesOf, must, run } from "../support/process.ts";
import { PYTHON, type Variant, type World, worldTest } from "../support/world.ts";

const BOOT = new URL("../../src/linux/boot/", import.meta.url).pathname;
const SCRIPT = `${BOOT}lock.sh`;
const PROBE = `${BOOT}../sessions_probe.sh`;
const UNITS = [...Deno.readDirSync(BOOT)].map(({ name }) => name)
  .filter((name) => name.endsWith(".service")).sort();

async function has(tool: string): Promise<boolean> {
  return (await run(["sh", "-c", `command -v ${tool}`])).code === 0;
}

/** Defines a test that needs a tool, or counts it as skipped and says why. */
async function toolTest(tool: string, name: string, body: () => Promise<void>): Promise<void> {
  const there = await has(tool);
  Deno.test({ name: there ? name : `${name} (skipped: needs ${tool})`, ignore: !there, fn: body });
}

Deno.test("what a person prints with echo has no quote, no backslash and no long line", () => {
  for (const file of ["lock.sh", ...UNITS]) {
    const text = Deno.readTextFileSync(`${BOOT}${file}`);
    assertEquals(text.match(/['\\]/g), null, file);
    assertEquals(text.split("\n").filter((line) => line.length > 160), [], file);
    assert(text.endsWith("\n") && !text.endsWith("\n\n"), file);
  }
});

await toolTest("shellcheck", "the scripts are clean to shellcheck", async () => {
  assertEquals(await run(["shellcheck", "--shell=sh", SCRIPT]), NOTHING);
  assertEquals(await run(["shellcheck", "--shell=bash", PROBE]), NOTHING);
});

Deno.test("only a refusal is an effect of --sessions, no slice that starts nothing", async () => {
  const folder = await Deno.makeTempDir({ prefix: "fishnet-probe-" });
  try {
    // Answers for the slice as systemd-run does for a service that ended so, or did not start.
    const stub = '#!/bin/sh\ncase "$*" in *--slice=system.slice*) ;; *) exit "$ANSWER" ;; esac\n';
    await Deno.writeTextFile(`${folder}/systemd-run`, stub, { mode: 0o755 });
    const answered = async (code: number) => {
      const env = [`PATH=${folder}:/usr/bin:/bin`, `ANSWER=${code}`];
      const { code: ended, stderr } = await run(["env", ...env, "bash", PROBE, "user-1001.slice"]);
      return [ended, stderr.replace(/ on this system.*| whether.*/s, "")];
    };
    assertEquals(await answered(77), [0, ""]);
    assertEquals(await answered(0), [1, "--sessions has no effect"]);
    assertEquals(await answered(1), [1, "cannot tell"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

await toolTest("systemd-analyze", "the units are sound, and may do little", async () => {
  const folder = await Deno.makeTempDir({ prefix: "fishnet-units-" });
  try {
    const files: string[] = [];
    for (const unit of UNITS) {
      const name = unit.replace("@.", "@nftables.");
      await must("cp", `${BOOT}${unit}`, `${folder}/${unit}`);
      files.push(`${folder}/${name}`);
      if (name !== unit) await must("ln", "-s", unit, `${folder}/${name}`);
    }
    assertEquals(await run(["systemd-analyze", "verify", "--man=no", ...files]), NOTHING);
    for (const file of files) {
      const { stdout } = await run([
        ...["systemd-analyze", "security", "--offline=true", "--threshold=50", file],
      ]);
      const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
      assert(exposure < 5, `${file}: ${exposure}`);
    }
  } finally {
    await must("rm", "-r", folder);
  }
});

const NOTHING = { code: 0, stdout: "", stderr: "" };

/** A folder with the script and the files of accounts, for one world; and its /etc/subuid. */
async function prepared(
  world: World,
  accounts: Readonly<Record<number, string>>,
  subuid: string,
): Promise<
  AsyncDisposable & {
    lock: (shell?: readonly string[]) => ReturnType<typeof run>;
    /** What takes the place of the file whose lock keeps other runs out. */
    sudoers: string;
    /** Watches until the world ends. */
    watch: () => void;
  }
> {
  const folder = await Deno.makeTempDir({ prefix: "fishnet-lock-" });
  await must("cp", SCRIPT, `${folder}/lock.sh`);
  for (const table of ["fishnet", "fishnet_loopback"]) {
    await must("cp", `${BOOT}../table_${table}.nft`, `${folder}/${table}.nft`);
  }
  for (const [uid, text] of Object.entries(accounts)) {
    await Deno.writeTextFile(`${folder}/${uid}.account`, text);
  }
  // An /etc of its own: whoever adds an account renames a new file onto /etc/subuid, and what was
  // mounted there is gone then.
  await must("mkdir", `${folder}/etc`);
  const needed = ["alternatives", "ld.so.cache", "passwd", "group", "sudoers"];
  await world.must("cp", "-a", ...needed.map((name) => `/etc/${name}`), `${folder}/etc`);
  await Deno.writeTextFile(`${folder}/etc/subuid`, subuid);
  const mounted = `mount --bind ${folder}/etc /etc && exec "$@"`;
  return {
    lock: (shell = ["sh"]) =>
      world.exec("unshare", "--mount", "sh", "-c", mounted, "sh", ...shell, `${folder}/lock.sh`),
    sudoers: `${folder}/etc/sudoers`,
    watch: () =>
      void world.start(world.command(
        ...["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mounted, "sh"],
        ...["sh", `${folder}/lock.sh`, "watch"],
      )),
    [Symbol.asyncDispose]: async () => void await must("rm", "-r", folder),
  };
}

const UID = 4242;
const account = (backend: string, ports = "") => ({
  [UID]: `name=agent_runner\nbackend=${backend}\nports=${ports}\n`,
});

/** The commands that lock an account, by hand. */
async function byHand(
  world: World,
  backend: string,
  ports: readonly number[],
  ranges: readonly string[],
): Promise<void> {
  if (backend === "iptables") {
    for (const tool of ["iptables", "ip6tables"]) {
      const ipt = (...words: readonly string[]) => world.must(tool, "-w", ...words);
      const six = tool === "ip6tables";
      const noForeign = async (...table: readonly string[]) => {
        for (
          const match of [
            "-m addrtype ! --src-type LOCAL",
            ...(six ? ["! -s ::1 -d ::1", "-s fe80::/10 -o lo", "-d fe80::/10 -o lo"] : []),
          ]
        ) {
          await ipt(...table, "-A", "fishnet", ...match.split(" "), "-j", "DROP");
        }
      };
      const except = six ? ["!", "-d", "fe80::/10"] : [];
      await ipt("-t", "mangle", "-N", "fishnet");
      await ipt(
        ...["-t", "mangle", "-I", "POSTROUTING", "1", ...except, "!", "-o", "lo", "-m", "owner"],
        ...["!", "--uid-owner", "0-65535", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DROP"],
      );
      if (six) {
        await ipt(
          ...["-t", "mangle", "-I", "POSTROUTING", "1", "-o", "lo", "-m", "owner"],
          ...["!", "--uid-owner", "0-65535", "-m", "addrtype", "!", "--src-type", "LOCAL"],
          ...["-j", "DROP"],
        );
        await ipt(
          ...["-t", "mangle", "-I", "POSTROUTING", "1", "!", "-o", "lo", "-p", "ipv6-icmp"],
          ...["-m", "icmp6", "--icmpv6-type", "3/1", "-m", "addrtype", "--src-type", "LOCAL"],
          ...["-j", "DROP"],
        );
      }
      if (six && ports.length > 0) {
        await ipt(
          ...["-t", "mangle", "-I", "INPUT", "1", "!", "-i", "lo", "!", "-p", "tcp", "-m"],
          ...["addrtype", "--src-type", "LOCAL", "--dst-type", "LOCAL", "-j", "DROP"],
        );
      }
      await noForeign("-t", "mangle");
      await ipt("-t", "mangle", "-A", "fishnet", "-p", "sctp", "-j", "DROP");
      await ipt(
        ...["-t", "mangle", "-A", "fishnet", "-p", "tcp", "--tcp-flags", "SYN", "SYN"],
        ...["-j", "TCPOPTSTRIP", "--strip-options", "30"],
      );
      if (ports.length > 0) {
        await ipt("-N", "fishnet");
        await noForeign();
        await ipt(
          ...["-A", "fishnet", "-p", "tcp", "--tcp-flags", "SYN,ACK", "SYN"],
          ...["-j", "REJECT", "--reject-with", "tcp-reset"],
        );
        await ipt(
          ...["-A", "fishnet", "-m", "conntrack", "--ctdir", "REPLY", "-j", "RETURN"],
        );
        await ipt(
          ...["-A", "fishnet", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"],
        );
        await ipt("-A", "fishnet", "-j", "REJECT");
      }
      for (const uids of [`${UID}`, ...ranges]) {
        const owner = ["-m", "owner", "--uid-owner", uids];
        // Of what is subordinate, before the kernel makes a copy of a multicast, too.
        const early = six || uids === `${UID}` ? [] : [["OUTPUT", "1", "-d", "224.0.0.0/4"]];
        for (const place of [["POSTROUTING", "1"], ...early]) {
          await ipt(
            ...["-t", "mangle", "-I", ...place, ...owner, "!", "-o", "lo"],
            ...["-m", "comment", "--comment", "fishnet:agent_runner", "-j", "DROP"],
          );
        }
        const place = six ? ["OUTPUT", "1"] : ["POSTROUTING", "1", "-o", "lo"];
        await ipt("-t", "mangle", "-I", ...place, ...owner, "-j", "fishnet");
        if (ports.length === 0) continue;
        await ipt(
          ...["-I", "OUTPUT", "1", "-o", "lo", "-p", "tcp", ...owner],
          ...["-m", "multiport", "!", "--dports", ports.join(","), "-j", "fishnet"],
        );
        await ipt("-I", "OUTPUT", "1", "!", "-p", "tcp", ...owner, "-j", "fishnet");
      }
      await ipt(
        ...["-I", "OUTPUT", "1", "-m", "owner", "--uid-owner", `${UID}`, "!", "-o", "lo"],
        ...["-j", "REJECT"],
      );
    }
    return;
  }
  const table = (name: string) => world.must("nft", "-f", `${BOOT}../table_${name}.nft`);
  const element = (set: string, what: string) =>
    world.must(
      "nft",
      "create",
      "element",
      "inet",
      ...set.split(" "),
      `{ ${what} comment "agent_runner" }`,
    );
  await table("fishnet");
  await element("fishnet locked", `${UID}`);
  for (const range of ranges) await element("fishnet subordinate", range);
  if (ports.length === 0) return;
  await table("fishnet_loopback");
  for (const uids of [`${UID}`, ...ranges]) {
    const set = uids === `${UID}` ? "allowed" : "allowed_subordinate";
    for (const port of ports) await element(`fishnet_loopback ${set}`, `${uids} . ${port}`);
    await element("fishnet_loopback narrowed", uids);
  }
}

async function routesByHand(world: World, ranges: readonly string[]): Promise<void> {
  for (const family of ["-4", "-6"]) {
    for (const range of [`${UID}-${UID}`, ...ranges]) {
      await world.must(
        ...["ip", family, "rule", "add", "pref", "77", "uidrange", range],
        ...["prohibit", "protocol", "kernel"],
      );
    }
  }
}

/** By name, by number, twice, and below lines that are no range. */
const SUBUID = `agent_runner:0x40000:10
agent_runner:not a number
agent_runner:-5:10
agent_runner:0700000:1
agent_runner:700000:0
agent_runner:4294967290:10
agent_runner:500000:65536
other:900000:65536
${UID}:600000:1
agent_runner:500000:65536`;
const RANGES = ["500000-565535", "600000"];
const ROUTED = ["500000-565535", "600000-600000"];

const SHELLS = (await Promise.all(
  [["dash"], ["bash"], ["busybox", "sh"]].map(async (shell) => await has(shell[0]!) ? [shell] : []),
)).flat();

/** In which order a set lists its elements depends on how many came at once. */
const sortedElements = (text: string) =>
  text.slice(text.indexOf("{") + 1, -1).split(",").map((one) => one.trim()).sort().join(",");

const CASES: readonly [backend: string, ports: readonly number[], variant: Variant][] = [
  ["iptables", [], "nft"],
  ["iptables", [3777, 8080], "nft"],
  ["iptables", [3777, 8080], "legacy"],
  ["nftables", [], "nft"],
  ["nftables", [3777, 8080], "nft"],
];
for (const [backend, ports, variant] of CASES) {
  worldTest(
    `${backend} (${variant}), ports ${ports}: the script makes what the commands make, once`,
    async (world) => {
      await using script = await prepared(world, account(backend, ports.join(" ")), SUBUID);
      const all = async () => {
        const saved = ["iptables", "ip6tables"].map((tool) =>
          world.must(`${tool}-${variant}-save`)
        );
        return [
          ...(await Promise.all(saved)).map((text) =>
            text.replace(/^#.*\n/gm, "").replace(/\[\d+:\d+\]/g, "")
          ),
          (await world.state()).replace(/elements = \{[^}]*\}/g, sortedElements),
        ].join("\n");
      };
      // The script's own reading of the file fails at six lines, and says so.
      const first = await script.lock();
      assertEquals(first.code, 1);
      assertEquals(first.stderr.match(/cannot read this line of \/etc\/subuid/g)?.length, 6);
      const made = await all();
      for (const shell of SHELLS) {
        await script.lock(shell);
        assertEquals(await all(), made, shell.join(" "));
      }
      // The same by hand, where nothing is.
      await world.must("nft", "flush", "ruleset");
      for (const tool of ["iptables-legacy", "ip6tables-legacy"]) {
        for (const table of ["mangle", "filter"]) {
          await world.must(tool, "-t", table, "-F");
          await world.must(tool, "-t", table, "-X");
        }
      }
      for (const family of ["-4", "-6"]) {
        await world.must("ip", family, "rule", "flush", "pref", "77");
      }
      await byHand(world, backend, ports, RANGES);
      await routesByHand(world, ROUTED);
      assertEquals(made, await all());
    },
    variant,
  );
}

worldTest("a rule that others came before goes to the top, once", async (world) => {
  await using script = await prepared(world, account("iptables"), "");
  assertEquals(await script.lock(), NOTHING);
  const sound = await world.state();
  await world.must("iptables", "-t", "mangle", "-I", "POSTROUTING", "1", "-j", "ACCEPT");
  await world.must("iptables", "-I", "OUTPUT", "1", "-p", "udp", "-j", "ACCEPT");
  assertEquals(await script.lock(), NOTHING);
  const moved = await world.state();
  const lines = (text: string) => text.split("\n").toSorted();
  assertEquals(
    lines(moved),
    lines(`${sound}\n-A POSTROUTING -j ACCEPT\n-A OUTPUT -p udp -j ACCEPT`),
  );
  const own = moved.split("\n").filter((line) => /POSTROUTING|-A OUTPUT/.test(line));
  assert(
    own.findIndex((line) => line.includes("ACCEPT")) >
      own.findIndex((line) => line.includes("DROP")),
  );
  assertEquals(await script.lock(), NOTHING);
  assertEquals(await world.state(), moved);
});

worldTest(
  "what nft has made of iptables' tables is an error, and no rule is added",
  async (world) => {
    await using script = await prepared(world, account("iptables"), "");
    await world.must(
      ...[
        "nft",
        "add table ip mangle; add chain ip mangle OUTPUT { type route hook output priority mangle; };",
      ],
    );
    await world.must(
      "nft",
      "add rule ip mangle OUTPUT fib daddr type broadcast quota over 5 mbytes drop",
    );
    for (const _ of [1, 2]) {
      const { code, stderr } = await script.lock();
      assertEquals(code, 1, stderr);
      assertStringIncludes(stderr, "iptables cannot list its table mangle");
    }
    assertEquals((await world.must("nft", "list", "table", "ip", "mangle")).match(/skuid/g), null);
    // The rest of the lock is there.
    assertStringIncludes(
      await world.must("ip", "-4", "rule", "show"),
      `uidrange ${UID}-${UID} prohibit`,
    );
    assertEquals((await world.must("ip6tables-save")).match(/--uid-owner 4242 /g)?.length, 3);
  },
);

worldTest(
  "one account's failure leaves no other open; a file that is cut off is an error",
  async (world) => {
    const files = {
      ...account("nftables"),
      4243: "name=cut_off\nbacke",
      4244: "name=x\nbackend=nftables\nports=\n",
    };
    await using script = await prepared(world, files, "");
    const { code, stderr } = await script.lock();
    assertEquals(code, 1);
    assertStringIncludes(stderr, "4243.account names no backend");
    const state = await world.state();
    assertStringIncludes(state, 'elements = { 4242 comment "agent_runner", 4244 comment "x" }');
    // What is known of it is in force.
    assertStringIncludes(state, "uidrange 4242-4244 prohibit");
  },
);

worldTest("a table of ours that was damaged is whole again, with what is in it", async (world) => {
  await using script = await prepared(world, account("nftables", "3777"), "");
  assertEquals(await script.lock(), NOTHING);
  const sound = await world.state();
  for (const table of ["fishnet", "fishnet_loopback"]) {
    await world.must("nft", "flush", "chain", "inet", table, "out");
    assertEquals(await script.lock(), NOTHING);
    assertEquals(await world.state(), sound);
  }
});

worldTest(
  "a chain of our table that hangs elsewhere is put back, with what is in its sets",
  async (world) => {
    await using script = await prepared(world, account("nftables", "3777"), "");
    assertEquals(await script.lock(), NOTHING);
    const lines = async () => (await world.state()).split("\n").sort();
    const sound = await lines();
    for (const table of ["fishnet", "fishnet_loopback"]) {
      const whole = await world.must("nft", "list", "table", "inet", table);
      const moved = whole.replace(/(hook output priority )[^;]*/, "$1filter + 90");
      assert(moved !== whole);
      await world.must("nft", `delete table inet ${table}; ${moved.replaceAll("\n", ";")}`);
      assertEquals(await script.lock(), NOTHING);
      // nft lists a chain that is made anew last.
      assertEquals(await lines(), sound, table);
    }
  },
);

/** Sends to a neighbour by a socket that is bound to a device, and so asks no routing rule. */
const BOUND = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"out0")
s.sendto(b"x", ("10.77.0.2", 4000))
`;
/** Listens on loopback until its input ends. */
const LISTENER = `
import socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()
`;
const TO_PORT = `
import socket
socket.create_connection(("127.0.0.1", 3778), 2)
`;
/** A broadcast is brought to this machine's own sockets before POSTROUTING is asked. */
const TO_ITSELF = `
import socket
there, s = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
there.bind(("", 3779))
there.settimeout(0.5)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
try:
    s.sendto(b"x", ("10.77.0.255", 3779))
except PermissionError:
    pass
there.recv(9)
`;

for (const backend of ["iptables", "nftables"]) {
  worldTest(
    `${backend}: while it watches, a flush of all rules lets nothing out`,
    async (world) => {
      await using script = await prepared(world, account(backend, "3777"), "");
      const listener = world.start(
        world.command(PYTHON, "-c", LISTENER, "3778"),
        { stdin: "piped" },
      );
      const lines = linesOf(listener.stdout);
      assertEquals((await lines.read()).value, "listening");
      lines.releaseLock();
      const sent = async (uid: number) => {
        const frames = await world.captured("udp port 4000", async () => {
          await world.as(`${uid}`, PYTHON, "-c", BOUND);
        });
        const { code } = await world.as(`${uid}`, PYTHON, "-c", TO_PORT);
        const { code: toItself } = await world.as(`${uid}`, PYTHON, "-c", TO_ITSELF);
        return [frames.length, code, toItself];
      };
      assertEquals(await sent(UID), [1, 0, 0], "without a lock");
      // What was flushed stays so: whoever puts it back waits for this one.
      const other = world.start(
        world.command("flock", script.sudoers, "sh", "-c", "echo held; cat"),
        { stdin: "piped" },
      );
      const held = linesOf(other.stdout);
      assertEquals((await held.read()).value, "held");
      held.releaseLock();
      script.watch();
      const end = Date.now() + 120_000;
      while ((await world.exec("nft", "list", "table", "inet", "fishnet_guard")).code !== 0) {
        assert(Date.now() < end, "no guard");
      }
      await world.must("nft", "flush", "ruleset");
      const tables = await world.must("nft", "list", "tables");
      assertEquals(tables, "table inet fishnet_guard\n");
      const guard = await world.must("nft", "list", "table", "inet", "fishnet_guard");
      assertMatch(guard, /icmpv6 type time-exceeded icmpv6 code \S+ fib saddr type local drop/);
      assertEquals(await sent(UID), [0, 1, 1], backend);
      assertEquals(await sent(UID + 1), [1, 0, 0], "the control");
      await Promise.all([other.stdin.close(), listener.stdin.close()]);
      await Promise.all([other.status, listener.status]);
    },
  );
}

for (const backend of ["iptables", "nftables"]) {
  worldTest(
    `${backend}: what is root's or another account's is spared, and said`,
    async (world) => {
      const nobody = Number(await must("id", "-u", "nobody"));
      const subuid = `agent_runner:0:3\nagent_runner:${nobody - 1}:3\nagent_runner:500000:10\n`;
      await using script = await prepared(world, account(backend), subuid);
      const { code, stderr } = await script.lock();
      assertEquals(code, 1);
      assertStringIncludes(
        stderr,
        "not locked, of the subordinate uids 0-2 of agent_runner, those of",
      );
      assertStringIncludes(stderr, `of agent_runner, those of accounts: ${nobody}\n`);
      const state = await world.state();
      const held = state.matchAll(/(?:uidrange |--uid-owner |skuid )(\d+)(?:-(\d+))?/g);
      const ranges = [...held].map(([, first, last = first]) =>
        [Number(first), Number(last)] as const
      )
        .filter(([first, last]) => !(first === 0 && last === 65535));
      assert(ranges.some(([first]) => first === 500000), state);
      for (const uid of [0, nobody]) {
        assert(!ranges.some(([first, last]) => first <= uid && uid <= last), `${uid}: ${state}`);
      }
    },
  );
}

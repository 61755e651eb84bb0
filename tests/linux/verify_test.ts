/** `verify`: it must never call an account locked that is not, whatever fails around it. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Verification } from "../../src/lock/judge.ts";
import { linesOf } from "../support/process.ts";
import {
  OUTSIDE_V4,
  OUTSIDE_V6,
  program,
  PYTHON,
  type Variant,
  type World,
  worldTest,
} from "../support/world.ts";

const SERVER = new URL("../support/server.py", import.meta.url).pathname;
const PORT = 4000;

/** Holds all UDP ports of a range, in both families. */
const HOLD_PORTS = `
import signal, socket, sys
held = []
for port in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(("::", port))
    held.append(s)
print("holding", flush=True)
signal.pause()
`;

/** Stops the process that tries, as root: the perl whose parent is one, in this network namespace. */
const STOP_TRIES = `
import os, re, signal, time
def is_perl(pid):
    with open(f"/proc/{pid}/comm") as name:
        return name.read() == "perl\\n"
def parent(pid):
    with open(f"/proc/{pid}/stat") as text:
        return text.read().rsplit(")", 1)[1].split()[1]
here, until = os.readlink("/proc/self/ns/net"), time.monotonic() + 60
while time.monotonic() < until:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if is_perl(pid) and os.readlink(f"/proc/{pid}/ns/net") == here and is_perl(parent(pid)):
                os.kill(int(pid), signal.SIGSTOP)
                raise SystemExit(0)
        except OSError:
            pass
raise SystemExit(1)
`;

/** Takes connections, and never says a word. */
const SILENT = `
import signal, socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("silent", flush=True)
signal.pause()
`;

async function serve(world: World, ns: string, port: number): Promise<void> {
  const child = world.start(["ip", "netns", "exec", ns, PYTHON, SERVER, `${port}`]);
  const lines = linesOf(child.stdout);
  assertEquals((await lines.read()).value, "listening");
  lines.releaseLock();
}

async function verify(
  world: World,
  name: string,
  ...more: string[]
): Promise<Verification & { code: number }> {
  const { code, stdout, stderr } = await world.fishnet(
    ...["firewall", "verify", "--agent-user", name, "--json", ...more],
  );
  assertEquals(stderr, "");
  return { code, ...JSON.parse(stdout).accounts[0] };
}

async function enable(world: World, name: string, ...more: string[]) {
  const { code, stderr } = await world.fishnet(
    ...["firewall", "enable", "--agent-user", name, "--apply", ...more],
  );
  assertEquals(code, 0, stderr);
}

/** Each try's verdict, by what was tried. */
function verdicts({ tries }: Verification, matching: RegExp): string[] {
  return tries.filter(({ what }) => matching.test(what)).map(({ verdict }) => verdict);
}

for (
  const [backend, variant] of [
    ["iptables", "nft"],
    ["iptables", "legacy"],
    ["nftables", "nft"],
  ] as const satisfies readonly (readonly [string, Variant])[]
) {
  worldTest(
    `verify, ${backend} (${variant}): a locked account is proven locked, and no packet is sent for it`,
    async (world) => {
      const agent = await world.account();
      await enable(world, agent, "--backend", backend);
      let verified: Awaited<ReturnType<typeof verify>> | undefined;
      const sent = await world.captured(
        "host 203.0.113.9 or host 2001:db8::9 or host ff02::db8:0:9",
        async () => {
          verified = await verify(world, agent);
        },
      );
      assertEquals(sent, []);
      assertEquals([verified!.code, verified!.proven], [0, true], JSON.stringify(verified));
      assertEquals(
        verdicts(verified!, /^IPv/),
        Array.from({ length: 10 }, () => "proven"),
        JSON.stringify(verified, null, 1),
      );
      assertEquals(verdicts(verified!, /^loopback/), ["note"]);
    },
    variant,
  );
}

worldTest(
  "verify: an unlocked account is never proven locked, and sends nothing by default",
  async (world) => {
    const agent = await world.account();
    let verified: Awaited<ReturnType<typeof verify>> | undefined;
    const sent = await world.captured(
      "host 203.0.113.9 or host 2001:db8::9 or host ff02::db8:0:9",
      async () => {
        verified = await verify(world, agent);
      },
    );
    assertEquals(sent, []);
    assertEquals([verified!.code, verified!.proven, verified!.state], [3, false, "unlocked"]);
    assertEquals(new Set(verdicts(verified!, /^IPv/)), new Set(["failed"]));
  },
);

worldTest(
  "verify --target tries for real: the control gets through, the locked account does not",
  async (world) => {
    const agent = await world.account();
    await serve(world, world.outside, PORT);
    const free = await verify(world, agent, "--target", `${OUTSIDE_V4}:${PORT}`);
    assertEquals([free.code, new Set(verdicts(free, /TCP/))], [3, new Set(["failed"])]);
    await enable(world, agent);
    for (const target of [`${OUTSIDE_V4}:${PORT}`, `[${OUTSIDE_V6}]:${PORT}`]) {
      const locked = await verify(world, agent, "--target", target);
      assertEquals(locked.code, 0, JSON.stringify(locked, null, 1));
      assertEquals(verdicts(locked, /^IPv/), Array.from({ length: 10 }, () => "proven"));
      assertStringIncludes(JSON.stringify(locked.tries), "control nobody: it went out");
    }
  },
);

worldTest("verify --target where the control fails too is inconclusive", async (world) => {
  const agent = await world.account();
  await enable(world, agent);
  const { code, tries } = await verify(world, agent, "--target", `${OUTSIDE_V4}:4999`);
  const [tcp] = tries.filter(({ what }) => what.includes(`TCP to ${OUTSIDE_V4}`));
  assertEquals([code, tcp!.verdict], [3, "inconclusive"], JSON.stringify(tcp));
});

worldTest(
  "verify: a half-locked account is not proven, whichever half is missing, and sends nothing",
  async (world, t) => {
    const agent = await world.account();
    const uid = (await world.must("id", "-u", agent)).trim();
    for (
      const removal of [
        `ip -4 rule del pref 77 uidrange ${uid}-${uid} prohibit`,
        `ip -6 rule del pref 77 uidrange ${uid}-${uid} prohibit`,
        "iptables -F && iptables -t mangle -F",
        "ip6tables -F && ip6tables -t mangle -F",
      ]
    ) {
      await t.step(removal, async () => {
        await enable(world, agent);
        await world.must("sh", "-c", removal);
        let verified: Awaited<ReturnType<typeof verify>> | undefined;
        const sent = await world.captured(
          "host 203.0.113.9 or host 2001:db8::9 or host ff02::db8:0:9",
          async () => {
            verified = await verify(world, agent);
          },
        );
        assertEquals(sent, []);
        const { code, proven, tries } = verified!;
        assertEquals([code, proven], [3, false]);
        const open = tries.filter(({ verdict }) => verdict !== "proven" && verdict !== "note");
        assert(open.length > 0, JSON.stringify(tries, null, 1));
      });
    }
  },
);

worldTest(
  "verify with --target: the packet filters gone, the datagram by a device is seen to leave",
  async (world) => {
    const agent = await world.account();
    await enable(world, agent);
    await world.must("sh", "-c", "iptables -F && iptables -t mangle -F");
    const { code, tries } = await verify(world, agent, "--target", `${OUTSIDE_V4}:4000`);
    const device = verdicts({ tries } as Verification, /^IPv4: UDP by out0/);
    assertEquals([code, ...device], [3, "failed"], JSON.stringify(tries, null, 1));
  },
);

worldTest(
  "verify without a route: one family has none, and needs none; both is no proof",
  async (world) => {
    const agent = await world.account();
    await enable(world, agent);
    await world.must("ip", "-6", "route", "del", "default");
    const withV4 = await verify(world, agent);
    assertEquals(withV4.code, 0, JSON.stringify(withV4, null, 1));
    assertEquals(new Set(verdicts(withV4, /^IPv4/)), new Set(["proven"]));
    assertEquals(new Set(verdicts(withV4, /^IPv6/)), new Set(["note"]));
    await world.must("ip", "-4", "route", "del", "default");
    const without = await verify(world, agent);
    assertEquals([without.code, without.proven], [3, false]);
    assert(!verdicts(without, /^IPv/).includes("proven"), JSON.stringify(without, null, 1));
  },
);

worldTest("verify where IPv6 is switched off: IPv4 is the whole proof", async (world) => {
  const agent = await world.account();
  await enable(world, agent);
  for (const which of ["all", "default", "out0", "lo"]) {
    await world.must("sysctl", "-qw", `net.ipv6.conf.${which}.disable_ipv6=1`);
  }
  const { code, tries } = await verify(world, agent);
  assertEquals(code, 0, JSON.stringify(tries, null, 1));
  assertEquals(verdicts({ tries } as Verification, /^IPv6/), ["note"]);
  await world.must("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=0");
  assertEquals((await verify(world, agent)).code, 0, "only ::1 is left of it");
});

worldTest("verify without perl: nothing could be tried, and nothing is proven", async (world) => {
  const agent = await world.account();
  await enable(world, agent);
  const { code, stdout, stderr } = await world.exec(
    ...["unshare", "-m", "sh", "-ec", 'mount --bind /dev/null /usr/bin/perl; exec "$@"', "sh"],
    ...[...program(), "firewall", "verify", "--agent-user", agent, "--json"],
  );
  assertEquals([code, stderr], [3, ""]);
  const [verified] = JSON.parse(stdout).accounts as Verification[];
  assertEquals([verified!.state, verified!.proven], ["locked", false]);
  for (const { what, verdict, did } of verified!.tries) {
    if (what.includes("a route to")) continue;
    assertEquals(verdict, "inconclusive", what);
    assertMatch(did, /could not be tried \(.*perl.*\)/);
  }
});

worldTest(
  "verify: all of the account's ports in use, the tries have one of root's",
  async (world) => {
    const agent = await world.account();
    await enable(world, agent);
    await world.must("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40100");
    const holder = world.start(
      world.commandAs(agent, PYTHON, "-c", HOLD_PORTS, "40000", "40100"),
    );
    const lines = linesOf(holder.stdout);
    assertEquals((await lines.read()).value, "holding");
    lines.releaseLock();
    const { code, tries } = await verify(world, agent);
    assertEquals(code, 0, JSON.stringify(tries, null, 1));
  },
);

worldTest("verify of a proxy that is the account's own, or silent, ends in time", async (world) => {
  const agent = await world.account();
  await enable(world, agent);
  const timed = async () => {
    const began = performance.now();
    return { ...await verify(world, agent), seconds: (performance.now() - began) / 1000 };
  };
  const { seconds } = await timed();
  const start = (words: readonly string[]) => world.start(words);
  const silent = [PYTHON, "-c", SILENT, "3777"];
  const own = start(world.commandAs(agent, ...silent));
  const lines = linesOf(own.stdout);
  assertEquals((await lines.read()).value, "silent");
  lines.releaseLock();
  const held = await timed();
  assert(held.seconds < 15 + seconds, `${held.seconds} s, and ${seconds} s undisturbed`);
  assertEquals([held.code, ...verdicts(held, /^loopback/)], [0, "note"]);
  assertMatch(held.tries.at(-1)!.did, /itself listens there/);
  own.kill("SIGKILL");
  await own.status;
  const others = start(world.command(...silent));
  const more = linesOf(others.stdout);
  assertEquals((await more.read()).value, "silent");
  more.releaseLock();
  const timedOut = await verify(world, agent);
  assertEquals([timedOut.code, timedOut.proven], [3, false]);
});

worldTest("verify ends in time when what tries is stopped, and proves nothing", async (world) => {
  const agent = await world.account();
  await enable(world, agent);
  const silent = world.start(world.command(PYTHON, "-c", SILENT, "3777"));
  const lines = linesOf(silent.stdout);
  assertEquals((await lines.read()).value, "silent");
  lines.releaseLock();
  const stopper = world.start(world.command(PYTHON, "-c", STOP_TRIES));
  const { code, tries } = await verify(world, agent);
  assertEquals((await stopper.status).code, 0, "nothing was stopped");
  const [proxy] = tries.filter(({ what }) => what.startsWith("loopback"));
  assertEquals([code, proxy!.verdict], [3, "inconclusive"]);
  assertStringIncludes(proxy!.did, "could not be tried (the tries did not end in 7 s)");
});

worldTest(
  "verify: the proxy on loopback is reached, or it is a note that nobody listens",
  async (world) => {
    const agent = await world.account();
    await enable(world, agent);
    assertEquals(verdicts(await verify(world, agent), /^loopback/), ["note"]);
    await serve(world, world.inside, 3777);
    const { code, tries } = await verify(world, agent);
    const [proxy] = tries.filter(({ what }) => what.startsWith("loopback"));
    assertEquals([code, proxy!.verdict], [0, "proven"], JSON.stringify(proxy));
    await world.must(
      ...["iptables", "-I", "OUTPUT", "-o", "lo", "-m", "owner", "--uid-owner", agent],
      ...["-j", "REJECT"],
    );
    const cut = await verify(world, agent);
    assertEquals([cut.code, ...verdicts(cut, /^loopback/)], [3, "failed"]);
  },
);

worldTest("verify with --only-port: other ports and UDP on loopback are refused", async (world) => {
  const agent = await world.account();
  for (const port of [3777, 3778]) await serve(world, world.inside, port);
  await enable(world, agent, "--only-port", "3777");
  const allowed = await verify(world, agent);
  assertEquals([allowed.code, ...verdicts(allowed, /^loopback/)], [0, "proven", "proven"]);
  const other = await verify(world, agent, "--proxy", "http://127.0.0.1:3778/");
  assertEquals([other.code, ...verdicts(other, /^loopback/)], [0, "proven", "proven"]);
});

worldTest("verify of an account that does not exist is an error", async (world) => {
  const { code, stderr } = await world.fishnet("firewall", "verify", "--agent-user", "no_such_one");
  assertEquals([code, stderr], [1, "[fishnet] the account 'no_such_one' does not exist\n"]);
});

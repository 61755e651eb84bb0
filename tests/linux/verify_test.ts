/** `verify`: it must never call an account locked that is not, whatever fails around it. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Verification } from "../../src/lock/judge.ts";
import { lockIn } from "../support/inside.ts";
import { serve, WAYS } from "../support/lock.ts";
import { linesOf } from "../support/process.ts";
import {
  INSIDE_V4,
  OUTSIDE_V4,
  OUTSIDE_V6,
  program,
  PYTHON,
  type World,
  worldTest,
} from "../support/world.ts";

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

/**
 * Stops the process that tries, as root, in this network namespace: a perl whose parent is one, the
 * child of the session, which is one too.
 */
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
            above = parent(pid)
            if os.readlink(f"/proc/{pid}/ns/net") == here and all(map(is_perl, [pid, above, parent(above)])):
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

/** What is sent to the addresses that stand for the outside where no target is named. */
const STAND_INS = "host 203.0.113.9 or host 2001:db8::9 or host ff02::db8:0:9";

type Verified = Verification & { code: number };

async function verify(world: World, name: string, ...more: string[]): Promise<Verified> {
  const { code, stdout, stderr } = await world.fishnet(
    ...["firewall", "verify", "--agent-user", name, "--json", ...more],
  );
  assertEquals(stderr, "");
  return { code, ...JSON.parse(stdout).accounts[0] };
}

/** Verifies without a target, and sees that nothing is sent. */
async function verifyUnsent(world: World, name: string): Promise<Verified> {
  let verified: Verified | undefined;
  const sent = await world.captured(STAND_INS, async () => {
    verified = await verify(world, name);
  });
  assertEquals(sent, []);
  return verified!;
}

/** Each try's verdict, by what was tried. */
function verdicts({ tries }: Verification, matching: RegExp): string[] {
  return tries.filter(({ what }) => matching.test(what)).map(({ verdict }) => verdict);
}

/** Starts what says one word when it is ready. */
async function started(
  world: World,
  command: readonly string[],
  word: string,
): Promise<AsyncDisposable> {
  const child = world.start(command);
  const lines = linesOf(child.stdout);
  assertEquals((await lines.read()).value, word);
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
      await lines.cancel();
    },
  };
}

for (const { backend, variant, label } of WAYS) {
  worldTest(
    `verify, ${label}: a locked account is proven locked, and no packet is sent for it`,
    async (world) => {
      const agent = await world.account();
      await lockIn(world, [agent], { backend });
      const verified = await verifyUnsent(world, agent);
      assertEquals([verified.code, verified.proven], [0, true], JSON.stringify(verified));
      assertEquals(
        verdicts(verified, /^IPv/),
        Array.from({ length: 12 }, () => "proven"),
        JSON.stringify(verified, null, 1),
      );
      assertEquals(verdicts(verified, /^loopback/), ["note"]);
    },
    variant,
  );
}

worldTest("verify of the outside: only what is tried and refused is proven", async (world, t) => {
  const agent = await world.account();
  const uid = (await world.must("id", "-u", agent)).trim();
  await serve(world, "outside", PORT);
  const lock = () => lockIn(world, [agent], { backend: "iptables" });

  await t.step("an unlocked account is never proven locked, and sends nothing", async () => {
    const verified = await verifyUnsent(world, agent);
    assertEquals([verified.code, verified.proven, verified.state], [3, false, "unlocked"]);
    assertEquals(new Set(verdicts(verified, /^IPv/)), new Set(["failed"]));
  });

  await t.step("--target tries for real: the control gets through, a lock does not", async () => {
    const free = await verify(world, agent, "--target", `${OUTSIDE_V4}:${PORT}`);
    assertEquals([free.code, new Set(verdicts(free, /TCP/))], [3, new Set(["failed"])]);
    await lock();
    for (const target of [`${OUTSIDE_V4}:${PORT}`, `[${OUTSIDE_V6}]:${PORT}`]) {
      const locked = await verify(world, agent, "--target", target);
      assertEquals(locked.code, 0, JSON.stringify(locked, null, 1));
      assertEquals(verdicts(locked, /^IPv/), Array.from({ length: 12 }, () => "proven"));
      assertStringIncludes(JSON.stringify(locked.tries), "control nobody: it went out");
    }
  });

  await t.step("--target where the control fails too is inconclusive", async () => {
    const { code, tries } = await verify(world, agent, "--target", `${OUTSIDE_V4}:4999`);
    const [tcp] = tries.filter(({ what }) => what.includes(`TCP to ${OUTSIDE_V4}`));
    assertEquals([code, tcp!.verdict], [3, "inconclusive"], JSON.stringify(tcp));
  });

  for (
    const removal of [
      `ip -4 rule del pref 77 uidrange ${uid}-${uid} prohibit`,
      `ip -6 rule del pref 77 uidrange ${uid}-${uid} prohibit`,
      "iptables -F && iptables -t mangle -F",
      "ip6tables -F && ip6tables -t mangle -F",
    ]
  ) {
    await t.step(`half a lock is not proven, and sends nothing: ${removal}`, async () => {
      await world.must("sh", "-c", removal);
      const { code, proven, tries } = await verifyUnsent(world, agent);
      assertEquals([code, proven], [3, false]);
      const open = tries.filter(({ verdict }) => verdict !== "proven" && verdict !== "note");
      assert(open.length > 0, JSON.stringify(tries, null, 1));
      if (removal.startsWith("iptables")) {
        // With a target, the datagram by a device is seen to leave.
        const { code, tries } = await verify(world, agent, "--target", `${OUTSIDE_V4}:${PORT}`);
        const device = verdicts({ tries } as Verification, /^IPv4: UDP by out0/);
        assertEquals([code, ...device], [3, "failed"], JSON.stringify(tries, null, 1));
      }
      await lock();
    });
  }

  await t.step("what status cannot see is tried: a table that somebody made dormant", async () => {
    await world.must("nft", "add", "table", "ip", "mangle", "{ flags dormant; }");
    const { code, state, tries } = await verify(world, agent);
    assertEquals([code, state], [3, "locked"], JSON.stringify(tries, null, 1));
    const bySubordinate = verdicts({ tries } as Verification, /^IPv4: .* subordinate uid/);
    assertEquals(bySubordinate, ["failed"], JSON.stringify(tries, null, 1));
    await world.must("nft", "delete", "table", "ip", "mangle");
    await lock();
  });

  await t.step("all of the account's ports in use, the tries have one of root's", async () => {
    const range = (await world.must("sysctl", "-n", "net.ipv4.ip_local_port_range")).trim();
    const setRange = (to: string) =>
      world.must("sysctl", "-qw", `net.ipv4.ip_local_port_range=${to}`);
    await setRange("40000 40100");
    const hold = world.commandAs(agent, PYTHON, "-c", HOLD_PORTS, "40000", "40100");
    await using _held = await started(world, hold, "holding");
    const { code, tries } = await verify(world, agent);
    assertEquals(code, 0, JSON.stringify(tries, null, 1));
    await setRange(range);
  });

  await t.step("without perl nothing is known, and nothing is proven", async () => {
    const { code, stdout, stderr } = await world.exec(
      ...["unshare", "-m", "sh", "-ec", 'mount --bind /dev/null /usr/bin/perl; exec "$@"', "sh"],
      ...[...program(), "firewall", "verify", "--agent-user", agent, "--json"],
    );
    assertEquals([code, stderr], [3, ""]);
    const [verified] = JSON.parse(stdout).accounts as Verification[];
    assertEquals([verified!.state, verified!.proven], ["unknown", false]);
    assertEquals(verified!.tries.map(({ verdict, did }) => [verdict, did]), [
      ["inconclusive", "could not run as root: perl is not installed: install it"],
    ]);
  });

  await t.step(
    "without a route: one family has none, and needs none; both is no proof",
    async () => {
      await world.must("ip", "-6", "route", "del", "default");
      const withV4 = await verify(world, agent);
      assertEquals(withV4.code, 0, JSON.stringify(withV4, null, 1));
      assertEquals(new Set(verdicts(withV4, /^IPv4/)), new Set(["proven"]));
      assertEquals(new Set(verdicts(withV4, /^IPv6/)), new Set(["note"]));
      await world.must("ip", "-4", "route", "del", "default");
      const without = await verify(world, agent);
      assertEquals([without.code, without.proven], [3, false]);
      assert(!verdicts(without, /^IPv/).includes("proven"), JSON.stringify(without, null, 1));
      await world.must("ip", "-4", "route", "add", "default", "via", OUTSIDE_V4);
    },
  );

  await t.step("where IPv6 is switched off, IPv4 is the whole proof", async () => {
    for (const which of ["all", "default", "out0", "lo"]) {
      await world.must("sysctl", "-qw", `net.ipv6.conf.${which}.disable_ipv6=1`);
    }
    const { code, tries } = await verify(world, agent);
    assertEquals(code, 0, JSON.stringify(tries, null, 1));
    assertEquals(verdicts({ tries } as Verification, /^IPv6/), ["note"]);
    await world.must("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=0");
    assertEquals((await verify(world, agent)).code, 0, "only ::1 is left of it");
  });

  await t.step("an account that does not exist is an error", async () => {
    const account = ["--agent-user", "no_such_one"];
    const { code, stderr } = await world.fishnet("firewall", "verify", ...account);
    assertEquals([code, stderr], [1, "[fishnet] the account 'no_such_one' does not exist\n"]);
  });
});

worldTest("verify of half a lock sends nothing, and calls nothing let through", async (world) => {
  const agent = await world.account();
  await lockIn(world, [agent], { backend: "iptables" });
  for (const family of ["-4", "-6"]) {
    const rules = await world.must("ip", family, "rule", "show", "pref", "77");
    for (const [, range] of rules.matchAll(/uidrange (\S+)/g)) {
      await world.must("ip", family, "rule", "del", "pref", "77", "uidrange", range!, "prohibit");
    }
  }
  const { code, state, tries } = await verifyUnsent(world, agent);
  assertEquals([code, state], [3, "partial"]);
  const sent = tries.filter(({ what }) => /: (TCP|UDP|DNS)/.test(what));
  assertEquals(new Set(sent.map(({ verdict }) => verdict)), new Set(["inconclusive"]));
  assertMatch(sent[0]!.did, /not sent: there is a route by out0, which the packet filter may shut/);
});

worldTest("verify of the proxy on loopback", async (world, t) => {
  const agent = await world.account();
  await lockIn(world, [agent], { backend: "iptables" });
  const timed = async () => {
    const began = performance.now();
    return { ...await verify(world, agent), seconds: (performance.now() - began) / 1000 };
  };
  const silent = [PYTHON, "-c", SILENT, "3777"];
  const startSilent = (words: readonly string[]) => started(world, words, "silent");

  await t.step("one that is the account's own is a note, and ends in time", async () => {
    const { seconds, ...none } = await timed();
    assertEquals(verdicts(none, /^loopback/), ["note"], "nobody listens");
    await using _own = await startSilent(world.commandAs(agent, ...silent));
    const held = await timed();
    assert(held.seconds < 15 + seconds, `${held.seconds} s, and ${seconds} s undisturbed`);
    assertEquals([held.code, ...verdicts(held, /^loopback/)], [0, "note"]);
    assertMatch(held.tries.at(-1)!.did, /itself listens there/);
  });

  await t.step(
    "another's that is silent is no proof, nor where what tries is stopped",
    async () => {
      await using _others = await startSilent(world.command(...silent));
      const timedOut = await verify(world, agent);
      assertEquals([timedOut.code, timedOut.proven], [3, false]);
      const stopper = world.start(world.command(PYTHON, "-c", STOP_TRIES));
      const { code, tries } = await verify(world, agent);
      assertEquals((await stopper.status).code, 0, "nothing was stopped");
      const [proxy] = tries.filter(({ what }) => what.startsWith("loopback"));
      assertEquals([code, proxy!.verdict], [3, "inconclusive"]);
      assertStringIncludes(proxy!.did, "could not be tried (the tries did not end in 7 s)");
    },
  );

  for (const port of [3777, 3778]) await serve(world, { as: "root" }, port);
  await t.step("one that answers is reached, and one that is cut off is not", async () => {
    const { code, tries } = await verify(world, agent);
    const [proxy] = tries.filter(({ what }) => what.startsWith("loopback"));
    assertEquals([code, proxy!.verdict], [0, "proven"], JSON.stringify(proxy));
    const rule = ["OUTPUT", "-o", "lo", "-m", "owner", "--uid-owner", agent, "-j", "REJECT"];
    await world.must("iptables", "-I", ...rule);
    const cut = await verify(world, agent);
    assertEquals([cut.code, ...verdicts(cut, /^loopback/)], [3, "failed"]);
    await world.must("iptables", "-D", ...rule);
  });

  await t.step("with --only-port, other ports and UDP on loopback are refused", async () => {
    await lockIn(world, [agent], { onlyPorts: [3777] });
    const allowed = await verify(world, agent);
    assertEquals([allowed.code, ...verdicts(allowed, /^loopback/)], [0, "proven", "proven"]);
    const other = await verify(world, agent, "--proxy", "http://127.0.0.1:3778/");
    assertEquals([other.code, ...verdicts(other, /^loopback/)], [0, "proven", "proven"]);
  });

  await t.step(
    "one that is not on this machine is refused, and nothing is sent to it",
    async () => {
      const own = await verify(world, agent, "--proxy", `http://${INSIDE_V4}:3777/`);
      assert(own.tries.some(({ what }) => what.startsWith(`loopback: http://${INSIDE_V4}:3777/`)));
      // As many programs say where they listen.
      const any = await verify(world, agent, "--proxy", "http://[::]:3777/");
      assert(any.tries.some(({ what }) => what.startsWith("loopback: http://[::]:3777/")));
      const nobodys = INSIDE_V4.replace(/\d+$/, "77");
      const words = ["firewall", "verify", "--agent-user", agent, "--proxy"];
      const [refused, control] = await world.capturedEach(`host ${nobodys}`, [
        async () => {
          const { code, stderr } = await world.fishnet(...words, `http://${nobodys}:3777/`);
          assertEquals([code, stderr.includes("is not on this machine")], [1, true], stderr);
        },
        () => world.try("root", "udp_once", nobodys, PORT),
      ]);
      assertEquals(refused, []);
      assert(control!.length > 0, "the control asked for its address");
    },
  );

  await t.step(
    "the proxy is at the one port that the lock leaves, unless it is named",
    async () => {
      await lockIn(world, [agent], { onlyPorts: [3778] });
      const { code, tries } = await verify(world, agent);
      const [proxy] = tries.filter(({ what }) => what.startsWith("loopback"));
      assertEquals([code, proxy!.what], [0, "loopback: http://127.0.0.1:3778/health"]);
      assertEquals([proxy!.expected, proxy!.verdict], ["reached", "proven"]);
      const named = await verify(world, agent, "--proxy", "http://127.0.0.1:3777/");
      const what = "loopback: http://127.0.0.1:3777/, not a port of --only-port";
      assertEquals(named.tries.filter((one) => one.what === what).map((one) => one.verdict), [
        "proven",
      ]);
    },
  );

  await t.step("where nobody is locked as well, root is the control", async () => {
    await lockIn(world, ["nobody"]);
    const { code, tries } = await verify(world, agent);
    assertEquals(code, 0);
    assertStringIncludes(tries.at(-2)!.did, "control root: answered");
  });
});

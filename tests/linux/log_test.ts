/** The log of what a locked account tries: real rules, real auditd, real refusals. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { logLines, summaryLines } from "../../src/cli/log_text.ts";
import { FishnetError } from "../../src/errors.ts";
import { audit, KEY } from "../../src/linux/audit.ts";
import { auditAtBoot } from "../../src/linux/audit_at_boot.ts";
import { followLog, readLog, refusedSince } from "../../src/linux/log.ts";
import type { Refusal } from "../../src/lock/report.ts";
import { rangeLoop } from "../../src/linux/routing.ts";
import { stepsByName } from "../../src/lock/difference.ts";
import type { Found, Lock, Piece } from "../../src/lock/piece.ts";
import { ask, Audit, paste, readAudit, takeBack, until, whyNoAudit } from "../support/audit.ts";
import { attempt, change, PORT, probe, serve } from "../support/lock.ts";
import { linesOf, must, type Result, run } from "../support/process.ts";
import {
  INSIDE_V4,
  OUTSIDE_V4,
  OUTSIDE_V6,
  program,
  PYTHON,
  whyNoWorld,
  type World,
  worldTest,
} from "../support/world.ts";

const why = whyNoWorld() ?? whyNoAudit();

/** Defines a test that has a world and the audit, or says why it is skipped. */
function logTest(name: string, body: (world: World, t: Deno.TestContext) => Promise<void>): void {
  if (why !== undefined) {
    Deno.test({ name: `${name} (skipped: ${why})`, ignore: true, fn() {} });
    return;
  }
  worldTest(name, async (world, t) => {
    await using _audit = await Audit.begin();
    await body(world, t);
  });
}

const uidOf = async (account: string) => Number(await must("id", "-u", account));

async function lockOf(account: string, more: Partial<Lock> = {}): Promise<Lock> {
  return {
    name: account,
    uid: await uidOf(account),
    ranges: [],
    backend: "iptables",
    onlyPorts: [],
    persist: false,
    sessions: false,
    log: true,
    ...more,
  };
}

const UDP = `import socket, sys
six = ":" in sys.argv[1]
with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))`;

/** As verify tries: only the effective uid is the account's. */
const EFFECTIVE = `use Socket;
$) = "$ARGV[0] $ARGV[0]"; $> = $ARGV[0];
socket(my $s, AF_INET, SOCK_DGRAM, 0) or die; $s = *$s;
connect($s, pack_sockaddr_in($ARGV[2], inet_aton($ARGV[1]))) or die "$!\\n";`;

/** Names itself what a terminal would obey, and what a record's own text looks like. */
const DISGUISED = `import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, b'a" exit=0\\x1b[8m')
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.connect((sys.argv[1], 9))`;

/** Sends to an address of no family, which the kernel takes for one of IPv4. */
const OF_NO_FAMILY = `import ctypes, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    to = struct.pack("=H", 0) + struct.pack("!H4s8x", 4005, socket.inet_aton(sys.argv[1]))
    print(ctypes.CDLL(None).sendto(s.fileno(), b"x", 1, 0, to, len(to)))`;

/** A socket that only its owner may open, or a try to. */
const UNIX = `import os, socket, sys
os.umask(0o077)
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
    getattr(s, sys.argv[1])(sys.argv[2])`;

/** Sends a datagram so many times, and says how many were refused. */
const FLOOD = `import socket, sys
refused = 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for _ in range(int(sys.argv[3])):
        try:
            s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
        except PermissionError:
            refused += 1
print(refused)`;

interface Try {
  readonly command: readonly string[];
  /** How it ends where nothing refuses it; the control of the test. */
  readonly through: (result: Result) => boolean;
  /** What the log has of it. */
  readonly program: RegExp;
  readonly address: string;
  /** Undefined where the program chooses it. */
  readonly port?: number;
}

/** The port of a web server outside. */
const WEB = 8000;

async function serveWeb(world: World): Promise<void> {
  const { stdout } = world.start([
    ...["ip", "netns", "exec", world.outside, PYTHON, "-u", "-m", "http.server"],
    ...["--bind", "::", "--directory", "/srv", `${WEB}`],
  ]);
  const lines = linesOf(stdout);
  assertMatch((await lines.read()).value ?? "", /^Serving HTTP/);
  lines.releaseLock();
}

const tries: readonly Try[] = [OUTSIDE_V4, OUTSIDE_V6].flatMap((address): Try[] => {
  const host = address.includes(":") ? `[${address}]` : address;
  return [
    {
      command: ["curl", "--silent", "--max-time", "20", `http://${host}:${WEB}/`],
      through: ({ code }) => code === 0,
      program: /^curl$/,
      address,
      port: WEB,
    },
    {
      command: ["ping", "-c", "1", "-W", "20", address],
      through: ({ code }) => code === 0,
      program: /^ping$/,
      address,
    },
    {
      command: ["dig", "+tries=1", "+time=1", `@${address}`, "-p", `${PORT}`, "example.org"],
      // The server answers, though not as a name server would.
      through: ({ stdout }) => !/permission denied/i.test(stdout),
      program: /^(?:isc-net|dig)/,
      address,
      port: PORT,
    },
    {
      command: [PYTHON, "-c", UDP, address, `${PORT}`],
      through: ({ code }) => code === 0,
      program: /^python3/,
      address,
      port: PORT,
    },
  ];
});

for (const backend of ["iptables", "nftables"] as const) {
  logTest(
    `${backend}: the log names what a locked account tried, and where to`,
    async (world, t) => {
      const agent = await world.account();
      const control = await world.account();
      const controlUid = await uidOf(control);
      await serve(world, "outside");
      await serveWeb(world);
      await world.subordinate(`${agent}:${world.firstUid}:100`);
      await change(world, "enable", agent, backend, "--log");
      const start = Date.now();
      const read = async () =>
        (await readLog(ask, { accounts: [agent] })).filter(({ time }) => time >= start);
      const recorded = async (is: (refusal: Refusal) => boolean, what: string) => {
        let found: Refusal | undefined;
        const took = await until(async () => (found = (await read()).find(is)) !== undefined, what);
        return { refusal: found!, took };
      };

      await t.step("curl, ping, dig and a UDP client, over IPv4 and IPv6", async () => {
        const times: number[] = [];
        for (const { command, through, program, address, port } of tries) {
          const what = command.join(" ");
          assert(through(await world.as(control, ...command)), `the control gets through: ${what}`);
          const refused = await world.as(agent, ...command);
          assert(!through(refused), `the account does not: ${what}: ${refused.stdout}`);
          const { refusal, took } = await recorded(
            (refusal) =>
              program.test(refusal.program) && refusal.address === address &&
              (port === undefined || refusal.port === port) && !times.includes(refusal.time),
            what,
          );
          assertEquals(refusal.by, "routing");
          assertEquals(refusal.account, agent);
          assert(Math.abs(refusal.time - Date.now()) < 60_000, "its time is now");
          times.push(took);
        }
        const median = times.toSorted((a, b) => a - b)[times.length >> 1]!;
        assert(median < 2000, `in the log within two seconds: ${times}`);
      });

      await t.step("what the packet filter alone refuses", async () => {
        const { stdout } = await attempt(world, agent, "udp_to_device", OUTSIDE_V4);
        assertMatch(stdout, /^EPERM/);
        const { refusal } = await recorded(({ by }) => by === "filter", "a socket of a device");
        assertEquals([refusal.address, refusal.port], [OUTSIDE_V4, PORT]);
      });

      await t.step("a subordinate uid's", async () => {
        const uid = world.firstUid + 7;
        await world.as(`${uid}`, PYTHON, "-c", UDP, OUTSIDE_V4, "4003");
        const { refusal } = await recorded(({ port }) => port === 4003, "a subordinate uid");
        assertEquals([refusal.uid, refusal.account], [uid, agent]);
      });

      await t.step("root's own, with the account's effective uid", async () => {
        const uid = `${await uidOf(agent)}`;
        const { stderr } = await world.exec("perl", "-e", EFFECTIVE, uid, OUTSIDE_V4, "4004");
        assertMatch(stderr, /Permission denied/);
        await recorded(({ port, program }) => port === 4004 && program === "perl", "verify's way");
      });

      await t.step("an address of no family is told as what it is taken for", async () => {
        const control = await world.as(`${controlUid}`, PYTHON, "-c", OF_NO_FAMILY, OUTSIDE_V4);
        assertEquals(control.stdout, "1\n", "the control");
        assertEquals(
          (await world.as(agent, PYTHON, "-c", OF_NO_FAMILY, OUTSIDE_V4)).stdout,
          "-1\n",
        );
        const { refusal } = await recorded(({ port }) => port === 4005, "no family");
        assertEquals(refusal.address, OUTSIDE_V4);
      });

      await t.step("a name is shown without what a terminal obeys", async () => {
        await world.as(agent, PYTHON, "-c", DISGUISED, OUTSIDE_V4);
        const { refusal } = await recorded(({ port }) => port === 9, "a disguised program");
        assertEquals(refusal.program, 'a" exit=0\x1b[8m');
        const [line] = logLines([refusal]);
        assert(line!.includes('a" exit=0[8m['), line);
        assert(!line!.includes("\x1b"), line);
      });

      await t.step("of another account nothing is recorded", async () => {
        const others = await readLog(ask, { accounts: [control] });
        const all = (await readLog(ask, { accounts: [] })).filter(({ time }) => time >= start);
        assertEquals(others, []);
        assert(all.some(({ account }) => account === agent));
        assertEquals(all.filter(({ uid }) => uid === controlUid), []);
      });

      await t.step("a Unix socket that the account may not open is none of a lock's", async () => {
        const before = (await read()).length;
        const folder = await Deno.makeTempDir();
        await must("chmod", "755", folder);
        await must(PYTHON, "-c", UNIX, "bind", `${folder}/root`);
        const { stderr } = await world.as(agent, PYTHON, "-c", UNIX, "connect", `${folder}/root`);
        assertMatch(stderr, /PermissionError/);
        await Deno.remove(folder, { recursive: true });
        await world.as(agent, PYTHON, "-c", UDP, OUTSIDE_V4, "4005");
        await recorded(({ port }) => port === 4005, "what came after it");
        assertEquals((await read()).length, before + 1);
      });

      await t.step("the program tells it: each, by destination, and as JSON", async () => {
        const log = async (...options: readonly string[]) => {
          const { code, stdout, stderr } = await world.fishnet(
            ...["firewall", "log", "--agent-user", agent, "--since", "30m", ...options],
          );
          assertEquals(code, 0, stderr);
          return stdout;
        };
        const curl = new RegExp(`  ${agent}  curl\\[\\d+\\]  ${OUTSIDE_V4}:${WEB}  no route$`, "m");
        assertMatch(await log(), curl);
        assertMatch(
          await log("--summary"),
          new RegExp(`^ *1  ${OUTSIDE_V4}:${WEB}  curl  last `, "m"),
        );
        const documents = (await log("--json")).trim().split("\n").map((line) => JSON.parse(line));
        assertEquals(documents.length, (await read()).length);
        assert(documents.every(({ account }) => account === agent));
      });

      await t.step("status knows the rules, and that they are in force", async () => {
        const { code, stdout } = await world.fishnet("firewall", "status", "--agent-user", agent);
        assertEquals(code, 0, stdout);
        assertMatch(stdout, /^audit of 64-bit calls: EACCES.* in force$/m);
        const told = new RegExp(`^${agent}: refused (\\d+) times since `, "m").exec(stdout);
        assertEquals(Number(told?.[1]), (await read()).length, stdout);
      });

      await t.step("verify finds its own tries in the log", async () => {
        const before = (await read()).length;
        const { stdout } = await world.fishnet("firewall", "verify", "--agent-user", agent);
        assertMatch(stdout, /^these tries, in the audit's log +refused +ok$/m);
        const own = (await read()).slice(before);
        assert(own.some(({ realUid, program }) => realUid === 0 && program === "perl"), stdout);
        assertMatch(logLines(own)[0]!, / no route, tried by uid 0/);
      });

      await t.step("the records are counted from when the rules were made", async () => {
        const told = async () => (await refusedSince(ask, [agent])).get(agent)!;
        // The record of a try may come after the try.
        const counts = async () => (await told()).count === (await read()).length;
        await until(counts, "both count the same");
        const { since, file } = await told();
        assert(
          since !== undefined && since <= start && start - since < 120_000,
          `${since} ${start}`,
        );
        assertMatch(file!, /^\/.*\.log$/);
      });

      await change(world, "disable", agent, backend);
    },
  );
}

logTest("the rules come and go, and those of others stay byte for byte", async (world, t) => {
  const agent = await world.account();
  const uid = await uidOf(agent);
  // A name that begins like the account's is another's, and so are keys of one's own.
  const others = [
    ["-F", "arch=b64", "-S", "connect", "-F", `euid=${uid}`, "-F", "exit=-EACCES", "-k", "own"],
    ["-F", "arch=b64", "-S", "connect", "-F", "euid=4000000", "-k", `${KEY}${agent}2`],
  ];
  await using disposal = new AsyncDisposableStack();
  for (const words of others) {
    await must("auditctl", "-a", "always,exit", ...words);
    disposal.defer(() => must("auditctl", "-d", "always,exit", ...words).then(() => {}));
  }
  const before = await Audit.rules();
  const file = `/etc/audit/rules.d/${KEY}${agent}.rules`;
  disposal.defer(() => must("rm", "-f", file, `${file}.new`).then(() => {}));
  const first = { first: world.firstUid, last: world.firstUid + 99 };
  const second = { first: world.firstUid + 200, last: world.firstUid + 200 };
  const lock = await lockOf(agent, { persist: true, ranges: [first] });
  const kinds = [audit, auditAtBoot];
  const foundNow = async () => {
    const machine = await readAudit();
    return kinds.flatMap((kind) => kind.found(machine)).filter(({ owner }) => owner === agent);
  };
  const wantedOf = (lock: Lock) => kinds.flatMap((kind) => kind.wanted(lock));
  const isAtBoot = ({ is }: Piece) => is.startsWith("audit rules in");
  const make = async (pieces: readonly Piece[]) => {
    const machine = await readAudit();
    return [
      ...audit.make(pieces.filter((piece) => !isAtBoot(piece)), machine),
      ...auditAtBoot.make(pieces.filter(isAtBoot), machine),
    ];
  };
  const unmake = async (pieces: readonly Found[]) => {
    const machine = await readAudit();
    return [
      ...audit.unmake(pieces.filter((piece) => !isAtBoot(piece)), machine),
      ...auditAtBoot.unmake(pieces.filter(isAtBoot), machine),
    ];
  };
  const names = (pieces: readonly Piece[]) =>
    pieces.map(({ is, uids }) => `${is} ${JSON.stringify(uids)}`).toSorted();

  await t.step("what was made is found, without a fault, and can be taken back", async () => {
    const steps = await make(wantedOf(lock));
    for (const line of audit.make(audit.wanted(lock)).map(({ line }) => line)) {
      assert(line.length <= 160, line);
    }
    await paste(steps);
    const found = await foundNow();
    assertEquals(names(found), names(wantedOf(lock)));
    assertEquals(found.filter(({ fault }) => fault !== undefined), []);
    await takeBack(steps);
    assertEquals(await Audit.rules(), before);
    assertEquals((await run(["cat", file])).code, 1);
    await paste(steps);
  });

  await t.step("auditd loads the file at boot: the same rules", async () => {
    const made = await Audit.rules();
    await paste(await unmake((await foundNow()).filter((piece) => !isAtBoot(piece))));
    assertEquals(await Audit.rules(), before);
    await must("auditctl", "-R", file);
    assertEquals(await Audit.rules(), made);
  });

  await t.step("a range more is added to what is there, and goes alone", async () => {
    const saved = await Deno.readTextFile(file);
    const found = await foundNow();
    const wanted = wantedOf({ ...lock, ranges: [first, second] });
    const there = new Set(names(found));
    const steps = await make(wanted.filter((piece) => !there.has(names([piece])[0]!)));
    await paste(steps);
    assertEquals(names(await foundNow()), names(wanted));
    await takeBack(steps);
    assertEquals(await Deno.readTextFile(file), saved);
    await paste(steps);
    const gone = (await foundNow()).filter(({ uids }) => uids?.first === second.first);
    await paste(await unmake(gone));
    assertEquals(await Deno.readTextFile(file), saved);
    assertEquals(names(await foundNow()), names(found));
  });

  await t.step("taken away, everything is as it was; and back with the undo", async () => {
    const made = [await Audit.rules(), await Deno.readTextFile(file)];
    const steps = await unmake(await foundNow());
    await paste(steps);
    assertEquals(await Audit.rules(), before);
    assertEquals((await run(["cat", file])).code, 1);
    await takeBack(steps);
    const sorted = (rules: string) => rules.split("\n").toSorted();
    assertEquals(sorted(await Audit.rules()), sorted(made[0]!));
    assertEquals(await Deno.readTextFile(file), made[1]);
    await paste(steps);
    assertEquals(await Audit.rules(), before);
  });

  await t.step("a dry-run's lines, pasted, make the same rules and the same file", async () => {
    const { uid: _uid, ranges: _ranges, ...byName } = lock;
    await paste(stepsByName({ kinds, loop: rangeLoop }, [byName], "enable"));
    const pasted = [await Audit.rules(), await Deno.readTextFile(file)];
    await paste(await unmake(await foundNow()));
    assertEquals(await Audit.rules(), before);
    const entries = (await must("grep", `^${agent}:`, "/etc/subuid")).trim().split("\n");
    const ranges = entries.map((entry) => {
      const [, first, count] = entry.split(":").map(Number) as [number, number, number];
      return { first, last: first + count - 1 };
    });
    await paste(await make(wantedOf({ ...lock, ranges })));
    assertEquals([await Audit.rules(), await Deno.readTextFile(file)], pasted);
    await paste(await unmake(await foundNow()));
    assertEquals(await Audit.rules(), before);
  });
});

logTest("--follow shows what is tried from now on, once", async (world) => {
  const agent = await world.account();
  await change(world, "enable", agent, "nftables", "--log");
  const tried = (port: number) => world.as(agent, PYTHON, "-c", UDP, OUTSIDE_V4, `${port}`);
  await tried(1);
  await until(
    async () => (await readLog(ask, { accounts: [agent] })).length === 1,
    "the first is in the log",
  );
  const ports: (number | undefined)[] = [];
  const log = followLog(ask, { accounts: [agent] });
  // The first reading begins now: what was tried before it is not shown.
  let next = log.next();
  for (const port of [2, 3]) {
    await tried(port);
    ports.push(...(await next).value!.map(({ port }: Refusal) => port));
    next = log.next();
  }
  await tried(4);
  ports.push(...(await next).value!.map(({ port }: Refusal) => port));
  assertEquals(ports, [2, 3, 4]);
  // Who follows ends when nobody reads it any more.
  const words = [...program(), "firewall", "log", "--agent-user", agent, "--follow"];
  const piped = world.start(world.command("sh", "-c", '"$@" | head -1', "sh", ...words));
  let isOver = false;
  const over = piped.status.finally(() => isOver = true);
  for (let port = 5; !isOver && port < 1000; port++) {
    await tried(port);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert(isOver, "it ended");
  await over;
  await change(world, "disable", agent, "nftables");
});

logTest("a flood of 20,000 tries is recorded whole, or the loss is told", async (world, t) => {
  const agent = await world.account();
  const control = await world.account();
  await serve(world, { as: control }, 4001);
  await change(world, "enable", agent, "nftables", "--log");
  const lostBefore = Number((await Audit.status()).lost);

  await t.step("others get on with their work meanwhile", async () => {
    const flood = world.as(agent, PYTHON, "-c", FLOOD, OUTSIDE_V4, `${PORT}`, "20000");
    let served = 0;
    let going = true;
    const ended = flood.finally(() => going = false);
    do {
      const { stdout } = await run(world.commandAs(control, ...probe("tcp", INSIDE_V4, 4001)));
      assertEquals(stdout, "answered\n");
      served++;
    } while (going);
    assertEquals((await ended).stdout, "20000\n");
    assert(served > 0);
  });

  await t.step("each is in the log, and told in one line", async () => {
    let refusals: Refusal[] = [];
    const lost = async () => Number((await Audit.status()).lost) - lostBefore;
    await until(async () => {
      refusals = await readLog(ask, { accounts: [agent], since: 600 });
      return refusals.length + await lost() >= 20_000;
    }, "all of the flood is in the log");
    if (await lost() === 0) assertEquals(refusals.length, 20_000);
    const lines = logLines(refusals);
    assert(lines.length === 1 || await lost() > 0, `${lines.length} lines`);
    assertMatch(lines[0]!, new RegExp(`${OUTSIDE_V4}:${PORT} .*\\(\\d+ times\\)$`));
    assertMatch(summaryLines(refusals)[0]!, new RegExp(`^${refusals.length}  ${OUTSIDE_V4}:`));
  });

  await change(world, "disable", agent, "nftables");
});

Deno.test("a log that cannot be read is an error, and an empty one is not", async () => {
  const answers = (exitCode: number, stderr: string) => () =>
    Promise.resolve({ exitCode, stdout: "", stderr });
  const query = { accounts: ["agent"] };
  assertEquals(await readLog(answers(1, "<no matches>\n"), query), []);
  for (const [code, said] of [[127, ""], [1, "Error opening /var/log/audit/audit.log"]] as const) {
    await assertRejects(() => readLog(answers(code, said), query), FishnetError);
  }
});

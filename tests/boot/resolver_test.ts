/**
 * The doors to the services that look names up for whoever asks, on a machine where they really run:
 * what goes out of each, counted outside, with the name that was asked for.
 */
import { assert, assertEquals } from "@std/assert";
import type { Lock, Piece } from "../../src/lock/piece.ts";
import { parseSubuid } from "../../src/linux/accounts.ts";
import { askAll, type Machine } from "../../src/linux/machine.ts";
import { rootBy } from "../support/root.ts";
import { resolver, RESOLVERS } from "../../src/linux/resolver.ts";
import { World } from "../support/world.ts";
import { AGENT, type Boot, CONTROL } from "./machine.ts";
import { as, BUSES, machineWith, resolverTest, serveDns } from "./resolver_machine.ts";

const LOCK: Lock = {
  ...{ name: AGENT.name, uid: AGENT.uid, ranges: [], backend: "iptables", onlyPorts: [3777] },
  ...{ persist: true, sessions: false, log: false },
};

/** Writes to a socket, and prints the beginning of what comes back. */
const TALK = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.settimeout(8)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode().decode("unicode_escape").encode())
print(s.recv(200))`;

const talk = (path: string, text: string) => ["python3", "-c", TALK, path, text];

const varlink = (name: string) =>
  JSON.stringify({
    method: "io.systemd.Resolve.ResolveHostname",
    parameters: { name, family: 2, flags: 0 },
  }) + "\\0";

/** A call over D-Bus, to a name or, past any look at names, to the connection that owns it. */
const call = (destination: string, ...rest: string[]) => [
  ...["busctl", "--timeout=8", "--", "call", destination],
  ...rest,
];
const resolve1 = (destination: string, name: string) =>
  call(
    ...[destination, "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager"] as const,
    ...["ResolveHostname", "isit", "0", name, "2", "0"],
  );

/** The ways to have a name looked up: what each is called, and its command. */
async function waysOf(boot: Boot): Promise<[string, (name: string) => string[]][]> {
  const owner = async (name: string) =>
    JSON.parse(
      await boot.must(
        ...["busctl", "--json=short", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus"],
        ...["org.freedesktop.DBus", "GetNameOwner", "s", name],
      ),
    ).data[0];
  const resolved = await owner("org.freedesktop.resolve1");
  const dns = (name: string) => `${name}.example.com`;
  return [
    ["resolvectl", (name) => ["resolvectl", "query", dns(name)]],
    ["getent", (name) => ["getent", "hosts", dns(name)]],
    ["busname", (name) => resolve1("org.freedesktop.resolve1", dns(name))],
    ["busowner", (name) => resolve1(resolved, dns(name))],
    ["varlink", (name) => talk("/run/systemd/resolve/io.systemd.Resolve", varlink(dns(name)))],
    ["avahi", (name) => talk("/run/avahi-daemon/socket", `RESOLVE-HOSTNAME-IPV4 ${name}.local\\n`)],
    ["avahibus", (name) =>
      call(
        ...[
          "org.freedesktop.Avahi",
          "/",
          "org.freedesktop.Avahi.Server",
          "ResolveHostName",
        ] as const,
        ...["iisiu", "-1", "-1", `${name}.local`, "0", "0"],
      )],
    ["realmd", (name) =>
      call(
        ...["org.freedesktop.realmd", "/org/freedesktop/realmd"] as const,
        ...["org.freedesktop.realmd.Provider", "Discover", "sa{sv}", dns(name), "0"],
      )],
  ];
}

let tries = 0;

/** The ways in which a name of the account's went out, and those in which the control's did. */
async function escaped(world: World, boot: Boot): Promise<Record<string, string[]>> {
  const ways = await waysOf(boot);
  const round = `r${++tries}`;
  const frames = await world.captured(
    "port 53 or port 5353",
    () =>
      Promise.all(
        ways.flatMap(([way, command]) =>
          [AGENT, CONTROL].map(({ name, uid }) =>
            as(boot, uid, ...command(`${way}-${name}-${round}`))
          )
        ),
      ),
  );
  const out = ({ name }: typeof AGENT) =>
    ways.map(([way]) => way).filter((way) =>
      frames.some((frame) => frame.includes(`${way}-${name}-${round}`))
    );
  return { agent: out(AGENT), control: out(CONTROL), all: ways.map(([way]) => way) };
}

/** Whether a service that looks nothing up answers the account on the bus, and the control; and the bus itself. */
async function called(boot: Boot): Promise<boolean[]> {
  const ping = call("org.freedesktop.hostname1", "/", "org.freedesktop.DBus.Peer", "Ping");
  const names = ["busctl", "--timeout=8", "list", "--acquired"];
  const answers = await Promise.all([
    ...[AGENT, CONTROL].map(({ uid }) => as(boot, uid, ...ping)),
    as(boot, AGENT.uid, ...names),
  ]);
  return answers.map(({ code }) => code === 0);
}

/** Whether CUPS answers the account over its socket, and the control. */
async function printing(boot: Boot): Promise<boolean[]> {
  const command = talk("/run/cups/cups.sock", "GET / HTTP/1.0\\r\\n\\r\\n");
  const answers = await Promise.all([AGENT, CONTROL].map(({ uid }) => as(boot, uid, ...command)));
  return answers.map(({ stdout }) => stdout.includes("HTTP/1."));
}

/** Reads what the pieces are found in. */
async function read(boot: Boot): Promise<Machine> {
  const { ask, look } = rootBy(...boot.command());
  const files = await look(resolver.files!);
  const known = { files, answers: new Map(), asked: {} };
  const answers = await askAll(ask, resolver.questions!(known));
  return { answers, files, passwd: [], subuid: parseSubuid(""), families: [4, 6] };
}

/** The pieces of the lock that are in force, and those that are not. */
async function pieces(boot: Boot): Promise<{ inForce: string[]; missing: string[] }> {
  const machine = await read(boot);
  const found = resolver.found(machine).filter(({ fault, uids }) =>
    fault === undefined && uids?.first === AGENT.uid
  );
  const has = ({ is }: Piece) => found.some((one) => one.is === is);
  const wanted = resolver.wanted(LOCK, machine);
  return {
    inForce: wanted.filter(has).map(({ is }) => is),
    missing: wanted.filter((piece) => !has(piece)).map(({ is }) => is),
  };
}

/** Runs the lines as a person would who pastes them. */
async function run(boot: Boot, lines: readonly string[]): Promise<void> {
  for (const line of lines) await boot.must("sh", "-c", line);
}

const lists = async (boot: Boot) =>
  (await boot.exec(
    "getfacl",
    "-p",
    ...RESOLVERS.map(({ socket }) => socket.replace(/\/[^/]+$/, "")),
  ))
    .stdout;

for (const bus of BUSES) {
  resolverTest(
    `${bus}: the services that look names up are shut for the account alone`,
    async (t) => {
      await using machine = await machineWith(bus);
      let [etc, before] = ["", ""];

      await t.step("from now on, and when the services start anew", async () => {
        await using world = await World.create();
        await serveDns(world);
        await using boot = await machine.boot(world);
        await boot.finished();
        [etc, before] = [await machine.etc(), await lists(boot)];
        const open = await escaped(world, boot);
        assertEquals([open["agent"], open["control"]], [open["all"], open["all"]]);
        assertEquals(await called(boot), [true, true, true]);
        const read1 = await read(boot);
        const wanted = resolver.wanted(LOCK, read1);
        assertEquals(wanted.length, 6, "a policy, four folders, one file for the boot");

        const steps = resolver.make(wanted, read1);
        await run(boot, steps.map(({ line }) => line));
        assertEquals((await pieces(boot)).missing, []);
        const shut = await escaped(world, boot);
        assertEquals([shut["agent"], shut["control"]], [[], shut["all"]]);
        assertEquals(await called(boot), [false, true, true]);

        // The undo of each command, last first, leaves what was there; and once more there.
        await run(
          boot,
          steps.toReversed().flatMap(({ undo }) => undo.toReversed().filter(Boolean)),
        );
        assertEquals([await machine.etc(), await lists(boot)], [etc, before]);
        assertEquals((await escaped(world, boot))["agent"], open["all"]);
        await run(boot, steps.map(({ line }) => line));

        const units = ["systemd-resolved", "nscd", "avahi-daemon", "cups"];
        await boot.must(
          ...["systemctl", "restart", ...units.map((unit) => `${unit}.service`)],
          ...["avahi-daemon.socket", "cups.socket"],
        );
        assertEquals((await pieces(boot)).missing, []);
        const restarted = await escaped(world, boot);
        assertEquals([restarted["agent"], restarted["control"]], [[], restarted["all"]]);
      });

      await t.step("after a reboot, until they are taken away", async () => {
        await using world = await World.create();
        await serveDns(world);
        await using boot = await machine.boot(world);
        await boot.finished();
        assertEquals((await pieces(boot)).missing, []);
        const shut = await escaped(world, boot);
        assertEquals([shut["agent"], shut["control"]], [[], shut["all"]]);

        const now = await read(boot);
        const found = resolver.found(now).filter(({ uids }) => uids?.first === AGENT.uid);
        const steps = resolver.unmake(found, now);
        await run(boot, steps.map(({ line }) => line));
        assertEquals([await machine.etc(), await lists(boot)], [etc, before]);
        const open = await escaped(world, boot);
        assertEquals([open["agent"], open["control"]], [open["all"], open["all"]]);

        // What taking away did is taken back, too.
        await run(
          boot,
          steps.toReversed().flatMap(({ undo }) => undo.toReversed().filter(Boolean)),
        );
        assertEquals((await pieces(boot)).missing, []);
        assertEquals((await escaped(world, boot))["agent"], []);
      });

      await t.step("what somebody changed is found", async () => {
        await using world = await World.create();
        await using boot = await machine.boot(world);
        await boot.finished();
        const policy = `/etc/dbus-1/system.d/fishnet-${AGENT.uid}.conf`;
        await boot.must("sed", "-i", "s/method_call/method_return/", policy);
        await boot.must("setfacl", "--modify", `u:${AGENT.uid}:r-x`, "/run/nscd");
        const { missing, inForce } = await pieces(boot);
        assertEquals([missing.length, inForce.length], [2, 4], missing.join());
        const now = await read(boot);
        const wanted = resolver.wanted(LOCK, now).filter(({ is }) => missing.includes(is));
        const steps = resolver.make(wanted, now);
        await run(boot, steps.map(({ line }) => line));
        assertEquals((await pieces(boot)).missing, []);
        await run(
          boot,
          steps.toReversed().flatMap(({ undo }) => undo.toReversed().filter(Boolean)),
        );
        assertEquals((await pieces(boot)).missing, missing);
        assert((await boot.must("cat", policy)).includes("method_return"));
      });
    },
  );
}

resolverTest("enable --only-port shuts them, status tells, and disable opens them", async () => {
  await using machine = await machineWith("dbus-broker");
  await using world = await World.create();
  await serveDns(world);
  await using boot = await machine.boot(world);
  await boot.finished();
  const [etc, before] = [await machine.etc(), await lists(boot)];
  const agent = ["--agent-user", AGENT.name];
  const warned = async () =>
    JSON.parse((await boot.fishnet("status", ...agent, "--json")).stdout).warnings
      .filter(({ reason }: { reason: string }) => reason.startsWith("may have ")).length;

  const plain = await boot.fishnet("enable", ...agent, "--apply");
  assertEquals(plain.code, 0, plain.stderr);
  assertEquals([await warned(), await machine.etc() === etc], [4, true], plain.stderr);
  assertEquals(await printing(boot), [true, true]);

  const limited = await boot.fishnet("enable", ...agent, "--only-port", "3777", "--apply");
  assertEquals(limited.code, 0, limited.stderr);
  assertEquals(await warned(), 0);
  const shut = await escaped(world, boot);
  assertEquals([shut["agent"], shut["control"]], [[], shut["all"]]);
  assertEquals(await printing(boot), [false, true]);

  // Somebody opens one of the doors: status tells, and enable shuts it.
  await boot.must("setfacl", "--remove-all", "/run/systemd/resolve");
  const status = await boot.fishnet("status", ...agent);
  assertEquals(status.code, 3, status.stdout);
  assert(status.stdout.includes("access list on /run/systemd/resolve"), status.stdout);
  const again = await boot.fishnet("enable", ...agent, "--only-port", "3777", "--apply");
  assertEquals(again.code, 0, again.stderr);
  assertEquals((await boot.fishnet("status", ...agent)).code, 0);

  const disabled = await boot.fishnet("disable", ...agent, "--apply");
  assertEquals(disabled.code, 0, disabled.stderr);
  assertEquals([await machine.etc(), await lists(boot)], [etc, before]);
  const open = await escaped(world, boot);
  assertEquals([open["agent"], open["control"]], [open["all"], open["all"]]);
});

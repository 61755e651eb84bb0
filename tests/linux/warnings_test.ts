/** Warnings, on accounts and services that are really like that. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as fc from "fast-check";
import {
  connectionWarnings,
  groupWarnings,
  relayWarnings,
  sudoWarnings,
} from "../../src/linux/warnings.ts";
import type { Warning } from "../../src/warnings.ts";
import { linesOf, must, run } from "../support/process.ts";
import { OUTSIDE_V4, program, PYTHON, type World, worldTest } from "../support/world.ts";

const PROBE = new URL("../support/probe.py", import.meta.url).pathname;
const SERVER = new URL("../support/server.py", import.meta.url).pathname;

async function serve(world: World, ns: string, port: number): Promise<void> {
  const child = world.start(["ip", "netns", "exec", ns, PYTHON, SERVER, `${port}`]);
  const lines = linesOf(child.stdout);
  assertEquals((await lines.read()).value, "listening");
  lines.releaseLock();
}

async function enabled(world: World, name: string, ...more: string[]): Promise<string> {
  const { code, stderr } = await world.fishnet(
    ...["firewall", "enable", "--agent-user", name, "--apply", ...more],
  );
  assertEquals(code, 0, stderr);
  return stderr;
}

async function warnings(world: World, name: string): Promise<Warning[]> {
  const { stdout } = await world.fishnet("firewall", "status", "--agent-user", name, "--json");
  const document = JSON.parse(stdout);
  for (const { reason, remedy } of document.warnings) {
    assert(reason.length > 0 && remedy.length > 0);
  }
  return document.warnings;
}

const reasons = (all: readonly Warning[]) => all.map(({ reason }) => reason);

worldTest(
  "enable without --persist says in one line that the lock is gone after a reboot",
  async (world) => {
    const agent = await world.account();
    const stderr = await enabled(world, agent);
    assertEquals(stderr.split("\n").filter((line) => /warning.*reboot/.test(line)).length, 1);
    assertStringIncludes(
      stderr,
      `[fishnet] warning: ${agent}: the lock is gone after a reboot; ` +
        "run enable again with --persist\n",
    );
  },
);

worldTest(
  "an account with groups that lead past the lock is warned of, others are not",
  async (world) => {
    const agent = await world.account({ args: ["--groups", "disk,dialout,users"] });
    const plain = await world.account();
    for (const name of [agent, plain]) await enabled(world, name);
    const groups = async (name: string) =>
      reasons(await warnings(world, name)).filter((reason) => reason.includes("in the group"));
    assertEquals((await groups(agent)).map((reason) => reason.split(/[ ,]+/)[4]).sort(), [
      "dialout",
      "disk",
    ]);
    assertEquals(await groups(plain), []);
  },
);

worldTest("an account that may use sudo is warned of, and the exit code stays", async (world) => {
  const agent = await world.account();
  const file = `/etc/sudoers.d/${agent}`;
  await Deno.writeTextFile(file, `${agent} ALL=(root) NOPASSWD: /bin/true\n`, { mode: 0o440 });
  try {
    assertStringIncludes(await enabled(world, agent), `warning: ${agent}: may use sudo`);
    const { code } = await world.fishnet("firewall", "status", "--agent-user", agent);
    assertEquals(code, 0);
  } finally {
    await Deno.remove(file);
  }
  assert(!reasons(await warnings(world, agent)).some((reason) => reason.includes("may use sudo")));
});

worldTest("relays on loopback are warned of, unless --only-port shuts them", async (world) => {
  const agent = await world.account();
  await serve(world, world.inside, 1080);
  await enabled(world, agent);
  const relays = async () =>
    reasons(await warnings(world, agent)).filter((reason) => reason.includes("may relay"));
  assertEquals((await relays()).length, 2, "TCP and UDP");
  const disabled = await world.fishnet(
    ...["firewall", "disable", "--agent-user", agent, "--apply"],
  );
  assertEquals(disabled.code, 0, disabled.stderr);
  await enabled(world, agent, "--only-port", "3777");
  assertEquals(await relays(), []);
});

worldTest("a connection from before the lock is warned of while it is there", async (world) => {
  const agent = await world.account();
  await serve(world, world.outside, 4000);
  const child = world.start(
    world.command(
      ...["setpriv", "--reuid", agent, "--regid", agent, "--clear-groups"],
      ...[PYTHON, PROBE, "hold", OUTSIDE_V4, "4000"],
    ),
    { stdin: "piped" },
  );
  const lines = linesOf(child.stdout);
  assertEquals((await lines.read()).value, "connected");
  assertStringIncludes(
    await enabled(world, agent),
    `${agent}: still holds 1 connection(s) to outside, to ${OUTSIDE_V4}; restart its processes`,
  );
  lines.releaseLock();
  await child.stdin.close();
});

worldTest(
  "docker's socket is warned of where the account, or a group of its, may write to it",
  async (world) => {
    const agent = await world.account();
    const grouped = await world.account();
    const other = await world.account();
    await must("usermod", "-a", "-G", agent, grouped);
    const socket = "/run/docker.sock";
    if ((await run(["test", "-e", socket])).code === 0) return; // a real one is not ours to touch
    await Deno.writeTextFile(socket, "");
    try {
      for (const name of [agent, grouped, other]) await enabled(world, name);
      const named = async () =>
        await Promise.all(
          [agent, grouped, other].map(async (name) =>
            reasons(await warnings(world, name)).filter((reason) => reason.includes(socket)).length
          ),
        );
      assertEquals(await named(), [0, 0, 0]);
      await must("chown", `${agent}:${agent}`, socket);
      await must("chmod", "600", socket);
      assertEquals(await named(), [1, 0, 0]);
      await must("chown", "root", socket);
      await must("chmod", "660", socket);
      assertEquals(await named(), [1, 1, 0]);
    } finally {
      await Deno.remove(socket);
    }
  },
);

worldTest("without perl, a warning says what could not be asked", async (world) => {
  const agent = await world.account();
  await enabled(world, agent);
  const { code, stdout } = await world.exec(
    ...["unshare", "-m", "sh", "-ec", 'mount --bind /dev/null /usr/bin/perl; exec "$@"', "sh"],
    ...[...program(), "firewall", "status", "--agent-user", agent, "--json"],
  );
  assertEquals(code, 0);
  assert(
    reasons(JSON.parse(stdout).warnings).some((reason) => /could not be asked .*perl/.test(reason)),
    stdout,
  );
});

Deno.test("no text that ss, id or sudo could print breaks the warnings", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    sudoWarnings("a", text);
    groupWarnings("a", text.split(" "));
    connectionWarnings("a", 1000, text, text);
    relayWarnings([{ name: "a", onlyPorts: [] }], text);
  }));
});

Deno.test("a group with the name of an object's property is no warning", () => {
  assertEquals(groupWarnings("a", ["constructor", "toString", "__proto__"]), []);
});

worldTest("uids from elsewhere than /etc/subuid are warned of", async (world) => {
  const agent = await world.account();
  await enabled(world, agent);
  const about = async () =>
    reasons(await warnings(world, agent)).filter((reason) => / uids /.test(reason));
  assertEquals(await about(), []);
  // What systemd-nsresourced(8) listens on. The account's own socket of that name, or one with a line
  // of /proc/net/unix in its name, is none.
  const listen = `import signal, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1].replace("@", "\\0"))
s.listen()
print("listening", flush=True)
signal.pause()`;
  const listening = async (words: readonly string[]): Promise<Deno.ChildProcess> => {
    const service = world.start(words);
    const lines = linesOf(service.stdout);
    assertEquals((await lines.read()).value, "listening");
    lines.releaseLock();
    return service;
  };
  const path = "/run/systemd/io.systemd.NamespaceResource";
  const python = (name: string) => [PYTHON, "-c", listen, name];
  await listening(world.commandAs(agent, ...python(`@x\n0: 2 0 10000 1 1 7 ${path}`)));
  const asRoot = ["unshare", "-Urm", "sh", "-ec"];
  const ownRun = 'mount -t tmpfs tmpfs /run; mkdir /run/systemd; exec "$@"';
  await listening(world.commandAs(agent, ...asRoot, ownRun, "sh", ...python(path)));
  assertEquals(await about(), []);
  if ((await run(["test", "-e", path])).code === 0) return; // a real one is not ours to touch
  const hadFolder = (await run(["test", "-d", "/run/systemd"])).code === 0;
  if (!hadFolder) await Deno.mkdir("/run/systemd");
  const service = await listening(world.command(...python(path)));
  const lent = "systemd-nsresourced lends any account uids that are not locked";
  assertEquals(await about(), [lent]);
  const nsswitch = await Deno.readTextFile("/etc/nsswitch.conf");
  const inside = `/etc/netns/${world.inside}/nsswitch.conf`;
  await Deno.writeTextFile(inside, `${nsswitch}subid: sss\n`);
  assertEquals(await about(), [
    lent,
    "subordinate uids come from sss, and only those in /etc/subuid are locked",
  ]);
  await Deno.writeTextFile(inside, `${nsswitch}subid: files\n`);
  service.kill("SIGTERM");
  await service.status;
  await Deno.remove(path);
  if (!hadFolder) await Deno.remove("/run/systemd");
  assertEquals(await about(), []);
});

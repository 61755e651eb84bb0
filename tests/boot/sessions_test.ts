/** The layer by cgroup, on a machine with a systemd that may, or may not, load BPF programs. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { must } from "../support/process.ts";
import { World } from "../support/world.ts";
import { AGENT, type Boot, bootTest, CONTROL, Machine } from "./machine.ts";

/** What systemd needs to load BPF programs in a container. */
const WITH_BPF = ["--system-call-filter=bpf", "--capability=all"];

const ENABLE = ["enable", "--agent-user", AGENT.name, "--persist", "--sessions", "--apply"];
const SLICE = `user-${AGENT.uid}.slice`;

type Account = typeof AGENT;

/** Runs a command in a login session of the account, which PAM makes for login as for ssh. */
const inSession = ({ name }: Account, ...command: readonly string[]) => [
  ...["systemd-run", "--quiet", "--wait", "--collect", "-p", "PAMName=login"],
  ...["--uid", name, ...command],
];

const SEND = (port: number) =>
  `import os, socket; os.setuid(0); ` +
  `socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("10.77.0.2", ${port}))`;
const HELPER = "/opt/setuid-python";

/** How a packet leaves with the uid of root, one port each: a session is what all have in common. */
const WAYS: readonly ((account: Account, port: number) => string[])[] = [
  (account, port) => inSession(account, HELPER, "-c", SEND(port)),
  (account, port) => inSession(account, "sudo", "-n", "/usr/bin/python3", "-c", SEND(port)),
  // Somebody else becomes the account: su asks PAM for a session as well.
  ({ name }, port) => [
    ...["systemd-run", "--quiet", "--wait", "--collect", "su", "-", name, "-c"],
    `${HELPER} -c '${SEND(port)}'`,
  ],
  ({ name }, port) => [
    ...["ssh", "-q", "-i", KEY, "-o", "StrictHostKeyChecking=no", `${name}@127.0.0.1`],
    `${HELPER} -c '${SEND(port)}'`,
  ],
];

const KEY = "/root/key";

/** Lets root in by ssh, as whoever it asks for. */
const ALLOW_SSH = `
ssh-keygen -q -t ed25519 -N "" -f ${KEY}
cp ${KEY}.pub /etc/ssh/everybodys_keys
echo "AuthorizedKeysFile /etc/ssh/everybodys_keys" >/etc/ssh/sshd_config.d/test.conf`;

/** Receives, and leaves a note that it did. */
const RECEIVE = ({ uid }: Account) => `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", ${uid}))
open("/tmp/bound-${uid}", "w").close()
while True:
    s.recv(9)
    open("/tmp/got-${uid}", "w").close()
`;

/** Data from outside reaches these accounts, and no other, in a login session. */
async function assertReached(world: World, boot: Boot, ...these: readonly Account[]) {
  await boot.must("sh", "-c", "rm -f /tmp/bound-* /tmp/got-*");
  const units = [AGENT, CONTROL].map(({ name }) => `receives-${name}`);
  for (const [i, account] of [AGENT, CONTROL].entries()) {
    await boot.must(
      ...["systemd-run", "--quiet", "--collect", "-p", "PAMName=login", `--unit=${units[i]}`],
      ...["--uid", account.name, "/usr/bin/python3", "-c", RECEIVE(account)],
    );
    await boot.until("test", "-e", `/tmp/bound-${account.uid}`);
  }
  // The control gets it last: by then the other one has got it, or never will.
  for (const { uid } of [AGENT, CONTROL]) {
    await must(
      ...["ip", "netns", "exec", world.outside, "/usr/bin/python3", "-c"],
      `import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); ` +
        `[s.sendto(b"x", ("10.77.0.1", ${uid})) for _ in range(3)]`,
    );
  }
  for (const { uid } of these) await boot.until("test", "-e", `/tmp/got-${uid}`);
  for (const account of [AGENT, CONTROL]) {
    const { code } = await boot.exec("test", "-e", `/tmp/got-${account.uid}`);
    assertEquals(code === 0, these.includes(account), account.name);
  }
  await boot.must("systemctl", "stop", ...units);
}

/** The accounts of which a packet came out, and which way. */
async function escaped(world: World, boot: Boot): Promise<string[]> {
  const accounts = [AGENT, CONTROL];
  const frames = await world.captured("udp", async () => {
    for (const account of accounts) {
      for (const [i, way] of WAYS.entries()) await boot.exec(...way(account, account.uid + i));
    }
  });
  return accounts.flatMap(({ name, uid }) =>
    WAYS.flatMap((_, i) => frames.some((frame) => frame.includes(`.${uid + i}: `)) ? [name] : [])
  );
}

/** What comes out of the sessions of these accounts, where nothing stops it. */
const allOf = (...accounts: readonly Account[]) =>
  accounts.flatMap(({ name }) => WAYS.map(() => name));

bootTest(
  "--sessions shuts setuid helpers, sudo, su, ssh and inbound data, also after a reboot",
  async (t) => {
    await using machine = await Machine.create();
    let etc = "";

    await t.step("from now on", async () => {
      await using world = await World.create();
      await using boot = await machine.boot(world, WITH_BPF);
      await boot.finished();
      await boot.must("install", "-m", "4755", "/usr/bin/python3", HELPER);
      const sudoers = [AGENT, CONTROL].map(({ name }) => `${name} ALL=(ALL) NOPASSWD: ALL`);
      await boot.must("sh", "-c", `printf '%s\\n' '${sudoers.join("' '")}' >/etc/sudoers.d/test`);
      // An administrator's own setting for the same slice, which has to survive.
      const own = `/etc/systemd/system/${SLICE}.d`;
      await boot.must("mkdir", own);
      await boot.must("sh", "-c", `printf '[Slice]\\nTasksMax=99\\n' >${own}/own.conf`);
      await boot.must("sh", "-ec", ALLOW_SSH);
      await boot.must("systemctl", "start", "ssh");
      etc = await machine.etc();
      assertEquals(await escaped(world, boot), allOf(AGENT, CONTROL));
      await assertReached(world, boot, AGENT, CONTROL);
      const enabled = await boot.fishnet(...ENABLE);
      assertEquals(enabled.code, 0, enabled.stderr);
      assertEquals(await escaped(world, boot), allOf(CONTROL));
      await assertReached(world, boot, CONTROL);
      assertEquals(JSON.parse((await boot.fishnet(...ENABLE, "--json")).stdout).changed, false);
    });

    await t.step("after a reboot, until disable", async () => {
      await using world = await World.create();
      await using boot = await machine.boot(world, WITH_BPF);
      await boot.finished();
      await boot.must("systemctl", "start", "ssh");
      assertEquals(await escaped(world, boot), allOf(CONTROL));
      await boot.must("systemctl", "restart", "systemd-logind");
      assertEquals(await escaped(world, boot), allOf(CONTROL));
      await assertReached(world, boot, CONTROL);
      const disabled = await boot.fishnet("disable", "--agent-user", AGENT.name, "--apply");
      assertEquals(disabled.code, 0, disabled.stderr);
      assertEquals(await machine.etc(), etc);
      assertEquals(await escaped(world, boot), allOf(AGENT, CONTROL));
      const limit = await boot.must("systemctl", "show", "--value", "-p", "TasksMax", SLICE);
      assertEquals(limit, "99\n", "the administrator's own setting");
    });
  },
);

bootTest("--sessions refuses what somebody else has set, and leaves it", async () => {
  await using machine = await Machine.create();
  await using world = await World.create();
  await using boot = await machine.boot(world, WITH_BPF);
  await boot.finished();
  await boot.must("systemctl", "set-property", SLICE, "IPAddressDeny=192.0.2.0/24");
  const [etc, state] = [await machine.etc(), await world.state()];
  const enabled = await boot.fishnet(...ENABLE);
  assertEquals(enabled.code, 1);
  assertStringIncludes(enabled.stderr, `somebody else has set the addresses of ${SLICE}`);
  const disabled = await boot.fishnet("disable", "--agent-user", AGENT.name, "--apply");
  assertEquals(disabled.code, 0, disabled.stderr);
  assertEquals([await machine.etc(), await world.state()], [etc, state]);
});

bootTest("where --sessions has no effect, enable fails and undoes everything", async () => {
  await using machine = await Machine.create();
  await using world = await World.create();
  await using boot = await machine.boot(world);
  await boot.finished();
  const [etc, state] = [await machine.etc(), await world.state()];
  const enabled = await boot.fishnet(...ENABLE);
  assertEquals(enabled.code, 1);
  assertStringIncludes(enabled.stderr, "--sessions has no effect on this system: leave it out");
  assert(enabled.stderr.trimEnd().endsWith("nothing was changed"), enabled.stderr);
  assertEquals([await machine.etc(), await world.state()], [etc, state]);
});

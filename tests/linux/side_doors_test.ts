/** What a locked account could do through somebody else, on accounts and machines that are like that. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as fc from "fast-check";
import type { Warning } from "../../src/lock/report.ts";
import { doorWarnings, sideDoors } from "../../src/linux/side_doors.ts";
import {
  deviceWarnings,
  familyWarnings,
  lentUidsWarnings,
} from "../../src/linux/side_doors/kernel.ts";
import { fileWarnings } from "../../src/linux/side_doors/files.ts";
import { filesIn } from "../../src/statements.ts";
import type { Locked } from "../../src/linux/side_doors/locked.ts";
import {
  CALLED_FILES,
  calledWarnings,
  DROPBEAR,
  dropbearWarnings,
  FAIL2BAN,
  fail2banWarnings,
  groupWarnings,
  requestKeyWarnings,
  sudoWarnings,
} from "../../src/linux/side_doors/rights.ts";
import { connectionWarnings, relayWarnings } from "../../src/linux/side_doors/sockets.ts";
import { type Ask, type Root, UnreadableError } from "../../src/root.ts";
import { machineWith } from "../support/fake_machine.ts";
import { change, probe, serve } from "../support/lock.ts";
import { linesOf, must, run } from "../support/process.ts";
import { rootBy } from "../support/root.ts";
import { INSIDE_V4, OUTSIDE_V4, PYTHON, type World, worldTest } from "../support/world.ts";

/** Makes a Unix socket that anybody may write to. */
const SOCKET = `socket() {
  mkdir -p "\${1%/*}"
  ${PYTHON} -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$1"
  chmod 666 "$1"
}
`;

/** Root on a machine that a script has changed: in mounts of its own (ip-netns(8)). */
const rootOn = (world: World, machine: string): Root =>
  rootBy(...world.command("sh", "-ec", `${SOCKET}${machine}\nexec "$@"`, "sh"));

async function lockedAs(name: string, more: Partial<Locked> = {}): Promise<Locked> {
  const uid = Number(await must("id", "-u", name));
  return { name, uid, ranges: [], onlyPorts: [], mptcpHeld: true, sudoHeld: true, ...more };
}

/** The warnings that contain a word. */
async function warnings(
  world: World,
  accounts: readonly Locked[],
  about: string,
  machine = "",
): Promise<Warning[]> {
  const all = await doorWarnings(rootOn(world, machine), accounts);
  for (const { reason, remedy } of all) assert(reason.length > 0 && remedy.length > 0);
  return all.filter(({ reason }) => reason.includes(about));
}

const inPrivate = (folder: string) => `mount -t tmpfs tmpfs ${folder}\n`;

worldTest("enable and status print what an account may do through somebody else", async (world) => {
  const agent = await world.account({ args: ["--groups", "staff"] });
  const file = `/etc/netns/${world.inside}/sudoers.d/${agent}`;
  await Deno.writeTextFile(file, `${agent} ALL=(root) NOPASSWD: /bin/true\n`, { mode: 0o440 });
  try {
    const { stderr } = await change(world, "enable", agent, "iptables");
    assertStringIncludes(
      stderr,
      `[fishnet] warning: ${agent}: the lock is gone after a reboot; run enable again with --persist, or after each start\n`,
    );
    assertStringIncludes(stderr, `warning: ${agent}: may use sudo`);
    const { code, stdout } = await world.fishnet(
      ...["firewall", "status", "--agent-user", agent, "--json"],
    );
    assertEquals(code, 0, "a warning changes no exit code");
    const reasons = JSON.parse(stdout).warnings.map(({ reason }: Warning) => reason);
    assert(reasons.some((reason: string) => reason.startsWith("may use sudo")));
    assert(reasons.some((reason: string) => reason.startsWith("is in the group staff")));
  } finally {
    await Deno.remove(file);
  }
  assertEquals(await warnings(world, [await lockedAs(agent)], "may use sudo"), []);
});

const seen = (paths: readonly string[], text = "") =>
  new Map(paths.map((path) => [path, { type: "f", mode: "644", uid: 0, target: "", text }]));

const ACCOUNT = { name: "a", uid: 1000, ranges: [], mptcpHeld: true, sudoHeld: true };
const [open, limited] = [{ ...ACCOUNT, onlyPorts: [] }, { ...ACCOUNT, onlyPorts: [3777] }];

Deno.test("what the bus starts for whoever calls it is warned of without ports", () => {
  const found = calledWarnings([open, limited], seen(CALLED_FILES));
  assertEquals(found.map(({ account, reason }) => [account, reason.split(" ")[0]]), [
    ["a", "realmd"],
    ["a", "PackageKit"],
    ["a", "OpenVPN"],
  ]);
  assertEquals(calledWarnings([limited], seen(CALLED_FILES)), []);
  assertEquals(calledWarnings([open], seen([])), []);
});

Deno.test("Dropbear is warned of, unless --only-port shuts its port", () => {
  assertEquals(dropbearWarnings([open], seen([DROPBEAR])).length, 1);
  assertEquals(dropbearWarnings([limited], seen([DROPBEAR])), []);
  assertEquals(dropbearWarnings([open], seen([])), []);
});

Deno.test("fail2ban is warned of where it looks names up", () => {
  const [socket, local] = FAIL2BAN as [string, string];
  assertEquals(fail2banWarnings(seen([socket])).length, 1);
  assertEquals(fail2banWarnings(seen([])), []);
  const off = new Map([...seen([socket]), ...seen([local], "[DEFAULT]\nusedns = no\n")]);
  assertEquals(fail2banWarnings(off), []);
});

worldTest("an account with groups that lead past the lock is warned of", async (world) => {
  const agent = await world.account({ args: ["--groups", "disk,dialout,staff,users"] });
  const plain = await world.account();
  const found = await warnings(world, [await lockedAs(agent), await lockedAs(plain)], "the group ");
  assertEquals(
    found.map(({ account, reason }) => [account, reason.split(/[ ,]+/)[4]]).sort(),
    [[agent, "dialout"], [agent, "disk"], [agent, "staff"]],
  );
});

worldTest("a kernel that lets any account put a device here is warned of", async (world) => {
  const locked = [await lockedAs(await world.account())];
  assertEquals(await warnings(world, locked, "CVE-2026-31692"), [], "the kernel here is mended");
  // Such a kernel asks for no right in the other namespace: root has it where no user namespace is made.
  const without = `cp /usr/bin/unshare /usr/local/sbin/real
cat >/usr/local/sbin/unshare <<'END'
#!/bin/sh
[ "$1" != --map-root-user ] || shift
exec /usr/local/sbin/real "$@"
END
chmod 755 /usr/local/sbin/unshare
mount --bind /usr/local/sbin/unshare /usr/bin/unshare
`;
  const found = await warnings(
    ...[world, locked, "CVE-2026-31692", inPrivate("/usr/local/sbin") + without] as const,
  );
  assertEquals(found.length, 1);
  assertEquals(found[0]!.account, undefined, "it is nobody's alone");
  const [program, ...words] = world.command("ip", "-br", "link");
  const devices = await must(program!, ...words);
  assert(!/^(one|two)@/m.test(devices), devices);
});

worldTest("relays on loopback are warned of, unless --only-port shuts them", async (world) => {
  const agent = await world.account();
  const ports = [
    ...[25, 1080, 2375, 3142, 5001, 6379, 6600, 6800, 8080, 9090, 9091, 9115, 9222, 9515, 11434],
  ];
  for (const port of ports) await serve(world, { as: "root" }, port);
  const open = await warnings(world, [await lockedAs(agent)], "may relay");
  assertEquals(
    open.map(({ reason }) => reason.split(" ").slice(0, 3).join(" ")).sort(),
    ports.flatMap((port) => [`tcp port ${port}`, `udp port ${port}`]).sort(),
  );
  const limited = (...onlyPorts: number[]) => lockedAs(agent, { onlyPorts });
  assertEquals(await warnings(world, [await limited(3777)], "may relay"), []);
  const [own, ...others] = await warnings(world, [await limited(8080)], "may relay");
  assertEquals(others, []);
  assertEquals(own!.remedy, "unless it is your proxy, leave port 8080 out of its lock");
});

worldTest("a port of the proxy on which nobody else listens is warned of", async (world) => {
  const agent = await world.account();
  const other = await world.account();
  const told = async (...onlyPorts: number[]) => {
    const locked = [await lockedAs(agent, { onlyPorts })];
    const all = await doorWarnings(rootOn(world, ""), locked, true);
    return all.flatMap(({ reason }) => reason.includes(" listens on port ") ? [reason] : []);
  };
  assertEquals(await told(), ["nothing listens on port 3777 of this machine"]);
  await serve(world, { as: agent }, 3777);
  assertEquals(await told(), ["only itself listens on port 3777 of this machine"]);
  await serve(world, { as: other }, 3778);
  assertEquals(await told(3777, 3778), []);
});

worldTest("connections from before the lock are told, subordinate uids' as well", async (world) => {
  const agent = await world.account();
  const range = { first: world.firstUid, last: world.firstUid + 99 };
  const locked = await lockedAs(agent, { ranges: [range] });
  await serve(world, "outside", 4000);
  assertEquals(await warnings(world, [locked], "connection"), []);
  const hold = async (uid: string) => {
    const words = world.commandAs(uid, ...probe("hold", OUTSIDE_V4, 4000));
    const lines = linesOf(world.start(words, { stdin: "piped" }).stdout);
    assertEquals((await lines.read()).value, "connected");
    lines.releaseLock();
  };
  await hold(agent);
  await hold(`${range.first + 7}`);
  await hold(`${range.last + 1}`);
  assertEquals(await warnings(world, [locked], "connection"), [{
    account: agent,
    reason: `still holds 2 connection(s) to outside, to ${OUTSIDE_V4}`,
    remedy: "restart its processes",
  }]);
});

worldTest("root's sockets are warned of where the account may write to them", async (world) => {
  const [agent, other, member] = [
    await world.account(),
    await world.account(),
    await world.account({ args: ["--groups", "audio"] }),
  ];
  const accounts = await Promise.all([agent, other, member].map((name) => lockedAs(name)));
  const machine = `${inPrivate("/run")}socket /run/docker.sock
socket /run/libvirt/libvirt-sock
chmod 660 /run/docker.sock /run/libvirt/libvirt-sock
setfacl -m u:${agent}:rw /run/docker.sock
chgrp audio /run/libvirt/libvirt-sock`;
  assertEquals(
    (await warnings(world, accounts, "have root do", machine)).map(({ account, reason }) => [
      account,
      reason,
    ]),
    [
      [agent, "may write to /run/docker.sock, and so have root do anything for it"],
      [member, "may write to /run/libvirt/libvirt-sock, and so have root do anything for it"],
    ],
  );
});

/** Sockets that no folder of their own, or none that lasts, keeps an account from. */
const OWN_WAY = [
  "/run/libvirt/libvirt-sock-ro",
  "/run/minissdpd.sock",
  "/run/mpd/socket",
  "/run/mullvad-vpn",
  "/run/netbird.sock",
  "/run/snapd.socket",
  "/run/tailscale/tailscaled.sock",
];

worldTest("who looks names up, or prints, is warned of, each with what shuts it", async (world) => {
  const agent = await world.account();
  const range = { first: world.firstUid, last: world.firstUid + 99 };
  const machine = `${inPrivate("/run")}socket /run/systemd/resolve/io.systemd.Resolve
socket /run/nscd/socket
socket /run/avahi-daemon/socket
socket /run/cups/cups.sock
${OWN_WAY.map((path) => `socket ${path}`).join("\n")}
`;
  const about = async (locked: Partial<Locked>, more = "") =>
    (await warnings(world, [await lockedAs(agent, locked)], "may have", machine + more))
      .map(({ reason, remedy }) => `${/\((.*)\)/.exec(reason)![1]}: ${remedy.split(",")[0]}`);
  const again = "enable again with --only-port and the proxy's port";
  const sockets = [
    "/run/avahi-daemon/socket",
    "/run/cups/cups.sock",
    "/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
  ];
  const others = OWN_WAY.map((path) => `${path}: setfacl -m u:${agent}:--- ${path}`);
  assertEquals(
    (await about({})).sort(),
    [...sockets.map((path) => `${path}: ${again}`), ...others].sort(),
  );
  const onlyPorts = [3777];
  const install = "install setfacl (the package acl)";
  assertEquals(
    (await about({ onlyPorts })).sort(),
    [...sockets.map((path) => `${path}: ${install}`), ...others].sort(),
  );
  const shut = `setfacl -m u:${agent}:--- /run/systemd/resolve /run/nscd /run/avahi-daemon /run/cups
rm ${OWN_WAY.join(" ")}`;
  assertEquals(await about({ onlyPorts }, shut), []);
  const take = `take the lines of ${agent} out of /etc/subuid and /etc/subgid`;
  assertEquals(
    (await about({ onlyPorts, ranges: [range] }, shut)).sort(),
    sockets.map((path) => `${path}: ${take}`),
  );
});

worldTest("helpers with rights of their own are warned of where they may be run", async (world) => {
  const agent = await world.account();
  const folder = "/usr/local/bin";
  const machine = `${inPrivate(folder)}cd ${folder}
for name in firejail postdrop arping dumpcap ping mtr-packet newuidmap editor; do
  cp /bin/true $name
done
chmod 4755 firejail
chmod 2755 postdrop
setcap cap_net_raw=ep arping
setcap cap_net_raw,cap_net_admin=eip dumpcap
chmod 750 dumpcap
setcap cap_net_raw=ep ping
setcap cap_net_raw=ep mtr-packet
setcap cap_setuid=ep newuidmap
setcap cap_sys_admin,cap_net_bind_service=p editor`;
  assertEquals(
    (await warnings(world, [await lockedAs(agent)], folder, machine)).map(({ reason }) => reason)
      .sort(),
    [
      `${folder}/arping has cap_net_raw: what it sends no rule for a uid holds`,
      `${folder}/editor has cap_sys_admin: what it sends no rule for a uid holds`,
      `${folder}/firejail is setuid root and gives a network of its own, whoever runs it`,
      `${folder}/postdrop is setgid and sends mail for whoever asks, whoever runs it`,
    ],
  );
});

worldTest("what cannot be read is said, with what would do", async (world) => {
  const agent = await lockedAs(await world.account());
  const hidden = "mount --bind /dev/null /usr/sbin/getcap";
  const found = await warnings(world, [agent], "cannot be told", hidden);
  assertEquals(found.map(({ remedy }) => remedy.split(" ", 2).join(" ")), ["install getcap"]);
  assertEquals(
    (await warnings(world, [agent], "without ss", "mount --bind /dev/null /usr/bin/ss")).length,
    1,
  );
  assertEquals((await warnings(world, [agent], "cannot be told")).length, 0);
});

worldTest("request-key is warned of, until it refuses every name", async (world) => {
  const agent = await lockedAs(await world.account());
  const layer = (folder: string) =>
    `mkdir -p /mnt/${folder}/up /mnt/${folder}/work
mount -t overlay -o lowerdir=${folder},upperdir=/mnt/${folder}/up,workdir=/mnt/${folder}/work \
  overlay ${folder}
`;
  const machine = `${inPrivate("/mnt")}${layer("/usr/sbin")}${layer("/etc")}
cp /bin/true /usr/sbin/request-key
mkdir -p /etc/request-key.d
printf 'create dns_resolver * * /sbin/key.dns_resolver %%k\\nnegate * * * /bin/keyctl negate %%k 30 %%S\\n' \
  >/etc/request-key.conf
`;
  const [found] = await warnings(world, [agent], "keyctl", machine);
  assertEquals(await warnings(world, [agent], "keyctl", machine + found!.remedy), []);
  assertEquals(await warnings(world, [agent], "keyctl"), []);
});

Deno.test("request-key: of several lines the one that counts is judged", () => {
  const asks = "create dns_resolver * * /sbin/key.dns_resolver %k";
  const refuses = "create dns_resolver * * /bin/keyctl negate %k 30 %S";
  const narrow = "create\tdns_resolver afsdb:*\t* /sbin/key.dns_resolver %k";
  const open = (...lines: string[]) => requestKeyWarnings(lines.join("\n")).length > 0;
  assertEquals(
    [
      open(asks),
      open(refuses, asks),
      open(asks, refuses),
      open(refuses, narrow),
      open(`# ${asks}`),
    ],
    [true, false, true, true, false],
  );
});

/** Takes a queue of packets for itself (nfnetlink_queue), and says so. */
const QUEUE = `import signal, socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
bind = struct.pack("=HHBBH", 8, 1, 1, 0, socket.htons(2))
body = struct.pack("=BBH", 0, 0, socket.htons(7)) + bind
s.send(struct.pack("=IHHII", 16 + len(body), 3 << 8 | 2, 1 | 4, 1, 0) + body)
assert struct.unpack_from("=i", s.recv(4096), 16)[0] == 0
print("bound", flush=True)
signal.pause()`;

worldTest("a program that decides on packets in a queue is warned of", async (world) => {
  const account = await lockedAs(await world.account());
  assertEquals(await warnings(world, [account], "in a queue"), []);
  const lines = linesOf(world.start(world.command(PYTHON, "-c", QUEUE)).stdout);
  assertEquals((await lines.read()).value, "bound");
  lines.releaseLock();
  assertEquals((await warnings(world, [account], "in a queue")).length, 1);
  const byNft = { ...account, backend: "nftables" } as const;
  assertEquals(await warnings(world, [byNft], "in a queue"), []);
});

worldTest("MPTCP endpoints are warned of where the rule against them is missing", async (world) => {
  if (!(await world.exec("ip", "mptcp", "endpoint", "show")).stdout && !await hasMptcp()) return;
  const agent = await world.account();
  const about = async (mptcpHeld: boolean) =>
    (await warnings(world, [await lockedAs(agent, { mptcpHeld })], "MPTCP")).length;
  assertEquals(await about(false), 0, "there is no endpoint");
  await world.must("ip", "mptcp", "endpoint", "add", INSIDE_V4, "dev", "out0", "subflow");
  assertEquals([await about(false), await about(true)], [1, 0]);
});

const hasMptcp = async () => (await run(["test", "-e", "/proc/sys/net/mptcp/enabled"])).code === 0;

Deno.test("families that are there, or would be loaded, are one warning with one remedy", () => {
  const protocols =
    "protocol  size sockets\nSCTPv6    1712      0\nSCTP      1552      0\nTCP 2304 2\n" +
    "l2tp_eth 16384 0 - Live 0x0000000000000000\n";
  const autoload = "insmod /lib/modules/6.1.0-40-amd64/kernel/net/sctp/sctp.ko \n" +
    "insmod /lib/modules/6.1.0-40-amd64/kernel/drivers/net/ppp/pppoe.ko.xz \n" +
    "install /bin/false \n";
  assertEquals(familyWarnings(protocols, autoload), [{
    reason: "any account may use sctp, pppoe, l2tp_eth: no rule for a uid holds all they send",
    remedy:
      "printf 'install %s /bin/false\\n' sctp pppoe l2tp_eth >/etc/modprobe.d/no-sockets.conf, and reboot",
  }]);
  assertEquals(familyWarnings("protocol size\nTCP 2304 2\n", "install /bin/false \n"), []);
});

worldTest("a tap device of the account's own is warned of", async (world) => {
  const agent = await world.account();
  await world.must("ip", "tuntap", "add", "dev", "tap7", "mode", "tap", "user", agent);
  await world.must("ip", "tuntap", "add", "dev", "tap8", "mode", "tap", "user", "root");
  await world.must("ip", "tuntap", "add", "dev", "tap9", "mode", "tap");
  const told = await warnings(world, [await lockedAs(agent)], "owns the device");
  assertEquals(told.map(({ account, reason }) => [account, reason.split(":")[0]]), [
    [agent, "owns the device tap7"],
  ]);
});

worldTest(
  "a tunnel's device that unpacks what the account sends here is warned of",
  async (world) => {
    const agent = await world.account();
    await world.must("ip", "link", "add", "vx7", "type", "vxlan", "id", "1", "dstport", "8472");
    const told = async (...onlyPorts: number[]) =>
      (await warnings(world, [await lockedAs(agent, { onlyPorts })], "unpacks"))
        .map(({ account, reason }) => [account, reason.split(" unpacks")[0]]);
    assertEquals(await told(), [[agent, "the vxlan device vx7"]]);
    assertEquals(await told(3777), []);
  },
);

worldTest("uids from elsewhere than /etc/subuid are warned of", async (world) => {
  const agent = await lockedAs(await world.account());
  const about = async (machine = "") =>
    (await warnings(world, [agent], " uids ", machine)).map(({ reason }) => reason);
  assertEquals(await about(), []);
  assertEquals(
    await about(`${inPrivate("/run")}socket /run/systemd/io.systemd.NamespaceResource`),
    [
      "systemd-nsresourced lends any account uids that are not locked, and a network device: what " +
      "it sends there comes as a neighbour's, and is forwarded or answered",
    ],
  );
  const nsswitch = (source: string) =>
    `cp /etc/nsswitch.conf /tmp/nsswitch.$$; echo 'subid: ${source}' >>/tmp/nsswitch.$$
mount --bind /tmp/nsswitch.$$ /etc/nsswitch.conf; rm /tmp/nsswitch.$$`;
  assertEquals(await about(nsswitch("sss")), [
    "subordinate uids come from sss, and only those in /etc/subuid are locked",
  ]);
  assertEquals(await about(nsswitch("files")), []);
});

Deno.test("with --only-port, a connection from before to another port here is told", () => {
  const account = { name: "a", uid: 1000, ranges: [], onlyPorts: [3777] };
  const line = (state: string, local: string, peer: string, uid = 1000) =>
    `tcp ${state} 0 0 ${local} ${peer} uid:${uid} ino:1 sk:1`;
  const sockets = [
    line("LISTEN", "127.0.0.1:4000", "0.0.0.0:*"),
    line("ESTAB", "127.0.0.1:4000", "127.0.0.1:50001"), // somebody's, to a server of its own
    line("ESTAB", "127.0.0.1:50002", "127.0.0.1:3777"),
    line("SYN-SENT", "127.0.0.1:50003", "127.0.0.1:5432"),
    line("ESTAB", "10.0.0.1:50004", "10.0.0.1:8080"),
    line("ESTAB", "10.0.0.1:8080", "10.0.0.1:50004", 33),
    line("ESTAB", "10.0.0.1:50006", "10.0.0.1:8081"), // led elsewhere: its other end is not here
    line("ESTAB", "127.0.0.1:50005", "127.0.0.1:8080", 1001),
  ].join("\n");
  const own = "2: eth0 inet 10.0.0.1/24";
  assertEquals(connectionWarnings([account], sockets, own).map(({ reason }) => reason), [
    "still holds 1 connection(s) to outside, to 10.0.0.1",
    "still holds 1 connection(s) to this machine's port 8080",
  ]);
  assertEquals(connectionWarnings([{ ...account, onlyPorts: [] }], sockets, own).length, 1);
  const udp = "udp UNCONN 0 0 127.0.0.1:4000 0.0.0.0:* uid:1000\n" +
    "udp ESTAB 0 0 127.0.0.1:4001 127.0.0.1:53 uid:1000\n";
  const held = (enabling: boolean, onlyPorts: number[]) =>
    connectionWarnings([{ ...account, onlyPorts }], udp, own, enabling)
      .map(({ reason }) => reason);
  assertMatch(held(true, [3777])[0]!, /^holds 2 UDP socket\(s\) from before the lock/);
  assertEquals([held(false, [3777]), held(true, [])], [[], []]);
  // The account names its cgroup, which ss prints as it is.
  const named = `${line("ESTAB", "10.0.0.1:50007", "203.0.113.9:443")} cgroup:/a/\r\u2028 <->`;
  assertEquals(connectionWarnings([account], named, own).map(({ reason }) => reason), [
    "still holds 1 connection(s) to outside, to 203.0.113.9",
  ]);
});

Deno.test("a device that lasts and is nobody's is anybody's who may open the tun device", () => {
  const account = {
    name: "a",
    uid: 1000,
    ranges: [],
    onlyPorts: [],
    mptcpHeld: true,
    sudoHeld: true,
  };
  const warned = (owner: string, group: string, flags: string, mode = "0666") => {
    const texts = { owner, group, tun_flags: flags };
    const seen = (text: string) => ({ type: "f", mode, uid: 0, target: "", text });
    const files = Object.entries(texts).map(([name, text]) =>
      [`/sys/class/net/tap9/${name}`, seen(`${text}\n`)] as const
    );
    return deviceWarnings([account], new Map([...files, ["/dev/net/tun", seen("")]]))
      .map(({ account, reason }) => `${account}: ${reason.split(":")[0]}`);
  };
  const anybodys = ["undefined: any account may open the device tap9"];
  assertEquals(warned("-1", "-1", "0x1802"), anybodys);
  assertEquals(warned("-1", "-1", "0x1002"), [], "another program has it open");
  assertEquals(warned("-1", "-1", "0x1802", "0600"), []);
  assertEquals(warned("-1", "5", "0x1802"), []);
  assertEquals(warned("1000", "-1", "0x1002"), ["a: owns the device tap9"]);
  assertEquals(warned("1001", "-1", "0x1802"), []);
});

worldTest("iptables: a lock holds MPTCP, and status says so", async (world) => {
  if (!(await world.exec("ip", "mptcp", "endpoint", "show")).stdout && !await hasMptcp()) return;
  const agent = await world.account();
  await change(world, "enable", agent, "iptables");
  await world.must("ip", "mptcp", "endpoint", "add", INSIDE_V4, "dev", "out0", "subflow");
  const warned = async () => {
    const { stdout } = await world.fishnet("firewall", "status", "--agent-user", agent, "--json");
    return stdout.includes("MPTCP over loopback");
  };
  assertEquals(await warned(), false);
  await world.must("iptables", "-w", "-t", "mangle", "-F", "fishnet");
  assertEquals(await warned(), true);
});

Deno.test("what others wrote is fit for a terminal", () => {
  const [warning] = lentUidsWarnings(false, "subid: s\u001b[8ms\n");
  assert(!warning!.reason.includes("\u001b"));
});

Deno.test("no text that a command could print breaks the warnings", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    const account = {
      name: "a",
      uid: 1000,
      ranges: [],
      onlyPorts: [],
      mptcpHeld: false,
      sudoHeld: true,
    };
    sudoWarnings("a", text);
    groupWarnings("a", text);
    requestKeyWarnings(text);
    familyWarnings(text, text);
    connectionWarnings([account], text, text);
    relayWarnings([account], text);
    filesIn(text);
    fileWarnings([account], text);
  }));
});

const ANSWERED = { exitCode: 0, stdout: "", stderr: "" };
const nothingThere = () => Promise.resolve(new Map());

Deno.test("what an account keeps from being read is warned of, and is no doubt about its lock", async () => {
  const machine = await machineWith({});
  const locked = {
    ...{ name: "agent", uid: 1001, state: "locked" as const, pieces: [] },
    ...{ survivesReboot: false, onlyPorts: [] },
  };
  const reasons = async (ask: Ask) =>
    (await sideDoors({ ask, look: nothingThere }, machine, [locked], true)).map(({ reason }) =>
      reason
    );
  const [nothing] = await reasons(() => Promise.reject(new UnreadableError("it took too long")));
  assertStringIncludes(nothing!, "could not be read: it took too long");
  const killed = await reasons((words) =>
    Promise.resolve(words.includes("ss") ? { ...ANSWERED, exitCode: 137 } : ANSWERED)
  );
  assert(killed.some((reason) => reason.includes("so many sockets")), killed.join());
  assert(!killed.some((reason) => reason.includes("without ss")), killed.join());
  const slow = await reasons((words) =>
    Promise.resolve(words.includes("perl") ? { ...ANSWERED, exitCode: 137 } : ANSWERED)
  );
  assert(
    slow.some((reason) => reason.endsWith("could not be read: sudo took too long")),
    `${slow}`,
  );
  const broken = await reasons((words) =>
    Promise.resolve(
      words.includes("perl")
        ? {
          exitCode: 1,
          stdout:
            "sudo agent     (ALL) ALL\nsudo agent User agent may run the following commands\n",
          stderr: "could not take the effective uid 5\n",
        }
        : ANSWERED,
    )
  );
  assert(
    broken.includes("may use sudo: what it runs as another account is not locked"),
    broken.join(),
  );
  assert(broken.some((reason) => reason.includes("could not be read (exit status 1)")));
  const root = { ask: () => Promise.resolve(ANSWERED), look: nothingThere };
  for (const gone of [{ ...locked, name: "gone" }, { ...locked, uid: 1002 }]) {
    assertEquals(await sideDoors(root, machine, [gone], false), [], "nobody has that uid");
  }
});

Deno.test("of many accounts, those that were asked about are those that are warned of", async () => {
  const locked = Array.from({ length: 25 }, (_, i) => ({
    ...{ name: `agent${25 - i}`, uid: 1001 + i, ranges: [] },
    ...{ onlyPorts: [], mptcpHeld: true, sudoHeld: true },
  }));
  const ask: Ask = (words) => {
    const asked = words.filter((word) => word.startsWith("account "));
    const lines = asked.map((word) =>
      `sudo ${word.slice("account ".length)} User may run the following commands\n`
    );
    return Promise.resolve({ ...ANSWERED, stdout: lines.join("") });
  };
  const warned = await doorWarnings({ ask, look: nothingThere }, locked);
  const maySudo = warned.filter(({ reason }) => reason.startsWith("may use sudo"));
  assertEquals(maySudo.map(({ account }) => account), locked.slice(0, 20).map(({ name }) => name));
  assert(warned.some(({ reason }) => reason.startsWith("only the first 20 accounts")));
});

Deno.test("a group with the name of an object's property is no warning", () => {
  assertEquals(groupWarnings("a", "uid=1(a) gid=1(a) groups=1(constructor),2(__proto__)"), []);
});

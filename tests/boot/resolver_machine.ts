/**
 * A machine to boot that has every service which looks names up for whoever asks: systemd-resolved,
 * nscd and avahi, with a bus to reach them by, and CUPS. Its DNS server is the world's outside.
 *
 * @module
 */
import { linesOf, must, type Result } from "../support/process.ts";
import { OUTSIDE_V4, PYTHON, type World } from "../support/world.ts";
import { AGENT, type Boot, bootTestOn, CONTROL, Machine, type Tree } from "./machine.ts";

/** The two programs that a system bus may be. */
export const BUSES = ["dbus-daemon", "dbus-broker"] as const;

const PACKAGES = [
  ...["systemd-sysv", "dbus", "dbus-broker", "libpam-systemd", "sudo", "procps", "passwd", "acl"],
  ...["iptables", "nftables", "iproute2", "python3-minimal", "systemd-resolved", "libnss-resolve"],
  ...["nscd", "avahi-daemon", "cups-daemon", "libcap2-bin", "realmd", "polkitd"],
];

const CUSTOMIZE = `set -e
for account in ${AGENT.name}:${AGENT.uid} ${CONTROL.name}:${CONTROL.uid}; do
  chroot "$1" useradd --create-home --shell /bin/sh --uid \${account#*:} \${account%:*}
done
echo machine >"$1/etc/hostname"
echo "127.0.0.1 localhost machine" >"$1/etc/hosts"
printf '[Resolve]\\nDNS=${OUTSIDE_V4}\\nLLMNR=no\\nCache=no\\n' >"$1/etc/systemd/resolved.conf"
sed -i 's/^hosts:.*/hosts: files resolve [!UNAVAIL=return] dns/' "$1/etc/nsswitch.conf"
chroot "$1" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer
`;

const TREE: Tree = {
  name: "resolver-tree",
  suite: "bookworm",
  packages: PACKAGES,
  customize: CUSTOMIZE,
};

/** Defines a test that boots such a machine, or counts it as skipped and says why. */
export const resolverTest = await bootTestOn(TREE);

/** Such a machine, with one of the buses. */
export async function machineWith(bus: (typeof BUSES)[number]): Promise<Machine> {
  const machine = await Machine.create("200M", TREE);
  // Where it is installed, dbus-broker stands for dbus.service by this link.
  const link = `${machine.root}/etc/systemd/system/dbus.service`;
  try {
    await must(...(bus === "dbus-daemon" ? ["rm"] : ["test", "-L"]), link);
    return machine;
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Answers every question for an address with 192.0.2.7, and any other with none. What realmd asks for
 * has no address: it would try that for seconds.
 */
const DNS_SERVER = `import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("${OUTSIDE_V4}", 53))
print("listening", flush=True)
while True:
    asked, peer = s.recvfrom(4096)
    end = 12
    while asked[end]: end += asked[end] + 1
    question = asked[12:end + 5]
    a = question[-4:-2] == b"\\0\\1" and b"realmd" not in question
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4" + bytes([192, 0, 2, 7]) if a else b""
    s.sendto(asked[:2] + b"\\x81\\x80\\0\\1\\0" + bytes([a]) + b"\\0\\0\\0\\0" + question + answer, peer)
`;

/** Starts a DNS server outside. */
export async function serveDns(world: World): Promise<void> {
  const child = world.start(["ip", "netns", "exec", world.outside, PYTHON, "-c", DNS_SERVER]);
  const lines = linesOf(child.stdout);
  const { value } = await lines.read();
  if (value !== "listening") throw new Error("no DNS server outside");
  lines.releaseLock();
}

/** Runs a command on the machine as an account, or as a bare uid, with no other rights. */
export function as(boot: Boot, uid: number, ...command: readonly string[]): Promise<Result> {
  return boot.exec(
    ...["setpriv", "--reuid", `${uid}`, "--regid", `${uid}`, "--clear-groups", ...command],
  );
}

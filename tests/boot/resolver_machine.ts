/**
 * A machine to boot that has every service which looks names up for whoever asks: systemd-resolved,
 * nscd and avahi, with a bus to reach them by. Its DNS server is the world's outside.
 *
 * @module
 */
import { linesOf, must, type Result, run } from "../support/process.ts";
import { OUTSIDE_V4, PYTHON, whyNoWorld, type World } from "../support/world.ts";
import { Boot } from "./machine.ts";

/** The account that is to look nothing up, the one beside it, and a subordinate uid of the first. */
export const AGENT = { name: "agent", uid: 5001 };
export const CONTROL = { name: "bystander", uid: 5101 };

/** The two programs that a system bus may be. */
export const BUSES = ["dbus-daemon", "dbus-broker"] as const;

const ROOT = new URL("../../", import.meta.url).pathname;

const SUITE = "bookworm";
const PACKAGES = [
  ...["systemd-sysv", "dbus", "dbus-broker", "libpam-systemd", "sudo", "procps", "passwd", "acl"],
  ...["iptables", "nftables", "iproute2", "python3-minimal", "systemd-resolved", "libnss-resolve"],
  ...["nscd", "avahi-daemon", "libcap2-bin"],
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

const CACHE = `/var/cache/fishnet-resolver-tree-${await digestOf([SUITE, ...PACKAGES, CUSTOMIZE])}`;

async function digestOf(words: readonly string[]): Promise<string> {
  const bytes = new TextEncoder().encode(words.join(" "));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 12);
}

/** Why no such machine can be booted here; undefined where one can. Builds it where it is not there. */
async function whyNoMachine(): Promise<string | undefined> {
  const why = whyNoWorld();
  if (why !== undefined) return why;
  for (const tool of ["systemd-nspawn", "mmdebstrap", "nsenter"]) {
    if ((await run(["sh", "-c", `command -v ${tool}`])).code !== 0) return `needs ${tool}`;
  }
  if ((await run(["test", "-d", CACHE])).code !== 0) {
    const parts = `${CACHE}.${Deno.pid}`;
    const built = await run([
      ...["mmdebstrap", "--quiet", "--variant=minbase", `--include=${PACKAGES.join(",")}`],
      ...[`--customize-hook=${CUSTOMIZE}`, SUITE, parts],
    ]);
    if (built.code !== 0) {
      await run(["rm", "-rf", parts]);
      return `no Debian tree: ${built.stderr.trim().split("\n").pop()}`;
    }
    await must("mv", "-T", parts, CACHE);
  }
  const tried = await run([
    ...["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--read-only"],
    ...["--private-network", "--directory", CACHE, "true"],
  ]);
  return tried.code === 0 ? undefined : `no container: ${tried.stderr.trim().split("\n").pop()}`;
}

const why = await whyNoMachine();

/** Defines a test that boots such a machine, or counts it as skipped and says why. */
export function resolverTest(name: string, body: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({
    name: why === undefined ? name : `${name} (skipped: ${why})`,
    ignore: why !== undefined,
    fn: body,
  });
}

/** The machine's disk: what is changed on it stays from one boot to the next. */
export class ResolverMachine implements AsyncDisposable {
  readonly #folder: string;
  readonly root: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.root = `${folder}/root`;
  }

  static async create(bus: (typeof BUSES)[number]): Promise<ResolverMachine> {
    const folder = await Deno.makeTempDir({ prefix: "fishnet-resolver-" });
    await must("mount", "-t", "tmpfs", "-o", "size=200M", "tmpfs", folder);
    const machine = new ResolverMachine(folder);
    try {
      await must("mkdir", `${folder}/upper`, `${folder}/work`, machine.root);
      const layers = `lowerdir=${CACHE},upperdir=${folder}/upper,workdir=${folder}/work`;
      await must("mount", "-t", "overlay", "-o", layers, "overlay", machine.root);
      // Where it is installed, dbus-broker stands for dbus.service by this link.
      const link = `${machine.root}/etc/systemd/system/dbus.service`;
      if (bus === "dbus-daemon") await must("rm", link);
      else await must("test", "-L", link);
      const bundle = `${machine.root}/opt/fishnet.js`;
      await must(Deno.execPath(), "bundle", "--quiet", "--output", bundle, `${ROOT}main.ts`);
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Every file and link under /etc, with its mode and content. */
  async etc(): Promise<string> {
    return await must(
      ...["chroot", this.root, "sh", "-c"],
      "cd /etc && find . -type d -printf '%p %m\\n' -o -type l -printf '%p %l\\n' " +
        "-o -printf '%p %m ' -exec md5sum {} \\; | sort",
    );
  }

  /** Switches it on, and waits until it has come up. */
  async boot(world: World): Promise<Boot> {
    const child = new Deno.Command("systemd-nspawn", {
      args: [
        ...["--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"],
        ...[`--network-namespace-path=/run/netns/${world.inside}`, "--directory", this.root],
        ...["--resolv-conf=off", "--capability=CAP_NET_ADMIN"],
        `--bind-ro=${Deno.execPath()}:/opt/deno`,
      ],
      env: { SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: "1" },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const boot = await Boot.of(child);
    await boot.finished();
    return boot;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run(["umount", this.root]);
    await run(["umount", this.#folder]);
    await run(["rmdir", this.#folder]);
  }
}

/** Answers every question for an address with 192.0.2.7, and any other with none. */
const DNS_SERVER = `import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("${OUTSIDE_V4}", 53))
print("listening", flush=True)
while True:
    asked, peer = s.recvfrom(4096)
    end = 12
    while asked[end]: end += asked[end] + 1
    question = asked[12:end + 5]
    a = question[-4:-2] == b"\\0\\1"
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

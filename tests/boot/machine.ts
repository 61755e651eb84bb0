/**
 * A machine to boot: a Debian tree in a container with a systemd of its own,
 * which takes the place of a computer's power switch. Its network is a world's
 * inside, so what it sends from power-on can be captured outside.
 *
 * @module
 */
import { must, type Result, run } from "../support/process.ts";
import { whyNoWorld, type World } from "../support/world.ts";

/** The account that gets locked, and the one beside it that does not. */
export const AGENT = { name: "agent", uid: 5001 };
export const CONTROL = { name: "bystander", uid: 5101 };

/** A Debian, and what is done to it. */
export interface Tree {
  readonly name: string;
  readonly suite: "bookworm" | "trixie";
  readonly packages: readonly string[];
  /** A script, of which $1 is where the tree is. */
  readonly customize: string;
}

const PACKAGES = [
  ...["systemd-sysv", "dbus", "libpam-systemd", "sudo", "cron", "procps", "uidmap", "passwd"],
  ...["iptables", "nftables", "iproute2", "firewalld", "python3", "openssh-server"],
];

const ROOT = new URL("../../", import.meta.url).pathname;
const KNOCK = new URL("knock.py", import.meta.url).pathname;

/** Why no machine can be booted here; undefined where one can. Builds its tree where it is not there. */
export async function whyNoMachine(tree: Tree): Promise<string | undefined> {
  const why = whyNoWorld();
  if (why !== undefined) return why;
  for (const tool of ["systemd-nspawn", "mmdebstrap", "nsenter"]) {
    if ((await run(["sh", "-c", `command -v ${tool}`])).code !== 0) return `needs ${tool}`;
  }
  const place = await placeOf(tree);
  if ((await run(["test", "-d", place])).code !== 0) {
    const built = await buildTree(tree, place);
    if (built.code !== 0) return `no Debian tree: ${lastLine(built.stderr)}`;
  }
  // A container of its own may not be allowed here, whoever asks.
  const tried = await run([
    ...["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--read-only"],
    ...["--private-network", "--directory", place, "true"],
  ]);
  return tried.code === 0 ? undefined : `no container: ${lastLine(tried.stderr)}`;
}

const lastLine = (text: string) => text.trim().split("\n").pop();

/**
 * What the tree has beside its packages: the accounts, and each way in which they start early. Its
 * own name is in /etc/hosts, because sudo would ask the network for it.
 */
const CUSTOMIZE = `set -e
for account in ${AGENT.name}:${AGENT.uid} ${CONTROL.name}:${CONTROL.uid}; do
  name=\${account%:*}
  chroot "$1" useradd --create-home --shell /bin/sh --uid \${account#*:} "$name"
  mkdir -p "$1/var/lib/systemd/linger"
  touch "$1/var/lib/systemd/linger/$name"
  echo "@reboot $name /usr/bin/python3 /opt/knock.py cron" >>"$1/etc/cron.d/knock"
  ln -s ../knock@.service "$1/etc/systemd/system/multi-user.target.wants/knock@$name.service"
done
cat >"$1/etc/systemd/system/knock@.service" <<END
[Service]
User=%i
ExecStart=/usr/bin/python3 /opt/knock.py service
END
cat >"$1/etc/systemd/user/knock.service" <<END
[Service]
ExecStart=/usr/bin/python3 /opt/knock.py linger
END
mkdir -p "$1/etc/systemd/user/default.target.wants"
ln -s ../knock.service "$1/etc/systemd/user/default.target.wants/knock.service"
echo machine >"$1/etc/hostname"
echo "127.0.0.1 localhost machine" >"$1/etc/hosts"
: >"$1/etc/resolv.conf"
chroot "$1" systemctl -q disable firewalld nftables ssh
test ! -e "$1/lib/systemd/system/netfilter-persistent.service" ||
  chroot "$1" systemctl -q disable netfilter-persistent
chroot "$1" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer
`;

/** A tree with one of two firewalls, since ufw and netfilter-persistent cannot be there together. */
export function treeWith(suite: Tree["suite"], firewall: "ufw" | "iptables-persistent"): Tree {
  const packages = [...PACKAGES, firewall];
  return { name: `boot-tree-${suite}`, suite, packages, customize: CUSTOMIZE };
}

/** What the tests boot. */
const TREE = treeWith("bookworm", "ufw");

async function buildTree({ suite, packages, customize }: Tree, place: string): Promise<Result> {
  const parts = `${place}.${Deno.pid}`;
  const built = await run([
    ...["mmdebstrap", "--quiet", "--variant=minbase", `--include=${packages.join(",")}`],
    ...[`--customize-hook=${customize}`, suite, parts],
  ]);
  if (built.code === 0) await must("mv", "-T", parts, place);
  else await run(["rm", "-rf", parts]);
  return built;
}

/** Where a tree stays, once built. Not below /tmp, where anybody may have put one for root to boot. */
async function placeOf({ name, suite, packages, customize }: Tree): Promise<string> {
  const bytes = new TextEncoder().encode([suite, ...packages, customize].join(" "));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  return `/var/cache/fishnet-${name}-${digest.slice(0, 12)}`;
}

/** What defines a test that boots a machine with this tree, or counts it as skipped and says why. */
export async function bootTestOn(tree: Tree) {
  const why = await whyNoMachine(tree);
  return (name: string, body: (t: Deno.TestContext) => Promise<void>): void =>
    Deno.test({
      name: why === undefined ? name : `${name} (skipped: ${why})`,
      ignore: why !== undefined,
      fn: body,
    });
}

export const bootTest = await bootTestOn(TREE);

/** A machine's disk: what is changed on it stays from one boot to the next. */
export class Machine implements AsyncDisposable {
  readonly #folder: string;
  /** Where this machine's root is, seen from the host. */
  readonly root: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.root = `${folder}/root`;
  }

  /** Makes a disk of the given size in memory, over a tree. */
  static async create(size = "200M", tree = TREE): Promise<Machine> {
    const folder = await Deno.makeTempDir({ prefix: "fishnet-boot-" });
    await must("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", folder);
    const machine = new Machine(folder);
    try {
      await must("mkdir", `${folder}/upper`, `${folder}/work`, machine.root);
      const layers = `lowerdir=${await placeOf(
        tree,
      )},upperdir=${folder}/upper,workdir=${folder}/work`;
      await must("mount", "-t", "overlay", "-o", layers, "overlay", machine.root);
      const bundle = `${machine.root}/opt/fishnet.js`;
      await must(Deno.execPath(), "bundle", "--quiet", "--output", bundle, `${ROOT}main.ts`);
      await must("cp", KNOCK, `${machine.root}/opt/knock.py`);
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

  /**
   * Switches the machine on, in a world that is new as well, as the kernel would be.
   *
   * @param options more arguments of systemd-nspawn
   */
  async boot(world: World, options: readonly string[] = []): Promise<Boot> {
    const child = new Deno.Command("systemd-nspawn", {
      args: [
        ...["--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"],
        ...[`--network-namespace-path=/run/netns/${world.inside}`, "--directory", this.root],
        ...["--resolv-conf=off", "--capability=CAP_NET_ADMIN"],
        ...[`--bind-ro=${Deno.execPath()}:/opt/deno`, ...options],
      ],
      // A system of today, also where the host's own control groups are of the older kind.
      env: { SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: "1" },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    return await Boot.of(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run(["umount", this.root]);
    await run(["umount", this.#folder]);
    await run(["rmdir", this.#folder]);
  }
}

/** Longest time that a boot or a shutdown may take, on a machine that is busy with much else. */
const LIMIT_MS = 180_000;
const SHUTDOWN_MS = 60_000;

/** Ends a machine when its standard input ends, which it does however this process does. */
const GUARD = `trap "" TERM INT HUP; read -r _; kill -KILL "$1"`;

/** A machine that is on. */
export class Boot implements AsyncDisposable {
  readonly #container: Deno.ChildProcess;
  readonly #leader: string;
  readonly #guard: Deno.ChildProcess;

  private constructor(container: Deno.ChildProcess, leader: string) {
    this.#container = container;
    this.#leader = leader;
    this.#guard = new Deno.Command("sh", {
      args: ["-c", GUARD, "sh", leader],
      stdin: "piped",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  /** Waits until a container's systemd is there, which is long before the boot is over. */
  static async of(container: Deno.ChildProcess): Promise<Boot> {
    const end = Date.now() + LIMIT_MS;
    while (Date.now() < end) {
      const leader = (await run(["pgrep", "--parent", `${container.pid}`, "--exact", "systemd"]))
        .stdout.trim();
      if (leader !== "") return new Boot(container, leader);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await run(["pkill", "--signal", "KILL", "--parent", `${container.pid}`]);
    container.kill("SIGKILL");
    await container.status;
    throw new Error("the machine did not come up");
  }

  /** The words that run a command on the machine, as root. */
  command(...command: readonly string[]): string[] {
    return [
      ...["nsenter", "--target", this.#leader, "--mount", "--uts", "--ipc", "--net", "--pid"],
      ...["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", ...command],
    ];
  }

  /** Runs a command on the machine, as root. */
  exec(...command: readonly string[]): Promise<Result> {
    return run(this.command(...command));
  }

  /** Runs a command on the machine that has to succeed. */
  async must(...command: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.exec(...command);
    if (code !== 0) {
      throw new Error(`${command.join(" ")} ended with ${code}: ${stdout}${stderr}`);
    }
    return stdout;
  }

  /** Runs the program, with the permissions that it ships with. */
  fishnet(...args: readonly string[]): Promise<Result> {
    return this.exec(
      ...["/opt/deno", "run", "--quiet", "--no-prompt", "--allow-run=sudo", "--allow-env=USER"],
      ...["/opt/fishnet.js", "firewall", ...args],
    );
  }

  /** Waits until a command succeeds. */
  async until(...command: readonly string[]): Promise<void> {
    const end = Date.now() + LIMIT_MS;
    while ((await this.exec(...command)).code !== 0) {
      if (Date.now() > end) throw new Error(`never succeeded: ${command.join(" ")}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Waits until every unit that the boot starts has been started. */
  async finished(): Promise<void> {
    await this.until("sh", "-c", "systemctl is-system-running --wait | grep -E 'running|degraded'");
  }

  /**
   * Switches the machine off, unless it is off: by its own systemd, or else by ending that one, and all that it runs
   * with it. A container whose systemd-nspawn is killed goes on without it.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#container.kill("SIGTERM");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    const timer = setTimeout(() => void run(["kill", "-KILL", this.#leader]), SHUTDOWN_MS);
    await this.#container.status;
    clearTimeout(timer);
    // Only now: until here it would have ended the machine, had this process been killed.
    this.#guard.kill("SIGKILL");
    await this.#guard.stdin.close().catch(() => {});
    await this.#guard.status;
  }
}

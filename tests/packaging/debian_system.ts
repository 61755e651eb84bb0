/**
 * A small Debian to install the package on, beside the machine's own.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { must, type Result, run } from "../support/process.ts";
import type { World } from "../support/world.ts";
import { ROOT } from "./support.ts";

const REPOSITORY = `${ROOT}packaging/debian/repository.sh`;

/** A small Debian in a folder: its own apt, dpkg and accounts, and the network of a world. */
export class DebianSystem {
  readonly #folder: string;
  readonly #world: World;
  #key = "";

  private constructor(folder: string, world: World) {
    this.#folder = folder;
    this.#world = world;
  }

  /** Makes the smallest system that has apt, and the given packages. */
  static async create(
    folder: string,
    world: World,
    packages: readonly string[],
  ): Promise<DebianSystem> {
    const system = new DebianSystem(folder, world);
    const release = await Deno.readTextFile("/etc/os-release");
    const suite = /^VERSION_CODENAME=(.*)$/m.exec(release)![1]!;
    await must(
      ...[
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--dpkgopt=force-unsafe-io",
        `--include=${packages.join(",")}`,
      ],
      ...[suite, system.#tree, ...await aptSources()],
    );
    await must("cp", "--dereference", "/etc/resolv.conf", `${system.#tree}/etc/resolv.conf`);
    // sudo looks its own host up, and no world has a name server.
    await Deno.writeTextFile(`${system.#tree}/etc/hosts`, `127.0.0.1 ${Deno.hostname()}\n`);
    const gnupg = `${folder}/gnupg`;
    await Deno.mkdir(gnupg, { mode: 0o700 });
    system.#key = await system.#makeKey("signing");
    const other = await system.#makeKey("other");
    const exported = await system.#gpg("--armor", "--export", other);
    await Deno.writeTextFile(`${system.#tree}/srv/other-key.asc`, exported);
    return system;
  }

  /** Leaves the system with no source but the repository, which needs no network. */
  async forgetDebian(): Promise<void> {
    await must(
      "sh",
      "-c",
      'rm -f "$0"/etc/apt/sources.list "$0"/etc/apt/sources.list.d/*',
      this.#tree,
    );
  }

  /** The key that the repository is signed with, as a file of the host. */
  get keyFile(): string {
    return `${this.#tree}/srv/repository/fishnet.asc`;
  }

  get #tree(): string {
    return `${this.#folder}/tree`;
  }

  async #gpg(...args: string[]): Promise<string> {
    return await must("gpg", "--batch", "--quiet", "--homedir", `${this.#folder}/gnupg`, ...args);
  }

  async #makeKey(name: string): Promise<string> {
    const uid = `${name}@not-published.invalid`;
    await this.#gpg("--passphrase", "", "--quick-generate-key", uid, "ed25519", "sign", "never");
    const listed = await this.#gpg("--with-colons", "--list-keys", uid);
    return /^fpr:+([0-9A-F]{40}):/m.exec(listed)![1]!;
  }

  /** Puts a repository with the packages where the system has its source. */
  async publish(...debianPackages: readonly string[]): Promise<void> {
    const place = `${this.#tree}/srv/repository`;
    await must("rm", "-rf", place);
    const { code, stderr } = await run(
      [REPOSITORY, place, this.#key, ...debianPackages],
      { env: { GNUPGHOME: `${this.#folder}/gnupg` } },
    );
    assertEquals(code, 0, stderr);
  }

  /** Tells the system of the repository, and which key to trust for it. */
  async addSource(key: string): Promise<void> {
    const lines = [
      ...["Types: deb", "URIs: copy:/srv/repository", "Suites: stable", "Components: main"],
      `Signed-By: ${key}`,
    ];
    const place = `${this.#tree}/etc/apt/sources.list.d/fishnet.sources`;
    await Deno.writeTextFile(place, lines.join("\n") + "\n");
  }

  /** The words that run a command in the system, in the network of whoever says them. */
  command(...command: readonly string[]): string[] {
    const enter = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && ' +
      'mount -t tmpfs tmpfs "$0/run" && exec chroot "$0" "$@"';
    const environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"];
    return [
      ...["unshare", "--mount", "sh", "-c", enter, this.#tree, ...environment],
      ...["DEBIAN_FRONTEND=noninteractive", ...command],
    ];
  }

  /** Runs a command in the system, in the world's network. */
  run(...command: readonly string[]): Promise<Result> {
    return this.#world.exec(...this.command(...command));
  }

  /** The same for one that has to succeed. */
  must(...command: readonly string[]): Promise<string> {
    return this.#world.must(...this.command(...command));
  }

  /** Runs a command in the system, in this machine's network. */
  outside(...command: readonly string[]): Promise<Result> {
    return run(this.command(...command));
  }

  /** What dpkg knows of the package: two letters and the version. */
  async installed(): Promise<string> {
    return (await this.must("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "fishnet"));
  }

  /** Every file but what apt, dpkg and the man-db cache know for themselves. */
  async files(): Promise<string[]> {
    const found = await this.must(
      ...["find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/srv"],
      ...["-o", "-path", "/var/cache", "-o", "-path", "/var/log", "-o", "-path", "/var/lib/apt"],
      ...["-o", "-path", "/var/lib/dpkg", ")", "-prune", "-o", "-print"],
    );
    return found.trim().split("\n").sort();
  }
}

async function aptSources(): Promise<string[]> {
  const files = await must("find", "/etc/apt", "-name", "*.sources", "-o", "-name", "sources.list");
  return files.trim().split("\n").sort();
}

/** The Debian package, by the tools of Debian: lintian, apt and dpkg, in a system of its own. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { must, type Result, run } from "../support/process.ts";
import { OUTSIDE_V4, PYTHON, World } from "../support/world.ts";
import { debianPackage, packagingTest, ROOT, temporaryFolder } from "./support.ts";

const REPOSITORY = `${ROOT}packaging/debian/repository.sh`;
const PROBE = `${ROOT}tests/support/probe.py`;

packagingTest(
  "lintian finds no error and nothing to warn of in the package",
  { binary: true, tools: ["lintian", "dpkg-shlibdeps"] },
  async () => {
    await using folder = await temporaryFolder();
    const { code, stdout } = await run([
      ...[
        "lintian",
        "--fail-on",
        "error,warning",
        "--allow-root",
        await debianPackage(folder.path),
      ],
    ]);
    assertEquals([code, stdout], [0, ""]);
  },
);

packagingTest(
  "two packages of the same program are the same bytes",
  { binary: true, tools: ["dpkg-shlibdeps"] },
  async () => {
    await using folder = await temporaryFolder();
    const packages = [
      await debianPackage(`${folder.path}/1`),
      await debianPackage(`${folder.path}/2`),
    ];
    await must("cmp", ...packages);
  },
);

packagingTest("shellcheck finds no fault with the scripts", { tools: ["shellcheck"] }, async () => {
  const scripts = ["archive.sh", "debian/build.sh", "debian/repository.sh", "debian/prerm"]
    .map((name) => `${ROOT}packaging/${name}`);
  await must("shellcheck", ...scripts);
});

packagingTest(
  "apt installs the package from a signed repository, upgrades it under a lock, unlocks and removes it",
  { binary: true, root: true, world: true, tools: ["mmdebstrap", "reprepro", "gpg"] },
  async (t) => {
    await using folder = await temporaryFolder();
    await using world = await World.create();
    const system = await DebianSystem.create(folder.path, world);
    await system.publish(await debianPackage(folder.path));
    const [agent, other] = ["agent_runner", "second_agent"];
    for (const account of [agent, other]) await system.must("useradd", "--no-create-home", account);
    const agentUid = (await system.must("id", "-u", agent)).trim();
    const before = await system.files();
    const rules = await world.state();

    await t.step("a repository whose key apt does not know is refused", async () => {
      await system.addSource("/srv/other-key.asc");
      const { code, stderr } = await system.outside("apt-get", "update");
      assertEquals(code, 100);
      assertStringIncludes(stderr, "NO_PUBKEY");
      await system.addSource("/srv/repository/fishnet.asc");
    });

    await t.step("install, with what it depends on and nothing else", async () => {
      // What it depends on comes from Debian, which no world reaches.
      for (
        const action of [["update"], ["install", "--yes", "--no-install-recommends", "fishnet"]]
      ) {
        const { code, stderr } = await system.outside("apt-get", ...action);
        assertEquals(code, 0, stderr);
      }
      assertEquals(await system.must("fishnet", "--version"), "fishnet 0.1.0\n");
    });

    await t.step("its manual page and completions are where the tools look", async () => {
      const page = await system.must("man", "--pager=cat", "fishnet-firewall");
      assertStringIncludes(page, "keep the account of an AI agent");
      assertStringIncludes(await system.must("man", "--where", "8", "fishnet"), "fishnet");
      for (
        const place of [
          "bash-completion/completions/fishnet",
          "zsh/vendor-completions/_fishnet",
          "fish/vendor_completions.d/fishnet.fish",
        ]
      ) {
        assertStringIncludes(await system.must("cat", `/usr/share/${place}`), "agent-user");
      }
    });

    const firewall = (...args: string[]) => system.must("fishnet", "firewall", ...args);
    const sent = (uid: string) =>
      world.captured("udp", () => world.as(uid, PYTHON, PROBE, "udp", OUTSIDE_V4, "4000"));

    await t.step("lock two accounts", async () => {
      assert((await sent(agentUid)).length > 0, "the control got out");
      await firewall("enable", "--agent-user", agent, "--apply");
      await firewall("enable", "--agent-user", other, "--apply");
      assertEquals(await sent(agentUid), []);
    });

    await t.step("an upgrade changes nothing about the locks", async () => {
      const locked = await world.state();
      await system.publish(await debianPackage(folder.path, "0.1.0+1"));
      await system.outside("apt-get", "update");
      await system.must("apt-get", "install", "--yes", "--only-upgrade", "fishnet");
      assertEquals(await system.installed(), "ii 0.1.0+1");
      assertEquals(await world.state(), locked);
      assertEquals(await sent(agentUid), []);
    });

    await t.step("a lock that cannot be taken away keeps the package where it is", async () => {
      const tool = "/usr/sbin/xtables-nft-multi";
      const locked = await world.state();
      await system.must("chmod", "a-x", tool);
      const { code, stdout } = await system.run("apt-get", "remove", "--yes", "fishnet");
      await system.must("chmod", "a+x", tool);
      assertEquals(code, 100);
      assertStringIncludes(stdout, "not removed, because a lock is left");
      assertMatch(await system.installed(), /^.i 0\.1\.0\+1$/);
      assertEquals(await world.state(), locked);
    });

    await t.step("so does a routing rule for a uid that is nobody's", async () => {
      const rule = ["pref", "77", "uidrange", "4242-4242", "prohibit"];
      await world.must("ip", "rule", "add", ...rule, "protocol", "kernel");
      const { code, stdout } = await system.run("apt-get", "remove", "--yes", "fishnet");
      await world.must("ip", "rule", "del", ...rule);
      assertEquals(code, 100);
      assertStringIncludes(stdout, "not removed, because a lock is left");
      assertMatch(await system.installed(), /^.i 0\.1\.0\+1$/);
    });

    await t.step("removing it unlocks every account first", async () => {
      await firewall("enable", "--agent-user", agent, "--apply");
      await firewall("enable", "--agent-user", other, "--apply");
      assertEquals(await sent(agentUid), []);
      const removed = await system.run("apt-get", "remove", "--yes", "fishnet");
      assertEquals(removed.code, 0, removed.stderr);
      assertEquals(await world.state(), rules);
      assert((await sent(agentUid)).length > 0, "the account is free again");
    });

    await t.step("purging it leaves no file", async () => {
      await system.must("apt-get", "purge", "--yes", "fishnet");
      // sudo's own package asks for this where root has no password.
      const remove = ["apt-get", "autoremove", "--purge", "--yes"];
      await system.must("env", "SUDO_FORCE_REMOVE=yes", ...remove);
      assertEquals(
        (await system.files()).filter((file) => !before.includes(file)),
        ["/etc/apt/sources.list.d/fishnet.sources"],
      );
    });
  },
);

/** A small Debian in a folder: its own apt, dpkg and accounts, and the network of a world. */
class DebianSystem {
  readonly #folder: string;
  readonly #world: World;
  #key = "";

  private constructor(folder: string, world: World) {
    this.#folder = folder;
    this.#world = world;
  }

  static async create(folder: string, world: World): Promise<DebianSystem> {
    const system = new DebianSystem(folder, world);
    const release = await Deno.readTextFile("/etc/os-release");
    const suite = /^VERSION_CODENAME=(.*)$/m.exec(release)![1]!;
    await must(
      ...["mmdebstrap", "--quiet", "--variant=minbase", "--include=man-db,netbase"],
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

  get #tree(): string {
    return `${this.#folder}/tree`;
  }

  async #gpg(...args: string[]): Promise<string> {
    return await must("gpg", "--batch", "--quiet", "--homedir", `${this.#folder}/gnupg`, ...args);
  }

  async #makeKey(name: string): Promise<string> {
    const uid = `${name}@fishnet.example`;
    await this.#gpg("--passphrase", "", "--quick-generate-key", uid, "ed25519", "sign", "never");
    const listed = await this.#gpg("--with-colons", "--list-keys", uid);
    return /^fpr:+([0-9A-F]{40}):/m.exec(listed)![1]!;
  }

  /** Puts a repository with the one package where the system has its source. */
  async publish(debianPackage: string): Promise<void> {
    const place = `${this.#tree}/srv/repository`;
    await must("rm", "-rf", place);
    const { code, stderr } = await run(
      [REPOSITORY, place, this.#key, debianPackage],
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

  #command(command: readonly string[]): string[] {
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
    return this.#world.exec(...this.#command(command));
  }

  /** The same for one that has to succeed. */
  must(...command: readonly string[]): Promise<string> {
    return this.#world.must(...this.#command(command));
  }

  /** Runs a command in the system, in this machine's network. */
  outside(...command: readonly string[]): Promise<Result> {
    return run(this.#command(command));
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

/** The Debian package, by the tools of Debian: lintian, apt and dpkg, in a system of its own. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { must, run } from "../support/process.ts";
import { OUTSIDE_V4, PYTHON, World } from "../support/world.ts";
import { DebianSystem } from "./debian_system.ts";
import { debianPackage, debianPackageOf, packagingTest, ROOT, temporaryFolder } from "./support.ts";

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
      await debianPackageOf({}, `${folder.path}/1`),
      await debianPackageOf({}, `${folder.path}/2`),
    ];
    await must("cmp", ...packages);
  },
);

packagingTest("shellcheck finds no fault with the scripts", { tools: ["shellcheck"] }, async () => {
  const found = await must("find", `${ROOT}packaging`, "-name", "node_modules", "-prune", "-o", ...[
    ...["(", "-name", "*.sh", "-o", "-name", "prerm", ")", "-print"],
  ]);
  const scripts = found.trim().split("\n");
  assert(scripts.length > 8);
  await must("shellcheck", ...scripts);
});

packagingTest(
  "apt installs the package from a signed repository, upgrades it under a lock, unlocks and removes it",
  { binary: true, root: true, world: true, tools: ["mmdebstrap", "apt-ftparchive", "gpg"] },
  async (t) => {
    await using folder = await temporaryFolder();
    await using world = await World.create();
    const system = await DebianSystem.create(folder.path, world, ["man-db", "netbase"]);
    const first = await debianPackage(folder.path);
    await system.publish(first);
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
      await system.publish(first, await debianPackage(folder.path, "0.1.0+1"));
      await system.outside("apt-get", "update");
      await system.must("apt-get", "install", "--yes", "--only-upgrade", "fishnet");
      assertEquals(await system.installed(), "ii 0.1.0+1");
      assertEquals(await world.state(), locked);
      assertEquals(await sent(agentUid), []);
    });

    await t.step("the older version is still there for who goes back to it", async () => {
      const locked = await world.state();
      const offered = await system.must("apt-cache", "madison", "fishnet");
      assertMatch(offered, /0\.1\.0\+1 [^]*0\.1\.0 /);
      const version = async (wanted: string) => {
        const install = ["apt-get", "install", "--yes", "--allow-downgrades"];
        await system.must(...install, `fishnet=${wanted}`);
        assertEquals(await system.installed(), `ii ${wanted}`);
      };
      await version("0.1.0");
      await version("0.1.0+1");
      assertEquals(await world.state(), locked);
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
      // On a terminal, as a person has it: apt hands one on, and writes what it shows into its log.
      await system.must("rm", "-f", "/var/log/apt/term.log");
      const remove = "apt-get remove --yes fishnet";
      const removed = await system.run(
        "script",
        "--quiet",
        "--return",
        "--command",
        remove,
        "/dev/null",
      );
      assertEquals(removed.code, 0, removed.stdout);
      assertEquals(await world.state(), rules);
      const log = await system.must("cat", "/var/log/apt/term.log");
      const ours = log.split("Removing fishnet ")[1]!.split("\n").slice(1)
        .map((line) => line.replace(/\r$/, "")).filter((line) => line.startsWith("fishnet: "));
      assertEquals(ours.sort(), [agent, other].map((name) => `fishnet: unlocked ${name}`).sort());
      const after = log.split("Removing fishnet ")[1]!;
      assert(!after.includes("\x1b") && !/\r[^\n]/.test(after), JSON.stringify(log));
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

packagingTest(
  "the package works with nftables alone",
  { binary: true, root: true, world: true, tools: ["mmdebstrap", "apt-ftparchive", "gpg"] },
  async () => {
    await using folder = await temporaryFolder();
    await using world = await World.create();
    const needed = ["nftables", "sudo", "iproute2"];
    const system = await DebianSystem.create(folder.path, world, needed);
    await system.forgetDebian();
    await system.publish(await debianPackage(folder.path));
    await system.addSource("/srv/repository/fishnet.asc");
    await system.must("useradd", "--no-create-home", "agent_runner");
    const uid = (await system.must("id", "-u", "agent_runner")).trim();
    await system.must("apt-get", "update");
    await system.must("apt-get", "install", "--yes", "--no-install-recommends", "fishnet");
    assert((await system.run("sh", "-c", "command -v iptables")).code !== 0, "no iptables there");
    const sent = () =>
      world.captured("udp", () => world.as(uid, PYTHON, PROBE, "udp", OUTSIDE_V4, "4000"));
    assert((await sent()).length > 0, "the control got out");
    const before = await world.state();
    const account = ["--agent-user", "agent_runner"];
    await system.must("fishnet", "firewall", "enable", ...account, "--apply");
    assertEquals(await sent(), []);
    const { code, stdout } = await system.run("fishnet", "firewall", "status", ...account);
    assertEquals(code, 0, stdout);
    await system.must("apt-get", "remove", "--yes", "fishnet");
    assertEquals(await world.state(), before);
  },
);

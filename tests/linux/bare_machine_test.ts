/** Machines that lack a file or a tool, or have a tool that cannot be run. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { lockIn, unlockIn } from "../support/inside.ts";
import { must, type Result } from "../support/process.ts";
import { program, type World, worldTest } from "../support/world.ts";

/** Runs the program where an empty file that nobody may execute lies over another. */
async function withoutUse(file: string, world: World, ...args: string[]): Promise<Result> {
  const empty = await Deno.makeTempFile();
  try {
    return await world.exec(
      ...["unshare", "-m", "sh", "-ec", 'mount --bind "$0" "$1"; shift; exec "$@"', empty, file],
      ...program(),
      ...["firewall", ...args],
    );
  } finally {
    await Deno.remove(empty);
  }
}

worldTest(
  "where no /etc/protocols gives protocols their names, the table is still ours",
  async (world) => {
    const name = await world.account();
    const run = (action: string, ...more: string[]) =>
      withoutUse("/etc/protocols", world, action, "--agent-user", name, ...more);
    const before = await world.state();
    const enable = ["--backend", "nftables", "--only-port", "3777", "--apply"];
    assertEquals((await run("enable", ...enable)).code, 0);
    const { code, stdout } = await run("status");
    assertEquals(code, 0, stdout);
    assertStringIncludes((await run("enable", ...enable)).stderr, "already in force");
    assertEquals((await run("disable", "--apply")).code, 0);
    assertEquals(await world.state(), before);
  },
);

worldTest("a tool that is there and cannot be run is no absent tool", async (world) => {
  const name = await world.account();
  for (const [backend, tool] of [["iptables", "xtables-nft-multi"], ["nftables", "nft"]] as const) {
    const file = (await must("realpath", `/usr/sbin/${tool}`)).trim();
    const account = ["--agent-user", name];
    await lockIn(world, [name], { backend });
    const locked = await world.state();
    const status = await withoutUse(file, world, "status", ...account);
    assertEquals([status.code, status.stdout.includes("unknown")], [3, true], status.stdout);
    const disable = await withoutUse(file, world, "disable", ...account, "--apply");
    assertEquals(disable.code, 1);
    assertStringIncludes(disable.stderr, "Permission denied");
    assertEquals(await world.state(), locked);
    await unlockIn(world, name);
  }
});

/** Runs the program where tools are not there at all: /usr/sbin is laid over with one without them. */
function without(tools: string, world: World, ...args: string[]): Promise<Result> {
  const script = `mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/usr/sbin,upperdir=/mnt/upper,workdir=/mnt/work overlay /usr/sbin
rm ${tools}
exec "$@"`;
  return world.exec("unshare", "-m", "sh", "-ec", script, "sh", ...program(), "firewall", ...args);
}

const IPTABLES = "/usr/sbin/ip*tables* /usr/sbin/xtables*";
const NFT = "/usr/sbin/nft";

worldTest("what the tool of a lock made is not taken for gone with the tool", async (world) => {
  const name = await world.account();
  const account = ["--agent-user", name];
  const before = await world.state();
  await lockIn(world, [name], { backend: "iptables", onlyPorts: [3777] });
  let locked = await world.state();
  for (const action of ["status", "disable", "enable"]) {
    const apply = action === "status" ? [] : ["--apply"];
    const { code, stdout, stderr } = await without(IPTABLES, world, action, ...account, ...apply);
    assertEquals(code, action === "status" ? 3 : 1);
    assertStringIncludes(stdout + stderr, "iptables is not installed, and rules that it made are");
    assertEquals(await world.state(), locked);
  }
  for (const action of ["status", "disable"]) {
    const apply = action === "status" ? [] : ["--apply"];
    const six = await without("/usr/sbin/ip6tables*", world, action, ...account, ...apply);
    assertEquals([six.code, await world.state()], [action === "status" ? 3 : 1, locked]);
    assertStringIncludes(six.stdout + six.stderr, "ip6tables is not installed, and rules that it");
  }
  // Of both, none is left to see the rules with.
  const blind = await without(`${IPTABLES} ${NFT}`, world, "disable", ...account, "--apply");
  assertEquals([blind.code, await world.state()], [1, locked], blind.stderr);
  await unlockIn(world, name);

  await lockIn(world, [name], { backend: "nftables", onlyPorts: [3777] });
  locked = await world.state();
  const status = await without(NFT, world, "status", ...account, "--json");
  assertEquals([status.code, JSON.parse(status.stdout).state], [3, "partial"]);
  assertStringIncludes(status.stdout, "nft is not installed: whether a table of its holds the");
  const disable = await without(NFT, world, "disable", ...account, "--apply");
  assertEquals([disable.code, await world.state()], [1, locked], disable.stderr);
  assertStringIncludes(disable.stderr, "install the package nftables first, or enable again");
  await unlockIn(world, name);
  assertEquals(await world.state(), before);
});

worldTest(
  "a backend whose tool is not there is refused, with the package's name",
  async (world) => {
    const name = await world.account();
    const before = await world.state();
    for (const [backend, tools] of [["iptables", IPTABLES], ["nftables", NFT]] as const) {
      const args = ["--agent-user", name, "--backend", backend, "--apply"];
      const { code, stderr } = await without(tools, world, "enable", ...args);
      assertEquals(code, 1);
      assertStringIncludes(stderr, `is not installed: install the package ${backend}, or use`);
      assertEquals(await world.state(), before);
    }
  },
);

worldTest(
  "a container that may not change its packet filter is told what it lacks",
  async (world) => {
    const name = await world.account();
    const args = ["firewall", "enable", "--agent-user", name, "--apply"];
    const { code, stderr } = await world.exec(
      ...["capsh", "--drop=cap_net_admin", "--", "-c", '"$0" "$@"'],
      ...program(),
      ...args,
    );
    assertEquals(code, 1);
    assertStringIncludes(
      stderr,
      "Operation not permitted (you must be root); root lacks CAP_NET_ADMIN",
    );
    assertStringIncludes(stderr, "start a container with --cap-add NET_ADMIN");
  },
);

worldTest("a search path of sudo's without the tools hides none of them", async (world) => {
  const name = await world.account();
  const account = ["--agent-user", name];
  const before = await world.state();
  await lockIn(world, [name], { backend: "iptables", onlyPorts: [3777] });
  const file = `/etc/netns/${world.inside}/sudoers.d/path`;
  const setting = 'Defaults secure_path="/usr/local/bin:/usr/bin"\n';
  await Deno.writeTextFile(file, setting, { mode: 0o440 });
  const { code, stdout } = await world.fishnet("firewall", "status", ...account);
  assertEquals(code, 0, stdout);
  const disable = await world.fishnet("firewall", "disable", ...account, "--apply");
  assertEquals(disable.code, 0, disable.stderr);
  assertEquals(await world.state(), before);
});

worldTest("where sudo lets root's session start nothing, that is what is said", async (world) => {
  const name = await world.account();
  const sudoers = `/etc/netns/${world.inside}/sudoers`;
  const text = await Deno.readTextFile(sudoers);
  const enable = ["firewall", "enable", "--agent-user", name, "--apply"];
  await Deno.writeTextFile(sudoers, `${text}\nDefaults noexec\n`);
  const { code, stderr } = await world.fishnet(...enable);
  assertEquals(code, 1);
  assertStringIncludes(stderr, "root's shell could not ask (exit status 126): sh: ");
  assertStringIncludes(stderr, "allow /usr/bin/perl with EXEC");
  // As it says.
  await Deno.writeTextFile(
    sudoers,
    `${text}\nDefaults noexec\nroot ALL=(ALL:ALL) EXEC: /usr/bin/perl\n`,
  );
  assertEquals((await world.fishnet(...enable)).code, 0);
});

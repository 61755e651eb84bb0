/** Names that sudo looks up for whoever runs it, as root: `sudo -h NAME -l`. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { statusOf } from "../support/inside.ts";
import { linesOf, must } from "../support/process.ts";
import { PYTHON, type World, worldTest } from "../support/world.ts";

/** A DNS server on loopback, which says that no name is there, and prints the first label of each. */
const SERVER = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.9", 53))
print("ready", flush=True)
while True:
    query, peer = s.recvfrom(4096)
    print(query[13:13 + query[12]].decode(), flush=True)
    s.sendto(query[:2] + b"\\x81\\x83" + query[4:12] + query[12:], peer)
`;

/** What the server is asked for when the account runs sudo; root's own question marks the end. */
class Names {
  readonly #lines: ReadableStreamDefaultReader<string>;
  #count = 0;

  private constructor(readonly world: World, lines: ReadableStreamDefaultReader<string>) {
    this.#lines = lines;
  }

  static async in(world: World): Promise<Names> {
    const etc = `/etc/netns/${world.inside}`;
    await Deno.writeTextFile(`${etc}/resolv.conf`, "nameserver 127.0.0.9\noptions attempts:1\n");
    const { stdout } = world.start(world.command(PYTHON, "-c", SERVER));
    const lines = linesOf(stdout);
    assertEquals((await lines.read()).value, "ready");
    return new Names(world, lines);
  }

  /** The names that are looked up. */
  async by(account: string): Promise<string[]> {
    const [name, end] = [`secret${++this.#count}`, `end${this.#count}`];
    for (const words of [["-l"], ["-U", "root", "-l"], ["-v"]]) {
      await this.world.as(account, "sudo", "-n", "-h", `${name}.example.com`, ...words);
    }
    await this.world.exec("getent", "ahostsv4", `${end}.example.com`);
    const seen = new Set<string>();
    while (true) {
      const { value = end } = await this.#lines.read();
      if (value === end) break;
      if (/^secret/.test(value)) seen.add(value);
    }
    return [...seen];
  }
}

/** sudo as Debian compiles it, wherever this runs, and the file that a lock makes. */
async function setUp(world: World) {
  const folder = `/etc/netns/${world.inside}/sudoers.d`;
  await Deno.writeTextFile(`${folder}/a-fqdn`, "Defaults fqdn\n", { mode: 0o440 });
  const files = async () =>
    (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).toSorted();
  return { folder, files };
}

/** Runs the program, which has to succeed; what it said. */
async function change(world: World, action: string, ...args: readonly string[]): Promise<string> {
  const { code, stderr } = await world.fishnet("firewall", action, ...args, "--apply");
  assertEquals(code, 0, stderr);
  return stderr;
}

for (const backend of ["iptables", "nftables"] as const) {
  worldTest(
    `${backend}: with --only-port, sudo looks no name up for the account`,
    async (world) => {
      const [agent, other] = [await world.account(), await world.account()];
      const uid = (await must("id", "-u", agent)).trim();
      const { folder, files } = await setUp(world);
      const before = await files();
      const names = await Names.in(world);
      assertEquals(await names.by(agent), ["secret1"], "the control, before the lock");

      const args = ["--agent-user", agent, "--backend", backend];
      assertMatch(
        await change(world, "enable", ...args),
        /warning: \w+: sudo looks any name up, as root/,
      );
      assertEquals(await files(), before);
      assertEquals(await names.by(agent), ["secret2"], "a lock without ports leaves it open");

      const said = await change(world, "enable", ...args, "--only-port", "3777");
      assert(!said.includes("looks any name up"), said);
      const file = `${folder}/fishnet-${uid}`;
      assertEquals(await files(), [...before, `fishnet-${uid}`].toSorted());
      assertEquals(await Deno.readTextFile(file), `# fishnet:${agent}\nDefaults:#${uid} !fqdn\n`);
      await world.must("visudo", "-c", "-q");
      assertEquals(await names.by(agent), []);
      assertEquals(await names.by(other), ["secret4"], "the control beside it");
      assertEquals((await statusOf(world, agent)).state, "locked");

      // Somebody else changes it: that is told, and mended.
      for (
        const damage of [
          () => Deno.remove(file),
          () => Deno.chmod(file, 0o644),
          () => Deno.writeTextFile(file, `# fishnet:${agent}\nDefaults fqdn\n`),
        ]
      ) {
        await damage();
        assertEquals((await statusOf(world, agent)).state, "partial");
        await change(world, "enable", ...args);
        assertEquals((await statusOf(world, agent)).state, "locked");
        assertEquals((await names.by(agent)).length, 0);
      }
      // Of settings, the last counts; and a file that is not root's is none for sudo.
      const later = `${folder}/zz-local`;
      for (const setting of ["fqdn", "env_reset, \\\n fqdn", "!env_reset,fqdn"]) {
        await Deno.writeTextFile(later, `Defaults ${setting}\n`, { mode: 0o440 });
        assertEquals((await names.by(agent)).length, 1, setting);
        assertEquals((await statusOf(world, agent)).state, "partial", setting);
        await Deno.remove(later);
        assertEquals((await statusOf(world, agent)).state, "locked");
      }
      await must("chown", agent, file);
      assertEquals((await statusOf(world, agent)).state, "partial");
      await change(world, "enable", ...args);
      assertEquals((await statusOf(world, agent)).state, "locked");
      await change(world, "disable", ...args);
      assertEquals(await files(), before);
      assertEquals((await names.by(agent)).length, 1);
    },
  );
}

worldTest(
  "where sudo reads no folder of settings, the door is told, and no file made",
  async (world) => {
    const agent = await world.account();
    const { files } = await setUp(world);
    const before = await files();
    await Deno.writeTextFile(
      `/etc/netns/${world.inside}/sudoers`,
      "Defaults fqdn\nroot ALL=(ALL:ALL) ALL\n",
    );
    const args = ["--agent-user", agent];
    const said = await change(world, "enable", ...args, "--only-port", "3777");
    assertMatch(said, /warning: \w+: sudo looks any name up, as root/);
    assertEquals(await files(), before);
    assertEquals((await statusOf(world, agent)).state, "locked");
    await change(world, "disable", ...args);
  },
);

worldTest("however sudoers names the folder, the file in it is read", async (world) => {
  const agent = await world.account();
  const { folder } = await setUp(world);
  const names = await Names.in(world);
  const uid = (await must("id", "-u", agent)).trim();
  for (
    const line of [
      "#includedir /etc/sudoers.d",
      '@includedir "/etc/sudoers.d"',
      "@includedir sudoers.d",
      "@includedir /etc/sudoers.d/ # all",
    ]
  ) {
    const sudoers = `/etc/netns/${world.inside}/sudoers`;
    await Deno.writeTextFile(sudoers, `Defaults fqdn\nroot ALL=(ALL:ALL) ALL\n${line}\n`);
    const args = ["--agent-user", agent];
    assertEquals((await names.by(agent)).length, 1, line);
    await change(world, "enable", ...args, "--only-port", "3777");
    await Deno.stat(`${folder}/fishnet-${uid}`);
    assertEquals(await names.by(agent), [], line);
    await change(world, "disable", ...args);
  }
});

worldTest("where the ports went with the rules, the remedy asks for them", async (world) => {
  const agent = await world.account();
  const account = ["--agent-user", agent];
  const enable = ["firewall", "enable", ...account, "--backend", "nftables", "--apply"];
  assertEquals((await world.fishnet(...enable, "--only-port", "3777")).code, 0);
  await world.must("nft", "flush", "ruleset");
  const { stdout } = await world.fishnet("firewall", "status", ...account, "--json");
  const [{ pieces }] = JSON.parse(stdout).accounts;
  const { remedy } = pieces.find(({ present }: { present: boolean }) => !present);
  assertMatch(remedy, /^fishnet firewall enable .* --only-port PORT --apply$/);
  const pasted = await world.fishnet(...remedy.split(" ").slice(1));
  assertEquals(pasted.code, 1, "nothing is loosened by pasting it");
  assertEquals((await world.fishnet("firewall", "disable", ...account, "--apply")).code, 0);
});

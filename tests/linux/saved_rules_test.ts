/** Files that other firewalls load at boot, and that hold rules of a lock. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { statusIn } from "../../src/lock/status.ts";
import { LOCKED, sightWith } from "../support/fake_machine.ts";
import { lockIn, paste, statusOf, unlockIn } from "../support/inside.ts";
import { must, run } from "../support/process.ts";
import { program, worldTest } from "../support/world.ts";

worldTest(
  "rules that were saved while an account was locked are named, and cleared",
  async (world) => {
    const agent = await world.account();
    const other = await world.account();
    const uid = (await must("id", "-u", agent)).trim();
    const etc = await Deno.makeTempDir();
    try {
      // Two files of /etc that only this test sees: laid over it for each command.
      await Deno.mkdir(`${etc}/iptables`);
      await lockIn(world, [agent, other], { backend: "iptables", onlyPorts: [3777] });
      for (const [save, file] of [["iptables-save", "rules.v4"], ["ip6tables-save", "rules.v6"]]) {
        await Deno.writeTextFile(`${etc}/iptables/${file}`, await world.must(save!));
      }
      await lockIn(world, [agent], { backend: "nftables" });
      await Deno.writeTextFile(
        `${etc}/nftables.conf`,
        `#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet theirs {\n}\n` +
          (await world.must("nft", "list", "table", "inet", "fishnet")),
      );
      await unlockIn(world, agent, other);

      const names = ["iptables/rules.v4", "iptables/rules.v6", "nftables.conf"];
      const notes = async (name: string) => {
        const said = await Promise.all(
          names.map(async (file) =>
            [`/etc/${file}`, await Deno.readTextFile(`${etc}/${file}`)] as const
          ),
        );
        const sight = await sightWith({
          "getent passwd": await must("getent", "passwd", agent, other),
          "/etc/subuid": await must("cat", "/etc/subuid"),
          ...Object.fromEntries(said),
        });
        return statusIn(sight, [name]).accounts[0]!.notes!;
      };
      const clear = async (name: string, files: readonly string[]) => {
        const told = await notes(name);
        assertEquals(told.length, files.length, told.join("\n"));
        for (const [i, note] of told.entries()) {
          const path = `/etc/${files[i]}`;
          assert(
            note.startsWith(`${path} holds rules of it, which are back after a reboot: sudo sed`),
          );
          const command = /: (sudo sed .*) removes them$/.exec(note)![1]!;
          await paste(world, [command.replace(path, `${etc}/${files[i]}`)]);
        }
      };
      await clear(agent, names);
      for (const name of names.slice(0, 2)) {
        const text = await Deno.readTextFile(`${etc}/${name}`);
        assert(!text.includes(`--uid-owner ${uid} `), text);
        assertMatch(text, /--uid-owner \d+ /, "the other account's rules stay");
        assertMatch(text, /^-A fishnet /m, "and what they lead to");
      }
      await clear(other, names.slice(0, 2));
      for (const name of names.slice(0, 2)) {
        const text = await Deno.readTextFile(`${etc}/${name}`);
        assert(!/fishnet|--uid-owner|-A (INPUT|POSTROUTING) /.test(text), text);
      }
      const conf = await Deno.readTextFile(`${etc}/nftables.conf`);
      assertEquals(conf.trimEnd(), "#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet theirs {\n}");
      assertEquals((await statusOf(world, agent)).state, "unlocked");
    } finally {
      await Deno.remove(etc, { recursive: true });
    }
  },
);

worldTest("what nft saved of a lock by iptables is cleared, and loads again", async (world) => {
  const [agent, other] = [await world.account(), await world.account()];
  await world.must("nft", "add table inet theirs; add chain inet theirs input");
  await world.must("iptables", "-w", "-A", "OUTPUT", "-d", "192.0.2.1", "-j", "DROP");
  const file = await Deno.makeTempFile();
  try {
    // The rules of one without counts, as many save them (`nft -s`).
    await lockIn(world, [agent, other], { backend: "iptables", onlyPorts: [3777] });
    const uid = (await must("id", "-u", other)).trim();
    const [counted, plain] = await Promise.all(
      [[], ["-s"]].map(async (options) =>
        (await world.must("nft", ...options, "list", "ruleset")).split("\n")
      ),
    );
    const lines = counted!.map((line, i) => line.includes(` ${uid} `) ? plain![i] : line);
    await Deno.writeTextFile(file, lines.join("\n"));
    await unlockIn(world, agent, other);
    assertMatch(await Deno.readTextFile(file), /xt target "?TCPOPTSTRIP/, "nft loads no such line");
    for (const name of [agent, other]) {
      const sight = await sightWith({
        "getent passwd": await must("getent", "passwd", agent, other),
        "/etc/subuid": await must("cat", "/etc/subuid"),
        "/etc/nftables.conf": await Deno.readTextFile(file),
      });
      const [note] = statusIn(sight, [name]).accounts[0]!.notes!;
      const command = /: (sudo sed .*) removes them$/.exec(note!)![1]!;
      await paste(world, [command.replace("/etc/nftables.conf", file)]);
    }
    await world.must("nft", "flush", "ruleset");
    await world.must("nft", "-f", file);
    const rules = await world.must("nft", "list", "ruleset");
    assertMatch(rules, /^table inet theirs \{$/m);
    assertMatch(rules, /ip daddr 192\.0\.2\.1 .*drop/);
    assert(
      !/fishnet|skuid|\b(drop|reject|return)$/m.test(rules.replace(/.*192\.0\.2\.1.*/, "")),
      rules,
    );
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("rules that nft has loaded from such a file, and saved again, are found", async () => {
  const text = 'table ip filter {\n\tchain OUTPUT {\n\t\toifname != "lo" meta skuid 1001 counter ' +
    "packets 5 bytes 300 reject\n\t}\n}\n";
  const [note] = statusIn(await sightWith({ "/etc/nftables.conf": text }), ["agent"])
    .accounts[0]!.notes!;
  const script = /-E '(.*)' \/etc\/nftables\.conf removes them$/.exec(note!)![1]!;
  const { stdout } = await run(["sed", "-E", script], { input: text });
  assertEquals(stdout, "table ip filter {\n\tchain OUTPUT {\n\t}\n}\n");
});

Deno.test("rules of an administrator's for the same uid are neither named nor cleared", async () => {
  const theirs = [
    "*mangle",
    "-A OUTPUT -m owner --uid-owner 1001 -j MARK --set-xmark 0x1/0xffffffff",
    "*filter",
    "-A OUTPUT -p tcp -m owner --uid-owner 1001 -m tcp --dport 25 -j DROP",
    "-A OUTPUT ! -o lo -m owner --uid-owner 1001 -j LOG",
    "",
  ].join("\n");
  const notesOf = async (text: string) =>
    statusIn(await sightWith({ "/etc/iptables/rules.v4": text }), ["agent"]).accounts[0]!.notes!;
  assertEquals(await notesOf(theirs), []);
  const [note] = await notesOf(theirs + LOCKED["iptables-nft-save"]);
  const script = /-E '(.*)' \/etc\/iptables\/rules\.v4 removes them$/.exec(note!)![1]!;
  const { stdout } = await run(["sed", "-E", script], { input: theirs });
  assertEquals(stdout, theirs);
});

worldTest("disable tells of a file that still holds what it took away", async (world) => {
  const agent = await world.account();
  await lockIn(world, [agent], { backend: "nftables" });
  const saved = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(saved, await world.must("nft", "list", "table", "inet", "fishnet"));
    // Laid over the machine's own for this one run.
    const { code, stderr } = await world.exec(
      ...["sh", "-ec", 'mount --bind "$0" /etc/nftables.conf; exec "$@"', saved, ...program()],
      ...["firewall", "disable", "--agent-user", agent, "--apply"],
    );
    assertEquals(code, 0, stderr);
    assertMatch(
      stderr,
      new RegExp(`${agent}: /etc/nftables.conf holds rules of it, which are back`),
    );
  } finally {
    await Deno.remove(saved);
  }
});

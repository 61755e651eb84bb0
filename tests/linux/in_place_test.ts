/** A lock is changed in place: another backend, other ports, and no moment in which it is open. */
import { assert, assertEquals } from "@std/assert";
import { lockIn, paste, statusOf, unlockIn } from "../support/inside.ts";
import { change, serve } from "../support/lock.ts";
import { linesOf, run } from "../support/process.ts";
import { OUTSIDE_V4, OUTSIDE_V6, PYTHON, type World, worldTest } from "../support/world.ts";

/** The one port that no lock of this test allows, and the outside's ports of the two accounts. */
const FORBIDDEN = 9050;
const [AGENTS_PORT, OTHERS_PORT] = [4100, 4200];

/**
 * Tries without a pause until its input ends, or so many rounds: to the outside, bound to the
 * device (which no routing rule sees) and not, and to a port on loopback. Prints what it came to.
 */
const TRY = `
import select, socket, sys
port, forbidden, most = (int(word) for word in sys.argv[1:])
rounds = sent = answered = 0
print("trying", flush=True)
while rounds < most and (rounds <= 10 or not select.select([0], [], [], 0)[0]):
    rounds += 1
    for address, family in ("${OUTSIDE_V4}", socket.AF_INET), ("${OUTSIDE_V6}", socket.AF_INET6):
        for device in b"out0", None:
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                if device:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                try:
                    s.sendto(b"x", (address, port))
                    sent += 1
                except OSError:
                    pass
    try:
        socket.create_connection(("127.0.0.1", forbidden), 2).close()
        answered += 1
    except OSError:
        pass
print(rounds, sent, answered, flush=True)
`;

/** Starts to try as an account; ends it, and tells what it came to. */
async function trying(world: World, account: string, port: number, rounds: number) {
  const child = world.start(
    world.commandAs(account, PYTHON, "-c", TRY, `${port}`, `${FORBIDDEN}`, `${rounds}`),
    { stdin: "piped" },
  );
  const lines = linesOf(child.stdout);
  assertEquals((await lines.read()).value, "trying");
  return async () => {
    await child.stdin.close();
    const [rounds, sent, answered] = (await lines.read()).value!.split(" ").map(Number);
    await lines.cancel();
    await child.status;
    return { rounds: rounds!, sent: sent!, answered: answered! };
  };
}

/** From one lock to the next, each by one enable. */
const CHANGES = [
  ["another backend", ["--backend", "nftables"]],
  ["other ports", ["--only-port", "8080", "--only-port", "3777"]],
  ["fewer ports", ["--only-port", "53"]],
  ["the first backend and other ports at once", ["--backend", "iptables", "--only-port", "3777"]],
  ["other ports with iptables", ["--only-port", "8080"]],
] as const;

worldTest("a lock that is changed in place has no open moment", async (world, t) => {
  const agent = await world.account();
  const other = await world.account();
  await serve(world, { as: other }, FORBIDDEN);
  await change(world, "enable", agent, "iptables", "--only-port", "3777");
  for (const [name, options] of CHANGES) {
    await t.step(name, async () => {
      let tries = { rounds: 0, sent: 0, answered: 0 };
      let control = tries;
      const frames = await world.captured("udp and dst portrange 4000-4999", async () => {
        const ends = [
          await trying(world, agent, AGENTS_PORT, 200_000),
          await trying(world, other, OTHERS_PORT, 50),
        ];
        const args = ["firewall", "enable", "--agent-user", agent, "--apply", ...options];
        const { code, stderr } = await world.fishnet(...args);
        assertEquals(code, 0, stderr);
        [tries, control] = await Promise.all([ends[0]!(), ends[1]!()]) as [
          typeof tries,
          typeof tries,
        ];
      });
      const to = (port: number) => frames.filter((frame) => frame.includes(`.${port}: `));
      assert(control.answered > 0 && to(OTHERS_PORT).length > 0, "the control");
      assert(tries.rounds > 10, `${tries.rounds}`);
      assertEquals(to(AGENTS_PORT), [], "frames of the account");
      assertEquals(tries.answered, 0, "answers on loopback");
      assertEquals((await statusOf(world, agent)).state, "locked");
    });
  }
});

worldTest("a chain of our table that hangs elsewhere is mended in its place", async (world) => {
  const agent = await world.account();
  await lockIn(world, [agent], { backend: "nftables", onlyPorts: [3777] });
  const whole = await world.must("nft", "list", "table", "inet", "fishnet");
  // As an older version of the program had it; nft changes no priority of a chain that is there.
  const older = whole.replace("priority raw - 10", "priority filter - 10");
  assert(older !== whole);
  await world.must("nft", `delete table inet fishnet; ${older.replaceAll("\n", ";")}`);
  const { accounts: [account] } = await statusOf(world, agent);
  assertEquals(account!.state, "partial");
  const { detail, remedy } = account!.pieces.find(({ present }) => !present)!;
  assertEquals(detail, "inet fishnet: chain out was changed");
  assertEquals(
    remedy,
    `fishnet firewall enable --agent-user ${agent} --backend nftables --only-port 3777 --apply`,
  );
  await lockIn(world, [agent], {});
  // nft lists a chain that is made anew last.
  const lines = (text: string) => text.split("\n").sort();
  const mended = await world.must("nft", "list", "table", "inet", "fishnet");
  assertEquals(lines(mended), lines(whole));
  assertEquals((await statusOf(world, agent)).state, "locked");
});

worldTest("a saved rule set that somebody restores takes no port's limit away", async (world) => {
  const agent = await world.account();
  await lockIn(world, [agent], { backend: "iptables" });
  const saved = [await world.must("iptables-save"), await world.must("ip6tables-save")];
  await unlockIn(world, agent);
  await lockIn(world, [agent], { backend: "nftables", onlyPorts: [3777] });
  for (const [i, command] of ["iptables-restore", "ip6tables-restore"].entries()) {
    const { code, stderr } = await run(world.command(command), { input: saved[i]! });
    assertEquals(code, 0, stderr);
  }
  const told = (await statusOf(world, agent)).accounts[0]!;
  assertEquals([told.state, told.onlyPorts], ["partial", [3777]]);
  // What its note says.
  await lockIn(world, [agent], { backend: "iptables" });
  const { accounts: [now] } = await statusOf(world, agent);
  assertEquals([now!.state, now!.backend, now!.onlyPorts], ["locked", "iptables", [3777]]);
});

worldTest(
  "a rule that something stands above is moved on top, and leaves no copy",
  async (world) => {
    const agent = await world.account();
    const saved = async () =>
      (await Promise.all(["iptables-save", "ip6tables-save"].map((save) => world.must(save))))
        .map((text) => text.replaceAll(/^#.*\n|\[\d+:\d+\]/gm, "").trimEnd().split("\n"));
    const ports = ["--only-port", "3777"];
    await change(world, "enable", agent, "iptables", ...ports);
    const [locked] = await saved();
    const places = [["filter", "OUTPUT"], ["mangle", "POSTROUTING"], ["mangle", "OUTPUT"]] as const;
    for (let round = 1; round <= 3; round++) {
      for (const iptables of ["iptables", "ip6tables"]) {
        for (const [table, chain] of places) {
          const mark = ["-m", "mark", "--mark", `${round}`, "-j", "ACCEPT"];
          await world.must(iptables, "-t", table, "-I", chain, ...mark);
        }
      }
      const before = await saved();
      // Taken back, each rule stands where it stood.
      await paste(world, await lockIn(world, [agent]));
      assertEquals(await saved(), before);
      await change(world, "enable", agent, "iptables");
      assertEquals((await statusOf(world, agent)).state, "locked");
      const [now] = await saved();
      assertEquals(
        now!.filter((line) => !line.includes("--mark")).toSorted(),
        locked!.toSorted(),
      );
    }
  },
);

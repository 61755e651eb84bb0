/**
 * Every way out that a lock by user id alone leaves open, each by its name, with the frames
 * counted outside. What is said to be shut is tried by an account that is not locked as well. The
 * few ways that stay open are tests as well: they say so.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { lockIn } from "../support/inside.ts";
import { attempt, change, PORT, probe, sentAgain, serve, WAYS } from "../support/lock.ts";
import { linesOf, must, run } from "../support/process.ts";
import {
  INSIDE_V4,
  INSIDE_V6,
  OUTSIDE_V4,
  OUTSIDE_V6,
  PYTHON,
  type World,
  worldTest,
} from "../support/world.ts";

/** A way out: what it is called, the probe, where to, and what it looks like outside. */
type Way = readonly [name: string, vector: string, address: string, filter: string];

const bothFamilies = (name: string, vector: string, v4: string, v6: string): Way[] => [
  [`${name} over IPv4`, vector, OUTSIDE_V4, `src host ${INSIDE_V4} and (${v4})`],
  [`${name} over IPv6`, vector, OUTSIDE_V6, `src host ${INSIDE_V6} and (${v6})`],
];

const PLAIN: Way[] = [
  ...bothFamilies("TCP", "tcp", "tcp", "ip6 and tcp"),
  ...bothFamilies("UDP", "udp", "udp", "ip6 and udp"),
  ...bothFamilies("ping", "ping", "icmp[0] == 8", "icmp6 and ip6[40] == 128"),
];

/** Reserved for documentation (RFC 5737): beyond the outside's own network, and nobody's. */
const FAR = "198.51.100.9";

const GROUP_V4 = "239.77.0.1";
const GROUP_V6 = "ff02::7777";

/** The outside's link-local address, which the kernel chose. */
async function linkLocalOf(world: World): Promise<string> {
  const shown = await must("ip", "-n", world.outside, "-6", "-o", "addr", "show", "scope", "link");
  return /inet6 (fe80:[0-9a-f:]+)/.exec(shown)![1]!;
}

async function waysOf(world: World): Promise<Way[]> {
  const neighbour = await linkLocalOf(world);
  return [
    ...PLAIN,
    ...bothFamilies("MPTCP", "mptcp", "tcp", "ip6 and tcp"),
    ...bothFamilies("UDP-Lite", "udplite", "ip proto 136", "ip6 proto 136"),
    ...bothFamilies("TCP fast open", "tcp_fast_open", "tcp", "ip6 and tcp"),
    ...bothFamilies("UDP bound to the device", "udp_to_device", "udp", "ip6 and udp"),
    ["UDP bound to the device, to a far address", "udp_to_device", FAR, `ip dst ${FAR} and udp`],
    ...bothFamilies("UDP by IP_UNICAST_IF", "udp_unicast_if", "udp", "ip6 and udp"),
    ["UDP to a link-local address", "link_local", neighbour, `ip6 dst ${neighbour} and udp`],
    ["TCP to a link-local address", "link_local_tcp", neighbour, `ip6 dst ${neighbour} and tcp`],
    ["multicast over IPv4", "multicast", GROUP_V4, `ip dst ${GROUP_V4} and udp`],
    ["multicast over IPv6", "multicast", GROUP_V6, `ip6 dst ${GROUP_V6} and udp`],
    ["broadcast", "broadcast", "255.255.255.255", "ip dst 255.255.255.255"],
    ["broadcast to the subnet", "broadcast", "10.77.0.255", "ip dst 10.77.0.255"],
  ];
}

/**
 * Where the controls' connections lead: what one sends when the other end answers or closes comes
 * whenever that does, and is told from the locked account's by the port.
 */
const OTHERS_PORT = 4001;
const notOthers = (frames: readonly string[]) =>
  frames.filter((frame) => !frame.includes(`.${OTHERS_PORT}: `));

/** An open connection of an account: what is written to it, and what the kernel still sends. */
interface Held {
  writeAndExit(): Promise<void>;
}

async function hold(
  world: World,
  account: string,
  address: string,
  port = PORT,
  vector = "hold",
): Promise<Held> {
  const child = world.start(world.commandAs(account, ...probe(vector, address, port)), {
    stdin: "piped",
  });
  const lines = linesOf(child.stdout);
  assertEquals((await lines.read()).value, "connected");
  return {
    async writeAndExit() {
      const stdin = child.stdin.getWriter();
      await stdin.write(new TextEncoder().encode("now\n"));
      await stdin.close();
      await child.status;
      await lines.cancel();
      await sentAgain(world);
    },
  };
}

/**
 * Connects from outside, and waits for the greeting.
 *
 * @param seconds where there is to be none, no longer than an answer takes
 */
async function connectFromOutside(
  world: World,
  address: string,
  port: number,
  seconds = 0.5,
): Promise<void> {
  await run([
    ...["ip", "netns", "exec", world.outside, PYTHON, "-c"],
    `import socket; socket.create_connection(("${address}", ${port}), ${seconds}).recv(9)`,
  ]);
}

const DNAT_PORT = 7000;

/** Another program's redirect of one of this machine's own addresses to the outside. */
async function redirectOutside(world: World): Promise<void> {
  for (
    const [command, from, to] of [
      ["iptables", INSIDE_V4, `${OUTSIDE_V4}:${PORT}`],
      ["ip6tables", INSIDE_V6, `[${OUTSIDE_V6}]:${PORT}`],
    ] as const
  ) {
    await world.must(
      ...[command, "-w", "-t", "nat", "-A", "OUTPUT", "-d", from, "-p", "udp"],
      ...["--dport", `${DNAT_PORT}`, "-j", "DNAT", "--to-destination", to],
    );
  }
}

const FAMILIES = ["iptables", "ip6tables"] as const;

async function acceptFirst(world: World, chain: string, ...match: string[]): Promise<void> {
  for (const command of FAMILIES) {
    await world.must(command, "-w", "-I", chain, "1", ...match, "-j", "ACCEPT");
  }
}

/** The subordinate ranges of an account: by name, by number, overlapping, and of one uid alone. */
async function subordinate(
  world: World,
  agent: string,
): Promise<Record<"own" | "foreign", string[]>> {
  const uid = (await must("id", "-u", agent)).trim();
  const at = (offset: number) => world.firstUid + offset;
  await world.subordinate(
    ...[`${agent}:${at(0)}:1000`, `${uid}:${at(1500)}:100`, `${agent}:${at(500)}:700`],
    ...[`${agent}:${at(2000)}:1`, `${agent}x:${at(3000)}:100`],
  );
  return {
    own: [0, 999, 1000, 1199, 1500, 1599, 2000].map((offset) => `${at(offset)}`),
    foreign: [-1, 1200, 1600, 2001, 3000].map((offset) => `${at(offset)}`),
  };
}

for (const { backend, variant, label } of WAYS) {
  worldTest(`${label}: what a locked account tries`, async (world, t) => {
    const agent = await world.account();
    const other = await world.account();
    const { own: uids, foreign } = await subordinate(world, agent);
    for (const port of [PORT, OTHERS_PORT]) await serve(world, "outside", port);
    // As World.create() does: what waits for this neighbour's answer may leave when nobody looks any more.
    const met = await attempt(world, "root", "link_local_tcp", await linkLocalOf(world));
    assertEquals(met.stdout, "answered\n");
    await world.must("sysctl", "-qw", "net.ipv4.tcp_syncookies=2");
    await serve(world, { as: agent }, 5000);
    await serve(world, { as: other }, 5001);
    await acceptFirst(world, "OUTPUT");
    await acceptFirst(world, "OUTPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED");
    const held = [
      await hold(world, agent, OUTSIDE_V4),
      await hold(world, agent, OUTSIDE_V6),
    ];
    const heldByOther = await hold(world, other, OUTSIDE_V4, OTHERS_PORT);
    const fromEach = (accounts: readonly string[], port = PORT) => async () => {
      for (const account of accounts) {
        for (const [, vector, address] of PLAIN) {
          await attempt(world, account, vector, address, port);
        }
      }
    };
    const anything = PLAIN.map(([, , , filter]) => `(${filter})`).join(" or ");
    const rangesBefore = await world.captured(anything, fromEach(uids));
    const before = await world.state();
    await change(world, "enable", agent, backend);
    const locked = await world.state();

    /** The named leak: the control's frames are seen outside, the agent's are not. */
    const shut = (
      name: string,
      filter: string,
      tryIt: (account: string, port: number) => Promise<unknown>,
    ) =>
      t.step(name, async () => {
        const [frames, control] = await world.capturedEach(filter, [
          () => tryIt(agent, PORT),
          () => tryIt(other, OTHERS_PORT),
        ]);
        assertNotEquals(control, [], "the control");
        assertEquals(notOthers(frames!), []);
      });
    const allShut = async (when: string, ways: readonly Way[]) => {
      for (const [name, vector, address, filter] of ways) {
        const tryIt = (who: string, port: number) => attempt(world, who, vector, address, port);
        await shut(`${name}${when}`, filter, tryIt);
      }
    };

    await allShut("", await waysOf(world));

    await t.step("a refusal takes less than a second", async () => {
      for (const [name, vector, address] of await waysOf(world)) {
        // A machine with much to do may keep who tries waiting; what waits by itself does so each time.
        for (let tries = 1, took = Infinity; took >= 1000; tries++) {
          const { stdout } = await attempt(world, agent, vector, address);
          const said = /after ([0-9.]+) ms/.exec(stdout)?.[1];
          if (said === undefined) assertEquals(stdout, "sent\n", name); // not sent: counted above
          took = Number(said ?? 0);
          assert(took < 1000 || tries < 10, `${name}: ${stdout}`);
        }
      }
    });

    await t.step(
      "subordinate uids, in several and overlapping ranges, by name and number",
      async () => {
        assert(rangesBefore.length >= uids.length * PLAIN.length, "the control, before enable");
        assertEquals(await world.captured(anything, fromEach(uids)), []);
      },
    );

    await t.step("subordinate uids, bound to the device, which no routing rule sees", async () => {
      const boundAs = (accounts: readonly string[]) => async () => {
        for (const who of accounts) await attempt(world, who, "udp_to_device", OUTSIDE_V4);
      };
      const [frames, control] = await world.capturedEach("udp", [uids, foreign].map(boundAs));
      assertNotEquals(control, [], "the control");
      assertEquals(frames, []);
    });

    await t.step("uids beside those ranges, and of a longer name, are not locked", async () => {
      const frames = await world.captured("ip6 and udp", async () => {
        for (const uid of foreign) await attempt(world, uid, "udp", OUTSIDE_V6);
      });
      assert(frames.length >= foreign.length, frames.join("\n"));
    });

    const mapped = ["unshare", "--user", "--map-auto", "--setuid", "5", "--setgid", "5"];
    const denied = (await world.as(other, ...mapped, "true")).code !== 0;
    await t.step({
      name: "a user namespace with mapped uids, as rootless containers have" +
        (denied ? " (skipped: this system gives accounts none)" : ""),
      ignore: denied,
      async fn() {
        const inNamespace = (account: string) => async () => {
          const id = await world.as(account, ...mapped, "id", "-u");
          assertEquals(id.stdout, "5\n", id.stderr);
          await world.as(account, ...mapped, ...probe("udp", OUTSIDE_V4));
        };
        assertNotEquals(await world.captured("udp", inNamespace(other)), [], "the control");
        assertEquals(await world.captured("udp", inNamespace(agent)), []);
      },
    });

    await t.step("a connection open before enable: write, then exit", async () => {
      assertNotEquals(
        await world.captured(`tcp dst port ${OTHERS_PORT}`, () => heldByOther.writeAndExit()),
        [],
        "control",
      );
      const writeAndExit = () => Promise.all(held.map((connection) => connection.writeAndExit()));
      assertEquals(await world.captured(`tcp dst port ${PORT}`, writeAndExit), []);
    });

    for (const [family, address] of [["IPv4", INSIDE_V4], ["IPv6", INSIDE_V6]] as const) {
      await t.step(`a connection from outside under syncookies, over ${family}`, async () => {
        const answered = (port: number) =>
          world.captured(
            `tcp src port ${port}`,
            () => connectFromOutside(world, address, port),
          );
        assertNotEquals(await answered(5001), [], "the control");
        assertEquals(await answered(5000), []);
      });
    }

    await redirectOutside(world);
    for (const [family, address] of [["IPv4", INSIDE_V4], ["IPv6", INSIDE_V6]] as const) {
      await shut(
        `another program's DNAT from an own address to outside, over ${family}`,
        `udp dst port ${PORT}`,
        (who) => attempt(world, who, "udp", address, DNAT_PORT),
      );
    }

    const everythingShut = async () => {
      const [frames, control] = await world.capturedEach(anything, [
        fromEach([agent, ...uids.slice(-1)]),
        fromEach([other], OTHERS_PORT),
      ]);
      assert(control!.length >= PLAIN.length, `the control: ${control!.join("\n")}`);
      assertEquals(notOthers(frames!), []);
    };
    await t.step("an ACCEPT that another program puts first, after enable", async () => {
      await acceptFirst(world, "OUTPUT");
      await everythingShut();
    });

    await t.step("enable again puts the lock first again", async () => {
      await change(world, "enable", agent, backend);
      if (backend === "nftables") return; // a table of its own: nobody's rule stands before it
      for (const command of FAMILIES) {
        assert(
          (await world.must(command, "-w", "-S", "OUTPUT")).split("\n")[1]?.includes("REJECT"),
        );
      }
    });

    for (const [name, commands] of Object.entries(FLUSHES)) {
      await t.step(`after ${name}`, async () => {
        for (const command of commands) await world.must("sh", "-ec", command);
        await everythingShut();
        await lockIn(world, [agent], { backend });
        assertEquals(withoutOthers(await world.state()), withoutOthers(locked));
      });
    }

    await t.step("disable lets the account and its ranges out again", async () => {
      await change(world, "disable", agent, backend);
      assertEquals(withoutOthers(await world.state()), withoutOthers(before));
      const frames = await world.captured(anything, fromEach([agent, ...uids]));
      assert(frames.length >= (uids.length + 1) * PLAIN.length, frames.join("\n"));
    });
  }, variant);
}

/** What others do to the rules; the last takes our own table too. */
const FLUSHES = {
  "iptables -F": FAMILIES.flatMap((command) => [
    `${command} -w -F`,
    `${command} -w -t mangle -F`,
  ]),
  "another program's iptables-restore": FAMILIES.map((command) =>
    `printf "*filter\\nCOMMIT\\n*mangle\\nCOMMIT\\n" | ${command}-restore -w`
  ),
  "nft flush ruleset": ["nft flush ruleset"],
};

/** A state without what the test itself put there; our DROPs may stand in any order. */
function withoutOthers(state: string): string[] {
  return state.split("\n").filter((line) => !/-j (ACCEPT|DNAT)/.test(line)).sort();
}

const RELAY = `
import socket, threading
server = socket.create_server(("127.0.0.1", 1080))
print("listening", flush=True)
while True:
    client, _ = server.accept()
    upstream = socket.create_connection(("${OUTSIDE_V4}", ${PORT}), 3)
    client.send(upstream.recv(9))
    client.close()
`;

for (const { backend, variant, label } of WAYS) {
  worldTest(
    `${label}: what stays open to a locked account, as the README says`,
    async (world, t) => {
      const agent = await world.account();
      const other = await world.account();
      for (const port of [PORT, OTHERS_PORT]) await serve(world, "outside", port);
      await world.must("sysctl", "-qw", "net.ipv4.tcp_syncookies=2");
      const [held, control] = [
        await hold(world, agent, OUTSIDE_V4, PORT, "hold_on_device"),
        await hold(world, other, OUTSIDE_V4, OTHERS_PORT, "hold_on_device"),
      ];
      await change(world, "enable", agent, backend);
      // Measured on Linux 6.18: iptables' owner needs a live socket, nftables stops both.
      const asMeasured = backend === "iptables" ? assertNotEquals : assertEquals;

      await t.step("a connection bound to a device before enable, to a neighbour", async () => {
        const sent = (port: number, connection: Held) =>
          world.captured(`tcp dst port ${port}`, () => connection.writeAndExit());
        assertNotEquals(await sent(OTHERS_PORT, control), [], "control");
        asMeasured(await sent(PORT, held), []);
      });

      await t.step("a listener bound to a device, under syncookies, to a neighbour", async () => {
        const delivered = (account: string, port: number, seconds?: number) => {
          const filter = `tcp src port ${port} and tcp[13] & 8 != 0`; // with data: PSH
          return world.captured(filter, async () => {
            // Only now: it waits for a connection no longer than a minute.
            const listener = world.start(
              world.commandAs(account, ...probe("listen_on_device", "-", port)),
            );
            const lines = linesOf(listener.stdout);
            assertEquals((await lines.read()).value, "listening");
            await connectFromOutside(world, INSIDE_V4, port, seconds);
            await lines.cancel();
          });
        };
        const patient = 20;
        assertNotEquals(await delivered(other, 5003, patient), [], "control");
        asMeasured(await delivered(agent, 5002, backend === "iptables" ? patient : undefined), []);
      });

      for (
        const [name, group, filter] of [
          ["IGMP", "239.77.0.2", "igmp"],
          ["MLD", "ff0e::7777", "ip6 dst ff02::16"],
        ] as const
      ) {
        await t.step(`joining a multicast group: the kernel sends an ${name} report`, async () => {
          const frames = await world.capturedLater(filter, async () => {
            const joined = await attempt(world, agent, "join", group);
            assertEquals(joined.stdout, "sent\n");
          });
          assertNotEquals(frames, []);
        });
      }

      await t.step("a socket that root connected and handed over", async () => {
        const command = world.commandAs(agent, ...probe("handed_over", "-")).slice(4);
        const handOver = `import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("${OUTSIDE_V4}", ${PORT}))
os.dup2(s.fileno(), 0)
os.execvp(sys.argv[1], sys.argv[1:])`;
        const frames = await world.captured("udp", async () => {
          await world.must(PYTHON, "-c", handOver, ...command);
        });
        assertNotEquals(frames, []);
      });

      await t.step("a relay on loopback, which --only-port shuts", async () => {
        const relay = world.start(world.commandAs(other, PYTHON, "-c", RELAY));
        const lines = linesOf(relay.stdout);
        assertEquals((await lines.read()).value, "listening");
        await lines.cancel();
        const relayed = () => attempt(world, agent, "tcp", "127.0.0.1", 1080);
        assertNotEquals(await world.capturedLater(`tcp dst port ${PORT}`, relayed), []);
        await change(world, "enable", agent, backend, "--only-port", "3777");
        assertEquals(await world.captured(`tcp dst port ${PORT}`, relayed), []);
      });
    },
    variant,
  );
}

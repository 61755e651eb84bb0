/** `--only-port`: loopback too is limited to the named TCP ports. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { attempt, change, serve, WAYS } from "../support/lock.ts";
import { linesOf, must } from "../support/process.ts";
import { INSIDE_V4, INSIDE_V6, PYTHON, worldTest } from "../support/world.ts";

const OWN_ADDRESSES = ["127.0.0.1", "::1", INSIDE_V4, INSIDE_V6];
const STUB = "127.0.0.53";

/** For each line of its input, sends to a port from one of its own; says what it hears there. */
const TALKER = `
import errno, socket, sys, threading
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("${INSIDE_V6}", 5555))
def hear():
    while True:
        text = s.recv(99).decode().strip()
        if text != "hello": print(text, flush=True) # that is the service's answer
threading.Thread(target=hear, daemon=True).start()
print("listening", flush=True)
for line in sys.stdin:
    try:
        s.sendto(b"x", ("${INSIDE_V6}", 5300))
        print("sent", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
`;

/** Sends a datagram to that port from outside: as itself, or as if it came from the other port. */
const OUTSIDE = `
import socket, struct, sys
own, mac, text = sys.argv[1], sys.argv[2], sys.argv[3].encode()
if mac == "-":
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(text, (own, 5555))
else:
    address = socket.inet_pton(socket.AF_INET6, own)
    datagram = struct.pack("!HHHH", 5300, 5555, 8 + len(text), 0) + text
    pseudo = address + address + struct.pack("!II", len(datagram), 17) + datagram
    pseudo += bytes(len(pseudo) % 2)
    total = sum(struct.unpack("!%dH" % (len(pseudo) // 2), pseudo))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    datagram = datagram[:6] + struct.pack("!H", ~total & 0xffff or 0xffff) + datagram[8:]
    header = struct.pack("!IHBB", 6 << 28, len(datagram), 17, 64) + address + address
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("in0", 0))
    here = s.getsockname()[4]
    s.send(bytes.fromhex(mac.replace(":", "")) + here + bytes.fromhex("86dd") + header + datagram)
`;

for (const { backend, variant, label } of WAYS) {
  worldTest(`${label}: loopback limited to the proxy's port`, async (world, t) => {
    const agent = await world.account();
    const other = await world.account();
    await world.subordinate(`${agent}:${world.firstUid}:100`);
    const accounts = [agent, `${world.firstUid + 7}`];
    await serve(world, { as: other }, 3777);
    await serve(world, { as: other }, 8080);
    await serve(world, { as: other }, 9050);
    await serve(world, { as: agent }, 4002);
    await serve(world, { as: "root" }, 53, `::ffff:${STUB}`);
    const before = await world.state();
    await change(world, "enable", agent, backend, "--only-port", "3777", "--only-port", "8080");

    /** Tried by the account and by a subordinate uid of its; another account is the control. */
    const refused = async (vector: string, address: string, port: number) => {
      const control = await attempt(world, other, vector, address, port);
      assertEquals(control.stdout, "answered\n", "the control");
      for (const uid of accounts) {
        // A machine with much to do may keep who tries waiting; what waits by itself does so each time.
        for (let tries = 1, took = Infinity; took >= 500; tries++) {
          const { stdout } = await attempt(world, uid, vector, address, port);
          const [, said] =
            /^E(?:CONNREFUSED|ACCES|PERM|HOSTUNREACH) after ([0-9.]+) ms/.exec(stdout) ?? [];
          took = Number(said);
          assert(took < 500 || took >= 500 && tries < 10, `${uid} ${vector} ${address}: ${stdout}`);
        }
      }
    };
    const allowed = async (account: string, address: string, port: number) => {
      const { stdout } = await attempt(world, account, "tcp", address, port);
      assertEquals(stdout, "answered\n", `${account} to ${address} port ${port}`);
    };

    await t.step("the ports are reachable over every address of this machine", async () => {
      for (const address of OWN_ADDRESSES) {
        for (const port of [3777, 8080]) {
          for (const uid of accounts) await allowed(uid, address, port);
        }
      }
    });

    await t.step("a relay on another port is refused at once", async () => {
      for (const address of OWN_ADDRESSES) await refused("tcp", address, 9050);
    });

    await t.step("UDP is refused at once, to the same port too", async () => {
      for (const address of OWN_ADDRESSES) await refused("udp_answered", address, 3777);
    });

    await t.step("a DNS stub is refused at once", async () => {
      for (const vector of ["udp_answered", "tcp"]) await refused(vector, STUB, 53);
    });

    await t.step("a broadcast reaches no service of this machine", async () => {
      const heard = async (who: string) =>
        (await attempt(world, who, "broadcast_answered", "10.77.0.255", 9050)).stdout;
      assertEquals(await heard(other), "answered\n", "the control");
      for (const uid of accounts) assertMatch(await heard(uid), /^TimeoutError/, uid);
    });

    await t.step("where connections are not tracked, all of that is refused, too", async () => {
      const untrack = (change: "-A" | "-D") =>
        Promise.all(["iptables", "ip6tables"].map((command) =>
          world.must(
            ...[command, "-w", "-t", "raw", change, "OUTPUT", "-o", "lo", "-j", "CT", "--notrack"],
          )
        ));
      await untrack("-A");
      for (const address of OWN_ADDRESSES) {
        await refused("tcp", address, 9050);
        await refused("udp_answered", address, 3777);
        for (const uid of accounts) await allowed(uid, address, 3777);
      }
      for (const vector of ["udp_answered", "tcp"]) await refused(vector, STUB, 53);
      await untrack("-D");
    });

    await t.step("the account's own server still answers others", async () => {
      for (const address of OWN_ADDRESSES) {
        for (const vector of ["tcp", "udp_answered"]) {
          const { stdout } = await attempt(world, other, vector, address, 4002);
          assertEquals(stdout, "answered\n", `${vector} to ${address}`);
        }
      }
    });

    await t.step("enable again changes nothing", async () => {
      const locked = await world.state();
      await change(world, "enable", agent, backend, "--only-port", "3777", "--only-port", "8080");
      assertEquals(await world.state(), locked);
    });

    await t.step(
      "enable with no ports loosens nothing; with others it changes them in place",
      async () => {
        const locked = await world.state();
        const { stderr } = await change(world, "enable", agent, backend);
        assertMatch(stderr, /--only-port 3777 --only-port 8080 stays as it was/);
        assertEquals(await world.state(), locked);
        await change(world, "enable", agent, backend, "--only-port", "9050");
        for (const uid of accounts) await allowed(uid, "127.0.0.1", 9050);
        for (const port of [3777, 8080]) await refused("tcp", "127.0.0.1", port);
      },
    );

    await t.step("disable gives loopback back, and leaves nothing", async () => {
      await change(world, "disable", agent, backend);
      assertEquals(await world.state(), before);
      await allowed(agent, "127.0.0.1", 9050);
      assertMatch((await attempt(world, agent, "udp_answered", STUB, 53)).stdout, /^answered/);
    });
  }, variant);

  worldTest(
    `${label}: what looks like a reply, to a port that others open later`,
    async (world) => {
      const agent = await world.account();
      const other = await world.account();
      await world.subordinate(`${agent}:${world.firstUid}:100`);
      await change(world, "enable", agent, backend, "--only-port", "3777");
      const connect = async (who: string, port: number) => {
        const { stdout } = await attempt(world, who, "half_open", "127.0.0.1", port);
        assertEquals(stdout, "sent\n");
        await serve(world, { as: other }, port);
        return (await attempt(world, who, "as_reply", "127.0.0.1", port)).stdout;
      };
      assertEquals(await connect(other, 9061), "answered\n", "the control");
      assertMatch(await connect(agent, 9062), /^ECONNREFUSED after/);
      assertMatch(await connect(`${world.firstUid + 7}`, 9063), /^ECONNREFUSED after/);
    },
    variant,
  );

  worldTest(
    `${label}: a datagram from outside in this machine's name opens no port of it`,
    async (world) => {
      const agent = await world.account();
      const other = await world.account();
      await serve(world, { as: other }, 5300);
      await change(world, "enable", agent, backend, "--only-port", "3777");
      const mac = /link\/ether (\S+)/.exec(
        await world.must("ip", "-o", "link", "show", "out0"),
      )![1]!;
      const send = (text: string, as: string) =>
        must("ip", "netns", "exec", world.outside, PYTHON, "-c", OUTSIDE, INSIDE_V6, as, text);
      /** What an account is told as it sends, and what it hears after these datagrams. */
      const talk = async (who: string, before: () => Promise<unknown>, count: number) => {
        const talker = world.start(world.commandAs(who, PYTHON, "-uc", TALKER), { stdin: "piped" });
        const lines = linesOf(talker.stdout);
        const input = talker.stdin.getWriter();
        const heard: (string | undefined)[] = [(await lines.read()).value];
        await before();
        for (let i = 0; i < count; i++) heard.push((await lines.read()).value);
        await input.write(new TextEncoder().encode("now\n"));
        heard.push((await lines.read()).value);
        await input.close();
        await lines.cancel();
        await talker.status;
        return heard;
      };
      const both = async () => {
        await send("masked", mac);
        await send("plain", "-");
      };
      assertEquals(await talk(other, both, 1), ["listening", "plain", "sent"]);
      assertEquals(await talk(agent, both, 1), ["listening", "plain", "EPERM"]);
      await change(world, "disable", agent, backend);
      const open = ["listening", "masked", "plain", "sent"];
      assertEquals(await talk(agent, both, 2), open, "the control");
    },
    variant,
  );
}

/**
 * An address of this machine's that goes: it lapses (an autoconfigured one), or a VPN ends. What is
 * then answered on loopback, to a connection that an account made from it, leaves by the real device.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { attempt, change, probe, sentAgain, serve, WAYS } from "../support/lock.ts";
import { linesOf } from "../support/process.ts";
import { INSIDE_V6, PYTHON, type World, worldTest } from "../support/world.ts";

/** As in `probe.py`. */
const LAPSING = "fd77::7";

/** The ports of who is locked, and of who is not: what these have left is sent again for a while. */
const [HELD, FREE] = [3777, 3778];

/** A service that answers, with what it was told, when that address is gone; it ends by itself. */
const LATE = `
import socket, sys, time
s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6)
print("listening", flush=True)
s.settimeout(60)
c, _ = s.accept()
said = c.recv(99)
while "${"fd77".padEnd(31, "0")}7" in open("/proc/net/if_inet6").read(): time.sleep(0.01)
c.send(b"404 " + said)
time.sleep(0.1)
`;

/** Sends in parts what is too long to be put together again: ipv6(7) has the options' numbers. */
const PARTS = `
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.IPPROTO_IPV6, 24, 1280)  # IPV6_MTU
    s.setsockopt(socket.IPPROTO_IPV6, 23, 0)  # IPV6_MTU_DISCOVER
    s.bind((sys.argv[1], 0))
    s.sendto(b"x" * 65500, (sys.argv[2], int(sys.argv[3])))
`;

/** Lets an account try while the address goes, as soon as it has a connection from there, or none. */
async function whileItGoes(
  world: World,
  who: string,
  vector: string,
  address: string,
  port: number,
): Promise<boolean> {
  await world.must("ip", "addr", "add", `${LAPSING}/64`, "dev", "out0", "nodad");
  const child = world.start(world.commandAs(who, ...probe(vector, address, port)));
  let isOver = false;
  const over = child.status.then(() => isOver = true);
  const established = ["ss", "-Htn", "state", "established", "src", `[${LAPSING}]`];
  let isConnected = false;
  while (!isOver && !isConnected) {
    isConnected = (await world.must(...established)) !== "";
  }
  await world.must("ip", "addr", "del", `${LAPSING}/64`, "dev", "out0");
  await over;
  return isConnected;
}

for (const { backend, variant, label } of WAYS) {
  worldTest(`${label}: an address that goes has no answer follow it`, async (world, t) => {
    const agent = await world.account();
    const other = await world.account();
    // Known, so that what is for it leaves at once.
    const neighbour = [LAPSING, "lladdr", "02:00:00:00:00:09", "dev", "out0", "nud", "permanent"];
    await world.must("ip", "neigh", "add", ...neighbour);
    const before = await world.state();

    const outwards = (port: number) => `tcp src port ${port} and dst host ${LAPSING}`;
    /** The frames of what a service says to it, after it has gone. */
    const answered = async (who: string, port: number) => {
      const service = world.start(world.commandAs(other, PYTHON, "-c", LATE, "::1", `${port}`));
      const lines = linesOf(service.stdout);
      assertEquals((await lines.read()).value, "listening");
      lines.releaseLock();
      return await world.captured(outwards(port), async () => {
        if (!await whileItGoes(world, who, "lapsing", "::1", port)) service.kill("SIGKILL");
        await service.status;
      });
    };

    /** The resets of nobody's to it, for what nobody has left to send. */
    const resets = (who: string, port: number) =>
      world.captured(outwards(port), async () => {
        assert(await whileItGoes(world, who, "lapsing_orphan", INSIDE_V6, port));
        await sentAgain(world);
      });

    // A neighbour fills the room for parts, or many fill it here; after a minute the kernel reports.
    const room = ["low_thresh=20000", "high_thresh=30000", "time=2"];
    await world.must("sysctl", "-qw", ...room.map((one) => `net.ipv6.ip6frag_${one}`));
    /** The kernel's reports to it on what never came whole; in each is the first part. */
    const reports = async (who: string, port: number) => {
      for (let tries = 1;; tries++) {
        let isGone = false;
        const filter = `icmp6 and dst host ${LAPSING} and ip6[98:2] = ${port}`;
        const frames = await world.captured(filter, async () => {
          await world.must("ip", "addr", "add", `${LAPSING}/64`, "dev", "out0", "nodad");
          const start = performance.now();
          await world.as(who, PYTHON, "-c", PARTS, LAPSING, INSIDE_V6, `${port}`);
          await world.must("ip", "addr", "del", `${LAPSING}/64`, "dev", "out0");
          isGone = performance.now() - start < 2000; // before the report
          while (!(await world.must("cat", "/proc/net/sockstat6")).includes("FRAG6: inuse 0 ")) {
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
        });
        if (isGone) return frames;
        assert(tries < 10, "the address went too late");
      }
    };

    await t.step("without a lock it does", async () => {
      assertNotEquals(await answered(agent, FREE), []);
      assertNotEquals(await resets(agent, FREE), []);
      assertNotEquals(await reports(agent, FREE), []);
    });

    for (const options of [[], ["--only-port", "3777"]]) {
      await t.step(["with the lock it does not", ...options].join(" "), async () => {
        await change(world, "enable", agent, backend, ...options);
        assertEquals(await answered(agent, HELD), []);
        assertEquals(await resets(agent, HELD), []);
        // With ports no datagram of its gets so far.
        if (options.length === 0) assertEquals(await reports(agent, HELD), []);
        assertNotEquals(await answered(other, FREE), [], "the control");
      });
    }

    await t.step(
      "to ::1 from ::1, and to an own address, connections stand as before",
      async () => {
        await serve(world, { as: other }, HELD);
        for (const address of ["::1", INSIDE_V6]) {
          assertEquals((await attempt(world, agent, "tcp", address, HELD)).stdout, "answered\n");
        }
      },
    );

    await t.step("disable leaves everything as it was", async () => {
      await change(world, "disable", agent, backend);
      assertEquals(await world.state(), before);
    });
  }, variant);
}

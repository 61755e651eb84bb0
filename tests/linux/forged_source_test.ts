/**
 * A packet to this machine's own IPv6 address, from a source that is not this machine's: any account may
 * bind to one (IP_FREEBIND), and the kernel's answer goes there, with what was sent in it, as nobody's.
 */
import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { attempt, change, WAYS } from "../support/lock.ts";
import { linesOf } from "../support/process.ts";
import { INSIDE_V4, INSIDE_V6, PYTHON, worldTest } from "../support/world.ts";

/** Somebody's service on every address. */
const LISTEN = `import socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6)
print("listening", flush=True)
while True: s.accept()`;

/** As in `probe.py`. */
const SOURCE = "2001:db8::bad";

for (const { backend, variant, label } of WAYS) {
  worldTest(`${label}: a foreign IPv6 source on loopback has no answer`, async (world, t) => {
    const agent = await world.account();
    const other = await world.account();
    await world.subordinate(`${agent}:${world.firstUid}:100`);
    const before = await world.state();

    /** What came out of a try by each, and what the one who tried was told. */
    const tried = async (who: string, vector: string, address: string) => {
      let told = "";
      const frames = await world.captured(`dst ${SOURCE}`, async () => {
        told = (await attempt(world, who, vector, address, 9)).stdout;
      });
      return { frames: frames.length, told };
    };

    for (const options of [[], ["--only-port", "3777"]]) {
      await change(world, "enable", agent, backend, ...options);
      for (const vector of ["forged_udp", "forged_tcp", "forged_ping"]) {
        for (const address of ["::1", INSIDE_V6]) {
          await t.step([vector, "to", address, ...options].join(" "), async () => {
            const control = await tried(other, vector, address);
            assertNotEquals(control.frames, 0, `the control: ${control.told}`);
            for (const who of [agent, `${world.firstUid + 7}`]) {
              const { frames, told } = await tried(who, vector, address);
              assertEquals(frames, 0, `${who}: ${told}`);
              // A subordinate gid may be above those that may ping (ping_group_range).
              assertMatch(told, who === agent ? /^sent|^EPERM/ : /^sent|^E(PERM|ACCES)/);
            }
          });
        }
      }
    }

    await t.step("a link-local address of another device is such a source", async () => {
      const linkLocal = async (device: string) => {
        const list = `ip -6 -o addr show dev ${device} scope link`;
        await world.must("timeout", "10", "sh", "-c", `until ${list} | grep -q fe80; do :; done`);
        return /inet6 (\S+)\//.exec(await world.must(...list.split(" ")))![1]!;
      };
      await world.must(..."ip link add d0 type veth peer name d1".split(" "));
      for (const end of ["d0", "d1"]) await world.must("ip", "link", "set", end, "up");
      const [source, own] = [await linkLocal("d0"), await linkLocal("out0")];
      const neighbour = ["lladdr", "02:00:00:00:00:09", "dev", "out0", "nud", "permanent"];
      await world.must("ip", "neigh", "add", source, ...neighbour);
      const answers = (who: string) =>
        world.captured(
          `dst host ${source}`,
          () => attempt(world, who, "other_device", own, 9),
        );
      assertNotEquals(await answers(other), []);
      assertEquals(await answers(agent), []);

      // As an address to reach, it is answered by the device of who asks, not by its own.
      const resets = async (who: string, port: number) => {
        const lines = linesOf(world.start(world.command(PYTHON, "-c", LISTEN, `${port}`)).stdout);
        assertEquals((await lines.read()).value, "listening");
        lines.releaseLock();
        // What the service says again and again comes in the time of the next try, too.
        return await world.captured(
          `dst host ${source} and tcp dst port ${port}`,
          () => attempt(world, who, "scoped", INSIDE_V6, port),
        );
      };
      assertNotEquals(await resets(other, 9056), []);
      assertEquals(await resets(agent, 3777), [], "a port that is left");
      await change(world, "disable", agent, backend);
      await change(world, "enable", agent, backend);
      assertEquals(await resets(agent, 9057), []);
      await world.must("ip", "link", "del", "d0");
      await world.must("ip", "neigh", "del", source, "dev", "out0");
    });

    await t.step("over IPv4, the address of a device in a VRF, say, is such a source", async () => {
      await change(world, "enable", agent, backend);
      await world.must(..."ip link add d2 type veth peer name d3".split(" "));
      await world.must(..."ip addr add 192.0.2.1/32 dev d2".split(" "));
      for (const end of ["d2", "d3"]) await world.must("ip", "link", "set", end, "up");
      // What a VRF has in a table of its own is missing in this one.
      await world.must(..."ip route del local 192.0.2.1 table local".split(" "));
      const answers = (who: string) =>
        world.captured(
          "dst host 192.0.2.1",
          () => attempt(world, who, "foreign_v4", INSIDE_V4, 9),
        );
      assertNotEquals(await answers(other), []);
      assertEquals(await answers(agent), []);
      await world.must("ip", "link", "del", "d2");
    });

    await t.step("disable leaves everything as it was", async () => {
      await change(world, "disable", agent, backend);
      assertEquals(await world.state(), before);
      assertNotEquals((await tried(agent, "forged_udp", "::1")).frames, 0);
    });
  }, variant);
}

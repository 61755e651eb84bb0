/**
 * A machine that routes multicast: of what an account sends by one of the router's devices the kernel
 * loops a copy back to the router, as nobody's, before POSTROUTING is asked.
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { attempt, change, WAYS } from "../support/lock.ts";
import { linesOf } from "../support/process.ts";
import { PYTHON, worldTest } from "../support/world.ts";

const GROUP = "239.77.0.1";
const SOURCE = "10.78.0.1";

/** Sends on by out0 what comes from SOURCE by d0 (MRT_INIT, MRT_ADD_VIF, MRT_ADD_MFC: linux/mroute.h). */
const ROUTER = `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
s.setsockopt(socket.IPPROTO_IP, 200, 1)
for number, device in enumerate(("d0", "out0")):
    index = socket.if_nametoindex(device)
    s.setsockopt(socket.IPPROTO_IP, 202, struct.pack("=HBBIi4x", number, 8, 1, 0, index))
address = socket.inet_aton
ttls = bytes([0, 1]) + bytes(30)
route = struct.pack("@4s4sH32sIIIi", address("${SOURCE}"), address("${GROUP}"), 0, ttls, 0, 0, 0, 0)
s.setsockopt(socket.IPPROTO_IP, 204, route)
print("routing", flush=True)
sys.stdin.read()
`;

for (const { backend, variant, label } of WAYS) {
  worldTest(`${label}: a router of multicast sends nothing on`, async (world, t) => {
    const agent = await world.account();
    const other = await world.account();
    const subordinate = world.firstUid + 7;
    await world.subordinate(`${agent}:${world.firstUid}:10`);
    await world.must(..."ip link add d0 type veth peer name d1".split(" "));
    await world.must("ip", "addr", "add", `${SOURCE}/24`, "dev", "d0");
    for (const end of ["d0", "d1"]) await world.must("ip", "link", "set", end, "up");
    const router = world.start(["ip", "netns", "exec", world.inside, PYTHON, "-c", ROUTER], {
      stdin: "piped",
    });
    const lines = linesOf(router.stdout);
    assertEquals((await lines.read()).value, "routing");
    await lines.cancel();
    const before = await world.state();
    const sentOn = (who: string) =>
      world.captured(
        `udp and dst host ${GROUP}`,
        () => attempt(world, who, "multicast_by_d0", GROUP),
      );

    for (const options of [[], ["--only-port", "3777"]]) {
      await t.step(["of a locked account", ...options].join(" "), async () => {
        assertNotEquals(await sentOn(`${subordinate}`), [], "without a lock");
        await change(world, "enable", agent, backend, ...options);
        assertNotEquals(await sentOn(other), [], "the control");
        for (const who of [agent, `${subordinate}`]) assertEquals(await sentOn(who), [], who);
        await change(world, "disable", agent, backend);
        assertEquals(await world.state(), before);
      });
    }
  }, variant);
}

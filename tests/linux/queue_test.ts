/**
 * Packets that wait for a program's word before others' rules see them (NFQUEUE): whose socket is closed
 * meanwhile, they are nobody's. The table of nftables is asked before.
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { attempt, change } from "../support/lock.ts";
import { linesOf } from "../support/process.ts";
import { OUTSIDE_V4, PYTHON, worldTest } from "../support/world.ts";

/** Reads queue 7, lets each packet go after a while, and says so (linux/netfilter/nfnetlink_queue.h). */
const READER = `import socket, struct, time
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
def say(kind, attribute, value):
    head = struct.pack("=HH", 4 + len(value), attribute)
    body = struct.pack("=BBH", 0, 0, socket.htons(7)) + head + value + bytes(-len(value) % 4)
    s.send(struct.pack("=IHHII", 16 + len(body), 3 << 8 | kind, 1, 0, 0) + body)
say(2, 1, struct.pack("=BBH", 1, 0, socket.htons(2)))
say(2, 2, struct.pack("!IB", 65535, 2))
print("bound", flush=True)
while True:
    packet, at = s.recv(65536), 20
    if struct.unpack_from("=H", packet, 4)[0] != 3 << 8: continue
    while struct.unpack_from("=H", packet, at + 2)[0] & 0x3FFF != 1:
        at += struct.unpack_from("=H", packet, at)[0] + 3 & ~3
    number = packet[at + 4:at + 8]
    time.sleep(0.3)
    say(1, 2, struct.pack("!I", 1) + number)
    print("let go", flush=True)
`;

const BEHIND = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 4444))
s.sendto(b"x", ("${OUTSIDE_V4}", 4000))`;

worldTest("nftables: what another program keeps in a queue is refused before", async (world) => {
  const [agent, other] = [await world.account(), await world.account()];
  await world.subordinate(`${agent}:${world.firstUid}:100`);
  await change(world, "enable", agent, "nftables");
  for (const table of ["mangle", "raw"]) {
    const queue = ["-p", "udp", "--dport", "4000", "-j", "NFQUEUE", "--queue-num", "7"];
    await world.must("iptables", "-t", table, "-A", "OUTPUT", ...queue);
  }
  const lines = linesOf(world.start(world.command(PYTHON, "-c", READER)).stdout);
  assertEquals((await lines.read()).value, "bound");
  /**
   * The frames of a datagram by the device alone, whose socket is closed at once. Root's comes behind it, so
   * that there is always something to wait for.
   *
   * @param turns how often something is let go
   */
  const frames = (who: string, turns: number) =>
    world.captured("udp dst port 4000 and not src port 4444", async () => {
      await attempt(world, who, "udp_to_device", OUTSIDE_V4, 4000);
      await world.must(PYTHON, "-c", BEHIND);
      for (let i = 0; i < turns; i++) assertEquals((await lines.read()).value, "let go");
    });
  assertNotEquals(await frames(other, 4), [], "the control");
  for (const who of [agent, `${world.firstUid + 7}`]) {
    assertEquals(await frames(who, 2), [], who);
  }
  lines.releaseLock();
});

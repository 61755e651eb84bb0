/** A lock on a real account, with real packets: what leaves, and what must still work. */
import { assert, assertEquals } from "@std/assert";
import { linesOf } from "../support/process.ts";
import {
  OUTSIDE_V4,
  OUTSIDE_V6,
  PYTHON,
  type Variant,
  type World,
  worldTest,
} from "../support/world.ts";

const PROBE = new URL("../support/probe.py", import.meta.url).pathname;
const SERVER = new URL("../support/server.py", import.meta.url).pathname;
const PORT = 4000;

async function serve(world: World, ns: string, port: number): Promise<void> {
  const child = world.start(["ip", "netns", "exec", ns, PYTHON, SERVER, `${port}`]);
  const lines = linesOf(child.stdout);
  assertEquals((await lines.read()).value, "listening");
  lines.releaseLock();
}

const VECTORS: readonly (readonly [vector: string, address: string, filter: string])[] = [
  ["tcp", OUTSIDE_V4, "ip and tcp"],
  ["tcp", OUTSIDE_V6, "ip6 and tcp"],
  ["udp", OUTSIDE_V4, "ip and udp"],
  ["udp", OUTSIDE_V6, "ip6 and udp"],
  ["ping", OUTSIDE_V4, "icmp"],
  ["ping", OUTSIDE_V6, "icmp6 and ip6[40] == 128"],
];

for (
  const [backend, variant] of [
    ["iptables", "nft"],
    ["iptables", "legacy"],
    ["nftables", "nft"],
  ] as const satisfies readonly (readonly [string, Variant])[]
) {
  worldTest(
    `${backend} (${variant}): a locked account sends nothing out, others do`,
    async (world, t) => {
      const agent = await world.account();
      const other = await world.account();
      await serve(world, world.outside, PORT);
      const before = await world.state();
      const enabled = await world.fishnet(
        ...["firewall", "enable", "--agent-user", agent, "--backend", backend, "--apply"],
      );
      assertEquals(enabled.code, 0, enabled.stderr);
      for (const [vector, address, filter] of VECTORS) {
        await t.step(`${vector} to ${address}`, async () => {
          const attempt = (account: string) => async () => {
            await world.as(account, PYTHON, PROBE, vector, address, `${PORT}`);
          };
          assert((await world.captured(filter, attempt(other))).length > 0, "the control got out");
          assertEquals(await world.captured(filter, attempt(agent)), []);
        });
      }
      const disabled = await world.fishnet(
        ...["firewall", "disable", "--agent-user", agent, "--backend", backend, "--apply"],
      );
      assertEquals(disabled.code, 0, disabled.stderr);
      assertEquals(await world.state(), before);
    },
    variant,
  );
}

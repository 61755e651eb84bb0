/**
 * A packet to this machine's own IPv6 address, from a source that is not this machine's: any account may
 * bind to one (IP_FREEBIND), and the kernel's answer goes there, with what was sent in it, as nobody's.
 */
import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { attempt, change, WAYS } from "../support/lock.ts";
import { INSIDE_V6, worldTest } from "../support/world.ts";

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

    await t.step("disable leaves everything as it was", async () => {
      await change(world, "disable", agent, backend);
      assertEquals(await world.state(), before);
      assertNotEquals((await tried(agent, "forged_udp", "::1")).frames, 0);
    });
  }, variant);
}

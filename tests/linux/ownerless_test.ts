/**
 * What the kernel sends as nobody's, to an address of this machine, by a real device: any account can
 * have it do that, with both ends of a connection over loopback of its own. The rule against it is of
 * no uid, so what gets through is the same try without a lock.
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { attempt, change, serve, WAYS } from "../support/lock.ts";
import { INSIDE_V4, INSIDE_V6, worldTest } from "../support/world.ts";

/** How `probe.py` has it send, and to which of this machine's addresses. */
const TRIES = [
  ["time_wait", INSIDE_V4],
  ["time_wait", INSIDE_V6],
  ["orphan", INSIDE_V4],
  ["refused", INSIDE_V4],
] as const;

for (const { backend, variant, label } of WAYS) {
  worldTest(`${label}: nothing of nobody's leaves for this machine itself`, async (world, t) => {
    const agent = await world.account();
    const other = await world.account();
    // Known neighbours, so that nothing waits for one, or is asked for again, when the lock comes.
    for (const address of ["127.1.2.3", "127.1.2.7", INSIDE_V6]) {
      const neighbour = [address, "lladdr", "02:00:00:00:00:09", "dev", "out0", "nud", "permanent"];
      await world.must("ip", "neigh", "add", ...neighbour);
    }
    const before = await world.state();
    /** The frames outside that are for an address that no other machine has. */
    const out = (who: string, [vector, address]: typeof TRIES[number]) =>
      world.captured(
        `net 127.0.0.0/8 or (tcp and dst host ${INSIDE_V6})`,
        () => attempt(world, who, vector, address),
      );

    await t.step("without a lock it does", async () => {
      for (const way of TRIES.slice(0, 3)) assertNotEquals(await out(agent, way), [], way.join());
    });

    for (const options of [[], ["--only-port", "3777"]]) {
      await t.step(["with the lock it does not", ...options].join(" "), async () => {
        await change(world, "enable", agent, backend, ...options);
        for (const way of TRIES) {
          for (const who of [agent, `${world.firstUid + 7}`]) {
            assertEquals(await out(who, way), [], `${who} ${way.join()}`);
          }
        }
      });
    }

    await t.step("another account's own packets leave as before", async () => {
      await serve(world, "outside");
      assertEquals((await attempt(world, other, "tcp", INSIDE_V4.replace(/1$/, "2"))).code, 0);
    });

    await t.step("disable leaves everything as it was", async () => {
      await change(world, "disable", agent, backend);
      assertEquals(await world.state(), before);
      assertNotEquals(await out(agent, TRIES[0]), []);
    });
  }, variant);
}

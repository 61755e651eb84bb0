/** A lock on a real account: what must still work, for the account and for everyone else. */
import { assertEquals } from "@std/assert";
import { attempt, change, PORT, serve, WAYS } from "../support/lock.ts";
import { INSIDE_V4, INSIDE_V6, OUTSIDE_V4, OUTSIDE_V6, worldTest } from "../support/world.ts";

for (const { backend, variant, label } of WAYS) {
  worldTest(`${label}: what works while an account is locked`, async (world, t) => {
    const agent = await world.account();
    const other = await world.account();
    await serve(world, "outside");
    await serve(world, { as: other }, 4001);
    await serve(world, { as: agent }, 4002);
    const before = await world.state();
    await change(world, "enable", agent, backend);
    const answered = async (account: string, address: string, port: number) => {
      for (const vector of ["tcp", "udp_answered"]) {
        const { stdout } = await attempt(world, account, vector, address, port);
        assertEquals(stdout, "answered\n", `${vector} to ${address}`);
      }
    };

    for (const address of ["127.0.0.1", "::1", INSIDE_V4, INSIDE_V6]) {
      await t.step(
        `the account reaches others' servers on ${address}`,
        () => answered(agent, address, 4001),
      );
    }

    await t.step("others reach the account's servers on this machine", async () => {
      for (const address of ["127.0.0.1", "::1", INSIDE_V4, INSIDE_V6]) {
        await answered(other, address, 4002);
      }
    });

    await t.step("others, and root, reach the outside", async () => {
      for (const account of [other, "root"]) {
        for (const address of [OUTSIDE_V4, OUTSIDE_V6]) await answered(account, address, PORT);
      }
    });

    await t.step("disable leaves everything as it was", async () => {
      await change(world, "disable", agent, backend);
      assertEquals(await world.state(), before);
      await answered(agent, OUTSIDE_V4, PORT);
    });
  }, variant);
}

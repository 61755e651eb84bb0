/** Runs at the same time: they end as if one had waited for the other. */
import { assert, assertEquals } from "@std/assert";
import { change, WAYS } from "../support/lock.ts";
import { worldTest } from "../support/world.ts";

for (const { backend, variant, label } of WAYS) {
  // Between its check and its insert, only iptables leaves a gap.
  const runs = backend === "iptables" ? 50 : 20;
  worldTest(
    `${label}: ${runs} enables and disables at once leave one lock, or none`,
    async (world, t) => {
      const [agent, second] = [await world.account(), await world.account()];
      const unlocked = await world.state();
      await change(world, "enable", agent, backend);
      const locked = await world.state();

      await t.step("of one account", async () => {
        const actions = Array.from({ length: runs }, (_, i) => i % 2 === 0 ? "enable" : "disable");
        const results = await Promise.all(actions.map((action) =>
          world.fishnet(
            ...["firewall", action, "--agent-user", agent, "--backend", backend, "--apply"],
          )
        ));
        assertEquals(results.filter(({ code }) => code !== 0), []);
        assert([locked, unlocked].includes(await world.state()), await world.state());
      });

      await t.step("of two accounts", async () => {
        await Promise.all([agent, second].map((who) => change(world, "enable", who, backend)));
        await Promise.all([
          change(world, "disable", agent, backend),
          change(world, "enable", second, backend),
        ]);
        await Promise.all([agent, second].map((who) => change(world, "disable", who, backend)));
        assertEquals(await world.state(), unlocked);
        await change(world, "enable", agent, backend);
        assertEquals(await world.state(), locked);
      });
    },
    variant,
  );
}

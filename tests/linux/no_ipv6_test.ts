/**
 * A kernel that was started with `ipv6.disable=1`. This one was not, so what tells of it is laid
 * over the real thing, and the tools for IPv6 fail as they do there.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { attempt, serve, WAYS } from "../support/lock.ts";
import type { Result } from "../support/process.ts";
import { OUTSIDE_V4, program, type World, worldTest } from "../support/world.ts";

/** From now on sudo finds tools inside that have no IPv6 to talk to. */
async function takeIpv6Away(world: World): Promise<void> {
  const etc = `/etc/netns/${world.inside}`;
  await Deno.mkdir(`${etc}/alternatives/no6`);
  const refuse = 'echo "Address family not supported by protocol" >&2; exit 2';
  const tools = {
    ip: `[ "$1" != -6 ] || { ${refuse}; }; exec /usr/sbin/ip "$@"`,
    ip6tables: refuse,
    "ip6tables-nft-save": refuse,
    "ip6tables-legacy-save": refuse,
  };
  for (const [tool, script] of Object.entries(tools)) {
    await Deno.writeTextFile(`${etc}/alternatives/no6/${tool}`, `#!/bin/sh\n${script}\n`, {
      mode: 0o755,
    });
  }
  await Deno.writeTextFile(
    `${etc}/sudoers`,
    'Defaults secure_path="/etc/alternatives/no6:/usr/sbin:/usr/bin:/sbin:/bin"\n' +
      "root ALL=(ALL:ALL) ALL\n",
    { mode: 0o440 },
  );
  await Deno.writeTextFile(`${etc}/one`, "1\n");
}

/** Runs the program where the kernel says that it has no IPv6. */
function withoutIpv6(world: World, ...args: readonly string[]): Promise<Result> {
  return world.exec(
    ...["unshare", "-m", "sh", "-ec"],
    'mount --bind "$0" /sys/module/ipv6/parameters/disable; ' +
      'mount -t proc -o subset=pid proc /proc; exec "$@"', // without /proc/net
    ...[`/etc/netns/${world.inside}/one`, ...program(), ...args],
  );
}

// iptables-legacy-save reads /proc/net, which has to be hidden here: it would see no rule at all.
for (const { backend, variant, label } of WAYS.filter(({ variant }) => variant !== "legacy")) {
  worldTest(
    `${label}: where the kernel has no IPv6, IPv4 is locked, and unlocked`,
    async (world) => {
      const agent = await world.account();
      const control = await world.account();
      await serve(world, "outside");
      const before = await world.state();
      await takeIpv6Away(world);
      const change = (action: "enable" | "disable", ...more: readonly string[]) => {
        const args = ["--agent-user", agent, "--backend", backend, "--apply", ...more];
        return ["firewall", action, ...args];
      };

      // That IPv6 does not answer proves nothing: it may be loaded later.
      const refused = await world.fishnet(...change("enable"));
      assertEquals(refused.code, 1);
      assertMatch(refused.stderr, /not supported by protocol/);
      assertEquals(await world.state(), before);

      const enabled = await withoutIpv6(world, ...change("enable", "--only-port", "3777"));
      assertEquals(enabled.code, 0, enabled.stderr);
      const frames = (account: string) =>
        world.captured("ip and udp", () => attempt(world, account, "udp", OUTSIDE_V4));
      assert((await frames(control)).length > 0, "the control");
      assertEquals(await frames(agent), []);
      const status = await withoutIpv6(world, "firewall", "status", "--json");
      assertEquals(status.code, 0, status.stdout);
      assertStringIncludes(status.stdout, "this kernel has no IPv6, so there is none to lock");

      const disabled = await withoutIpv6(world, ...change("disable"));
      assertEquals(disabled.code, 0, disabled.stderr);
      assertEquals(await world.state(), before);
    },
    variant,
  );
}

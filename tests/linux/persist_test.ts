/** What can be told of `--persist` without a boot; tests/boot and boot_files_test.ts have the rest. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { run } from "../support/process.ts";
import { program, worldTest } from "../support/world.ts";

worldTest(
  "where systemd does not run, --persist is refused, and nothing is changed",
  async (world) => {
    const agent = await world.account();
    const before = await world.state();
    // A system that systemd does run, as this one may be, looks like this one without its folder.
    const hide = 'test ! -d /run/systemd || mount -t tmpfs tmpfs /run/systemd; exec "$@"';
    for (const backend of ["iptables", "nftables"]) {
      const result = await world.exec(
        ...["sh", "-c", hide, "sh", ...program(), "firewall", "enable", "--agent-user", agent],
        ...["--backend", backend, "--persist", "--apply"],
      );
      assertEquals(result.code, 1);
      assertStringIncludes(result.stderr, "--persist needs systemd, which does not run here");
      assertEquals(await world.state(), before);
      for (const path of ["/etc/fishnet-firewall", "/etc/systemd/system/fishnet-lock.service"]) {
        assertEquals((await run(["test", "-e", path])).code, 1, path);
      }
    }
  },
);

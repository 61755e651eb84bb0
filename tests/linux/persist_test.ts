/** What can be told of `--persist` without a boot; tests/boot has the rest. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { bootScript } from "../../src/linux/persist.ts";
import { planDisable, planEnable } from "../../src/planner.ts";
import { lineOf } from "../../src/plan.ts";
import { run } from "../support/process.ts";
import { program, worldTest } from "../support/world.ts";

const accountName = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_-]{0,31}$/);

function scriptFor(name: string, backend: "iptables" | "nftables", onlyPorts: number[]): string {
  const options = { system: "linux", backend, onlyPorts, persist: false, sessions: false } as const;
  const account = { name, uid: "$uid" } as const;
  const [, ...steps] = planEnable([account], options);
  return ["uid=5001", ...bootScript(account, steps)].join("\n") + "\n";
}

for (const backend of ["iptables", "nftables"] as const) {
  Deno.test(`${backend}: for every name, the boot script is sound, and needs neither sudo nor a look-up`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(accountName, fc.constantFrom("sudo", "id", "$uid".slice(1), "sh", "failed")),
        fc.uniqueArray(fc.integer({ min: 1, max: 65535 }), { maxLength: 15 }),
        async (name, ports) => {
          const script = scriptFor(name, backend, ports);
          assert(!/(^|[|;{(] *)sudo /m.test(script), "no sudo");
          assert(!script.includes("id -u"), "no look-up");
          assert(!script.includes(`uid-owner ${name} `), "numbers, not names");
          const parsed = await run(["sh", "-n"], { input: script });
          assertEquals([parsed.code, parsed.stderr], [0, ""]);
        },
      ),
      { numRuns: 100 },
    );
  });
}

Deno.test("an account that is called sudo keeps its name in the boot script", () => {
  assertStringIncludes(scriptFor("sudo", "iptables", []), "--comment fishnet:sudo -j DROP");
});

Deno.test("disable releases what persists, whatever enable was given", () => {
  const lines = planDisable([{ name: "a" }], { system: "linux", backend: "nftables" }).map(lineOf);
  for (const part of ["$u.sh", "fishnet-reload.service", "fishnet@$u.service", "$u.sessions"]) {
    assert(lines.some((line) => line.includes(part)), part);
  }
});

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
      assert(result.stderr.trimEnd().endsWith("nothing was changed"), result.stderr);
      assertEquals(await world.state(), before);
      for (const path of ["/etc/fishnet-firewall", "/etc/systemd/system/fishnet@.service"]) {
        assertEquals((await run(["test", "-e", path])).code, 1, path);
      }
    }
  },
);

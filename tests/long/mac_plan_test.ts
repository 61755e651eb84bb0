/** The plan of macOS, pasted into shells, on a stand-in for a Mac. */
import { assert, assertEquals } from "@std/assert";
import { stepsByName } from "../../src/lock/difference.ts";
import { macos } from "../../src/macos/macos.ts";
import type { Options } from "../macos/support/program.ts";
import { AGENTS, standInTest } from "../macos/support/stand_in.ts";

/** The lines of a dry-run. */
function dryRun(
  action: "enable" | "disable",
  { accounts, onlyPorts = [], persist = false }: Options,
): string[] {
  const options = { backend: "iptables", onlyPorts, persist, sessions: false, log: false } as const;
  const locks = accounts.map((name) => ({ name, ...options }));
  return stepsByName(macos, locks, action).map(({ line }) => line);
}

standInTest(
  "the dry-run's lines pasted into a shell do what --apply does, and each can be read",
  async (mac, t) => {
    const options = { accounts: AGENTS, onlyPorts: [3777, 8080], persist: true };
    const before = await mac.state();
    await mac.applied("enable", options);
    const enabled = await mac.state();
    await mac.applied("disable", options);
    const [there, back] = [dryRun("enable", options), dryRun("disable", options)];
    for (const line of [...there, ...back].flatMap((text) => text.split("\n"))) {
      assert(line.length <= 160, `${line.length}: ${line}`);
    }
    // zsh is the login shell of macOS; "-i" because a person types these lines.
    for (const shell of [["sh"], ["bash", "-i"], ["zsh", "-f", "-i"]]) {
      const isThere = (await mac.exec("which", shell[0]!)).code === 0;
      await t.step({
        name: `${shell.join(" ")}${isThere ? "" : " (skipped: not installed)"}`,
        ignore: !isThere,
        async fn() {
          await mac.must("sh", "-c", "rm -rf /var/lib/pf-stand-in/leaving");
          await mac.paste(there, ...shell);
          assertEquals(await mac.state(), enabled);
          await mac.paste(back, ...shell);
          assertEquals(await mac.state(), before);
        },
      });
    }
  },
);

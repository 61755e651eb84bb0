/** `status` on a stand-in for a Mac: whom it finds, and how they are. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { AGENTS, standInTest } from "./support/stand_in.ts";

standInTest(
  "status finds every account that anything of ours is there for, as it is",
  async (mac) => {
    const [A, B] = AGENTS;
    assertEquals((await mac.report()).accounts, []);
    assertEquals((await mac.report(A)).state, "unlocked");
    await mac.applied("enable", { accounts: [A], onlyPorts: [3777], persist: true });
    await mac.applied("enable", { accounts: [B] });
    const states = async () =>
      (await mac.status()).map((
        { name, state, onlyPorts, survivesReboot },
      ) => [name, state, onlyPorts, survivesReboot]);
    // One LaunchDaemon is there for all of them.
    assertEquals(await states(), [[B, "locked", [], true], [A, "locked", [3777], true]]);
    await mac.reboot();
    assertEquals(await states(), [[B, "locked", [], true], [A, "locked", [3777], true]]);
    await mac.remove(B);
    const [left] = await mac.status(B);
    assertStringIncludes(left!.notes!.join("\n"), "the account no longer exists, its rules do");
    await mac.applied("disable", { accounts: [B] });
    assertEquals(await states(), [[A, "locked", [3777], true]]);
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await states(), []);
  },
);

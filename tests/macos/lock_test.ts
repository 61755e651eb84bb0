/** The lock against other runs, as macOS takes it: with perl, which Linux has too. */
import { assertEquals } from "@std/assert";
import { lockScript } from "../../src/sudo.ts";
import { linesOf } from "../support/process.ts";
import { standInTest } from "./support/stand_in.ts";

standInTest(
  "macOS's lock lets one run in, the next when that one ends, and leaves no file",
  async (mac) => {
    const before = await mac.must("ls", "-l", "/etc/sudoers", "/etc");
    const script = lockScript("darwin");
    await using first = mac.start("sh", "-c", script);
    const firstSays = linesOf(first.stdout);
    assertEquals((await firstSays.read()).value, "waiting");
    assertEquals((await firstSays.read()).value, "locked");
    assertEquals(
      (await mac.exec("flock", "-n", "/etc/sudoers", "true")).code,
      1,
      "it is the same lock",
    );
    await using second = mac.start("sh", "-c", script);
    const secondSays = linesOf(second.stdout);
    assertEquals((await secondSays.read()).value, "waiting");
    const next = secondSays.read();
    assertEquals(await Promise.race([next, firstSays.closed, quiet()]), "quiet");
    await first.stdin.close();
    assertEquals((await next).value, "locked");
    await second.stdin.close();
    assertEquals((await secondSays.read()).done, true);
    await firstSays.cancel();
    assertEquals((await mac.exec("flock", "-n", "/etc/sudoers", "true")).code, 0, "it is free");
    assertEquals(await mac.must("ls", "-l", "/etc/sudoers", "/etc"), before);
  },
);

standInTest("an account cannot take macOS's lock: it cannot read what is locked", async (mac) => {
  const { code, stderr } = await mac.exec(
    ...["setpriv", "--reuid", "64001", "--regid", "64001", "--clear-groups"],
    ...["sh", "-c", lockScript("darwin")],
  );
  assertEquals([code === 0, stderr], [false, "/etc/sudoers: Permission denied\n"]);
});

/** Long enough for a lock that does not wait to be taken. */
const quiet = () => new Promise((resolve) => setTimeout(() => resolve("quiet"), 300));

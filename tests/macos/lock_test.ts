/** The session where there is neither flock(1) nor timeout(1), as on macOS: perl, which Linux has too. */
import { assertEquals } from "@std/assert";
import { linesOf } from "../support/process.ts";
import { type StandIn, standInTest } from "./support/stand_in.ts";

const SCRIPT = await Deno.readTextFile(new URL("../../src/session.sh", import.meta.url));

/** A session that has been told to take the lock, and what it says, but for empty lines. */
async function locking(mac: StandIn, ...as: readonly string[]) {
  const child = mac.start(...as, "sh");
  const input = child.stdin.getWriter();
  await input.write(new TextEncoder().encode(`mark=the-mark\n${SCRIPT}\nlock 60\n`));
  const lines = linesOf(child.stdout);
  return {
    async says(): Promise<string | undefined> {
      for (;;) {
        const { value } = await lines.read();
        if (value !== "") return value;
      }
    },
    async tell(text: string): Promise<void> {
      await input.write(new TextEncoder().encode(`${text}\n`));
    },
    async end(): Promise<void> {
      await input.close();
      await lines.cancel();
      await child.status;
    },
  };
}

standInTest(
  "without flock(1), one run is let in, the next when that one ends, and no file is left",
  async (mac) => {
    await mac.must("rm", "/usr/bin/timeout");
    await mac.must("mv", "/usr/bin/flock", "/root/flock");
    const before = await mac.written("etc");
    const first = await locking(mac);
    assertEquals(await first.says(), "the-mark 0");
    const isFree = async () => (await mac.exec("/root/flock", "-n", "/etc/sudoers", "true")).code;
    assertEquals(await isFree(), 1, "it is the same lock");
    const second = await locking(mac);
    assertEquals(await second.says(), "waiting");
    await first.end();
    assertEquals(await second.says(), "the-mark 0");
    await second.end();
    assertEquals(await isFree(), 0, "it is free");
    assertEquals(await mac.written("etc"), before);
  },
);

standInTest("without timeout(1), a command that hangs is ended after its limit", async (mac) => {
  await mac.must("rm", "/usr/bin/timeout");
  const session = await locking(mac);
  assertEquals(await session.says(), "the-mark 0");
  await session.tell(`run 1 "" sleep 600`);
  assertEquals(await session.says(), "the-mark 142", "128 and SIGALRM");
  await session.tell(`run 1 "" echo there`);
  assertEquals([await session.says(), await session.says()], ["there", "the-mark 0"]);
  await session.end();
});

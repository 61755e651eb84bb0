/** What root tries with an account's effective uid, on a real bus and with real sockets. */
import { assertEquals } from "@std/assert";
import { linux } from "../../src/linux/linux.ts";
import { attemptOf, tryAll } from "../../src/lock/tries.ts";
import { macos } from "../../src/macos/macos.ts";
import { judgeCall, judgeWriting } from "../../src/lock/judge.ts";
import { serve } from "../support/lock.ts";
import { linesOf, must, run } from "../support/process.ts";
import { rootBy } from "../support/root.ts";
import { worldTest } from "../support/world.ts";

const HOUSE = "org.freedesktop.DBus";

const config = (socket: string) =>
  `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=${socket}</listen>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
  </policy>
  <policy user="1">
    <deny send_destination="${HOUSE}" send_interface="org.freedesktop.DBus.Peer"/>
  </policy>
</busconfig>
`;

const why = Deno.build.os !== "linux" || Deno.uid() !== 0
  ? "needs root on Linux"
  : (await run(["sh", "-c", "command -v dbus-daemon perl"])).code !== 0
  ? "needs dbus-daemon and perl"
  : undefined;

Deno.test({
  name: "a call that the bus denies an account is refused, one that it passes on is not" +
    (why === undefined ? "" : ` (skipped: ${why})`),
  ignore: why !== undefined,
  async fn() {
    const folder = await Deno.makeTempDir();
    await Deno.chmod(folder, 0o755);
    const socket = `${folder}/bus`;
    await Deno.writeTextFile(`${folder}/bus.conf`, config(socket));
    await using bus = new Deno.Command("dbus-daemon", {
      args: ["--nofork", "--print-address", `--config-file=${folder}/bus.conf`],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const lines = linesOf(bus.stdout);
    try {
      await lines.read(); // its address: now it listens
      // A bus knows the accounts that there are.
      const persons = ["daemon", "bin", "sys"].map((name, i) => {
        return { name, uid: 1 + i, groups: [1 + i] };
      });
      const names = [HOUSE, "org.freedesktop.resolve1"];
      const asks = names.flatMap((name) =>
        persons.map((as) => ({ as, kind: "bus" as const, host: socket, name }))
      );
      const { answers, complaint } = await tryAll(
        (words, { input } = {}) =>
          run(words, { input: input! }).then(({ code, ...said }) => ({ exitCode: code, ...said })),
        asks,
      );
      const attempts = answers.map((answer, i) =>
        attemptOf(asks[i]!.as, answer, complaint, linux.trying)
      );
      assertEquals(attempts.map(({ said }) => said), [
        "refused at once (the bus denies it)",
        ...["it went out", "it went out"],
        ...Array(3).fill("connect: nobody has the name"),
      ]);
      const verdict = (own: number, control: number) =>
        judgeCall("it", attempts[own]!, attempts[control]!).verdict;
      assertEquals(verdict(0, 1), "proven");
      assertEquals(verdict(1, 2), "failed");
      assertEquals(verdict(3, 4), "note");
    } finally {
      bus.kill();
      await lines.cancel();
      await Deno.remove(folder, { recursive: true });
    }
  },
});

worldTest(
  "a socket that an access list shuts is refused, and one that nobody may write to is no door",
  async (world) => {
    const folder = await Deno.makeTempDir();
    try {
      const persons = ["daemon", "bin"].map((name, i) => ({ name, uid: 1 + i, groups: [1 + i] }));
      const asks = [0o666, 0o600].flatMap((mode) => {
        const path = `${folder}/${mode}`;
        Deno.writeTextFileSync(path, "");
        Deno.chmodSync(path, mode);
        return persons.map((as) => ({ as, kind: "write" as const, path }));
      });
      await Deno.chmod(folder, 0o755);
      await must("setfacl", "-m", "u:1:---", folder);
      const { answers, complaint } = await tryAll(rootBy(...world.command()).ask, asks);
      const attempts = answers.map((one, i) =>
        attemptOf(asks[i]!.as, one, complaint, linux.trying)
      );
      const verdict = (own: number, control: number) =>
        judgeWriting("it", attempts[own]!, attempts[control]!).verdict;
      assertEquals([verdict(0, 1), verdict(1, 1), verdict(2, 3)], ["proven", "failed", "note"]);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);

worldTest(
  "a datagram to a peer hears ICMP's answer, and says where there was none",
  async (world) => {
    await serve(world, { as: "root" }, 4001);
    const as = { name: "daemon", uid: 1, groups: [1] };
    const asks = ["127.0.0.1", "::1"].flatMap((host) =>
      [4001, 4002].map((port) => ({ as, kind: "told" as const, host, port }))
    );
    const { answers, complaint } = await tryAll(rootBy(...world.command()).ask, asks);
    const attempts = answers.map((answer) => attemptOf(as, answer, complaint, macos.trying));
    const [heard, refused] = ["it was sent", "refused at once (Connection refused)"];
    assertEquals(attempts.map(({ said }) => said), [heard, refused, heard, refused]);
  },
);

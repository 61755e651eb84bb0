/** iptables-legacy, while another process holds the lock of its tables. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { linesOf } from "../support/process.ts";
import { program, worldTest } from "../support/world.ts";

worldTest(
  "a run that another one's lock holds up says so, goes on, or ends after its limit",
  async (world) => {
    const agent = await world.account();
    const before = await world.state();
    const enable = [
      "firewall",
      "enable",
      "--agent-user",
      agent,
      "--backend",
      "iptables",
      "--apply",
    ];
    for (const end of ["released", "kept"]) {
      const holder = world.start(
        world.command("flock", "/run/xtables.lock", "sh", "-c", "echo held; cat"),
        { stdin: "piped" },
      );
      const held = linesOf(holder.stdout);
      assertEquals((await held.read()).value, "held");
      held.releaseLock();
      const [command, ...args] = world.command(...program(), ...enable);
      const run = new Deno.Command(command!, { args, stderr: "piped", stdout: "null" }).spawn();
      const said: string[] = [];
      const lines = linesOf(run.stderr);
      for (let line = await lines.read(); !line.done; line = await lines.read()) {
        said.push(line.value);
        if (end === "released" && line.value.startsWith("[fishnet] waiting: ")) {
          await holder.stdin.close();
        }
      }
      const { code } = await run.status;
      const waiting = said.find((line) => line.startsWith("[fishnet] waiting: "));
      assertMatch(waiting ?? said.join("\n"), /waiting: sudo iptables(-restore)? -w /);
      if (end === "released") {
        assertEquals(code, 0, said.join("\n"));
        const disabled = await world.fishnet(
          ...["firewall", "disable", "--agent-user", agent, "--apply"],
        );
        assertEquals(disabled.code, 0, disabled.stderr);
      } else {
        assertEquals(code, 1);
        assert(said.includes("it took too long, and was ended"), said.join("\n"));
        assertEquals(said.at(-1), "nothing was changed");
        await holder.stdin.close();
      }
      await holder.status;
      assertEquals(await world.state(), before);
    }
  },
  "legacy",
);

/** The program on a real terminal: the password, the commands, colours, widths, and Ctrl-C. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { LIMITS_HINT } from "../../src/cli/outcome_text.ts";
import { linux } from "../../src/linux/linux.ts";
import { Operator } from "../support/operator.ts";
import { worldTest } from "../support/world.ts";

const CTRL_C = "\x03";
const PROMPT = "password for [^:]*:";
const STEP = "\\[fishnet\\]\\S* (sudo|echo) ";
const COLOUR = new RegExp("\x1b\\[[0-9;]*m", "g");
const plain = (shown: string) => shown.replace(COLOUR, "");

worldTest("an operator at a terminal, who has to give a password", async (world, t) => {
  const agent = await world.account();
  await using operator = await Operator.in(world);
  const unlocked = await world.state();
  const enable = ["firewall", "enable", "--agent-user", agent, "--apply"];
  const disable = ["firewall", "disable", "--agent-user", agent, "--apply"];

  await t.step("the password is asked for once, and each command is shown as it runs", async () => {
    const { code, shown } = await operator.onTerminal([[PROMPT, `${operator.password}\n`]], enable);
    assertEquals(code, 0, shown);
    assertEquals(shown.match(new RegExp(PROMPT, "g"))?.length, 1, shown);
    assert(shown.includes("Firewall enable: complete."), shown);
    const count = Number(/applying (\d+) command/.exec(shown)?.[1]);
    assertEquals(plain(shown).match(/^\[fishnet\] (sudo|echo) /gm)?.length, count, shown);
    await operator.allow("ALL");
    const again = await operator.onTerminal([[PROMPT, `${operator.password}\n`]], disable);
    assertEquals(again.code, 0, again.shown);
    assertEquals(await world.state(), unlocked);
  });

  await t.step("a wrong password: an error, and nothing is changed", async () => {
    await operator.allow("ALL");
    const { code, shown } = await operator.onTerminal([[PROMPT, "wrong\n"]], enable);
    assertEquals(code, 1, shown);
    assert(plain(shown).includes("[fishnet] could not run as root: "), shown);
    assertEquals(await world.state(), unlocked);
  });

  await t.step("Ctrl-C at the password prompt ends at once, and nothing is changed", async () => {
    await operator.allow("ALL");
    const { code, shown, seconds } = await operator.onTerminal([[PROMPT, CTRL_C]], enable);
    // It may have died of the signal, but not of terminal.py's, which ends what hangs.
    assert(code !== 0 && code !== -9 && seconds < 40, `${code} after ${seconds} s: ${shown}`);
    assertEquals(await world.state(), unlocked);
    const none = await operator.onTerminal([[PROMPT, "\x04"]], enable);
    assertEquals(none.code, 1);
    assert(!none.shown.includes("there is no terminal"), none.shown);
  });

  // What comes behind the last command waits for the hand, a moment for the signal, and until the program has
  // nothing more to do, which by then has seen it: what is committed stays.
  const slow = await Deno.makeTempDir();
  const pressed = `${slow}/pressed`;
  const wait = `until [ -e ${pressed} ]; do sleep 0.05; done; sleep 1; ` +
    `while grep -q "^State:.R" /proc/"$(cat ${pressed})"/task/*/status; do sleep 0.05; done`;
  const tools = {
    ip6tables: `case "$*" in *"-I OUTPUT "*) >${slow}/last ;; esac`,
    ip: `case "$*" in *"rule show") [ ! -e ${slow}/last ] || { rm ${slow}/last; ${wait}; } ;; esac`,
  };
  for (const [tool, before] of Object.entries(tools)) {
    const script = `#!/bin/sh\n${before}\nexec /usr/sbin/${tool} "$@"\n`;
    await Deno.writeTextFile(`${slow}/${tool}`, script, { mode: 0o755 });
  }
  for (const step of [2, 4, 6]) {
    await t.step(`Ctrl-C at step ${step} undoes everything, and ends quickly`, async () => {
      await operator.allow("NOPASSWD: ALL", `secure_path="${slow}:/usr/sbin:/usr/bin:/sbin:/bin"`);
      const answers = Array.from(
        { length: step },
        (_, i) => i + 1 === step ? [STEP, CTRL_C, pressed] as const : [STEP, ""] as const,
      );
      const { code, shown, seconds } = await operator.onTerminal(answers, enable);
      assertEquals(await world.state(), unlocked, shown);
      assertEquals(code, 1, shown);
      assert(plain(shown).includes("[fishnet] stopped by SIGINT\r\nnothing was changed"), shown);
      assert(seconds < 40, `${seconds} s`);
      await Deno.remove(pressed);
    });
  }
  await Deno.remove(slow, { recursive: true });

  await t.step("with no terminal and no right, the error says so at once", async () => {
    await operator.allow("ALL");
    const start = performance.now();
    const { code, stderr } = await operator.run(...enable);
    assert(performance.now() - start < 40_000);
    assertEquals(code, 1);
    assertMatch(stderr, /^\[fishnet\] .*(terminal|password).*\n/);
    await operator.allow(undefined);
    const denied = await operator.run(...enable);
    assertEquals(denied.code, 1);
    assertMatch(denied.stderr, /^\[fishnet\] .*\n/);
    assertEquals(await world.state(), unlocked);
  });

  await t.step("colours are shown on a terminal, but never with NO_COLOR", async () => {
    const dryRun = ["firewall", "enable", "--agent-user", agent, "--explain"];
    assertMatch((await operator.onTerminal([], dryRun)).shown, COLOUR);
    for (const args of [dryRun, ["firewall", "enable", "--agent-user", "1bad"]]) {
      const { shown } = await operator.onTerminal([], args, { NO_COLOR: "1" });
      assert(shown !== "" && plain(shown) === shown, JSON.stringify(shown));
    }
  });

  for (const columns of [80, 40]) {
    await t.step(`on ${columns} columns, words are wrapped at the terminal's width`, async () => {
      await operator.allow("NOPASSWD: ALL");
      const show = async (...args: readonly string[]) => {
        const { shown } = await operator.onTerminal([], args, {}, columns);
        const lines = plain(shown).split("\r\n");
        for (const line of lines) {
          // A command or a URL is copied as a whole, so the terminal may break it.
          assert(
            line.length <= columns || /(sudo|fishnet|pref|owner|icmp6) |http:/.test(line),
            shown,
          );
        }
        return lines.map((line) => line.trim()).join(" ").replace(/ +/g, " ");
      };
      const account = ["--agent-user", agent];
      assert((await show()).startsWith("Keeps the account of an AI agent on this machine. Usage:"));
      assert((await show("firewall", "enable", "--help")).includes("Execute the plan"));
      const enabled = await show(...enable);
      assert(enabled.includes("the lock is gone after a reboot; run enable again"), enabled);
      const status = await show("firewall", "status", ...account);
      assert(status.includes("in force") && status.includes(LIMITS_HINT), status);
      const explained = await show("firewall", "status", "--explain", ...account);
      for (const limit of linux.notCovered) assert(explained.includes(limit), explained);
      const verified = await show("firewall", "verify", ...account);
      assert(verified.includes("locked, and proven"), verified);
      const refused = await show("firewall", "enable", "--agent-user", "a-name-that-is-not-one!");
      assert(refused.endsWith("only alphanumeric, underscore, and hyphen are allowed "), refused);
      await show(...disable);
      assertEquals(await world.state(), unlocked);
    });
  }

  await t.step(
    "off a terminal there are no colours, no carriage returns, and long lines",
    async () => {
      await operator.allow("NOPASSWD: ALL");
      const { code, stdout, stderr } = await operator.run(...enable);
      assertEquals([code, stdout.includes("\x1b")], [0, false], stderr);
      assert(!stderr.includes("\x1b") && !stderr.includes("\r"), JSON.stringify(stderr));
      assertMatch(stderr, /^\[fishnet\] for the agent: .{80}/m);
      assertEquals((await operator.run(...disable)).code, 0);
      assertEquals(await world.state(), unlocked);
    },
  );
});

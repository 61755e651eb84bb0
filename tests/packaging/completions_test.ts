/** Completions in the real shells: what they propose, and that it is what the program accepts. */
import { assert, assertEquals } from "@std/assert";
import { COMMANDS, type FirewallCommand, OPTIONS, SHELLS } from "../../src/cli/options.ts";
import { must } from "../support/process.ts";
import { fishnet, packagingTest, temporaryFolder } from "./support.ts";

const TYPE_INTO = new URL("type_into.py", import.meta.url).pathname;
const PYTHON = "/usr/bin/python3";

for (const shell of SHELLS) {
  packagingTest(`${shell} proposes commands, options, values and accounts`, {
    tools: [shell, PYTHON],
    root: true,
  }, async (t) => {
    await using folder = await temporaryFolder();
    const script = `${folder.path}/completions`;
    const printed = await fishnet("completions", shell);
    assertEquals(printed.code, 0, printed.stderr);
    await Deno.writeTextFile(script, printed.stdout);
    const proposed = (line: string) => proposals(shell, script, line);
    // Some shells propose options before a hyphen is typed, others do not: a matter of taste.
    const words = async (line: string) =>
      (await proposed(line)).filter((word) => !word.startsWith("-"));

    await t.step("commands", async () => {
      assertEquals(await words("fishnet "), ["completions", "firewall", "help"]);
      assertEquals(await words("fishnet help "), ["completions", "firewall"]);
      assertEquals(await words("fishnet help firewall "), Object.keys(COMMANDS).sort());
      assertEquals(await words("fishnet fire"), ["firewall"]);
      assertEquals(await words("fishnet firewall "), Object.keys(COMMANDS).sort());
      assertEquals(await words("fishnet firewall d"), ["disable"]);
      assertEquals(await words("fishnet completions "), [...SHELLS].sort());
    });
    for (const command of Object.keys(COMMANDS) as FirewallCommand[]) {
      await t.step(`the options of ${command}, all of them and no others`, async () => {
        assertEquals(
          await proposed(`fishnet firewall ${command} --`),
          Object.keys(OPTIONS).filter((name) => OPTIONS[name]!.on.includes(command))
            .map((name) => `--${name}`).sort(),
        );
      });
    }
    await t.step("values", async () => {
      const enable = "fishnet firewall enable";
      assertEquals(await proposed(`${enable} --backend `), ["iptables", "nftables"]);
      assertEquals(await proposed(`${enable} --apply --os m`), ["macos"]);
      assertEquals(await proposed(`${enable} --backend=nf`), ["nftables"]);
      assertEquals(await proposed(`${enable} --only-port `), []);
    });
    await t.step("an account that was made a moment ago, and never root", async () => {
      const account = `fncomplete${Deno.pid}`;
      assertEquals(await proposed("fishnet firewall status --agent-user fncomplete"), []);
      await must("useradd", "--no-create-home", account);
      try {
        assertEquals(await proposed("fishnet firewall status --agent-user fncomplete"), [account]);
        assertEquals(await proposed("fishnet firewall status --agent-user=fncomplete"), [account]);
        assert(!(await proposed("fishnet firewall enable --agent-user ")).includes("root"));
      } finally {
        await must("userdel", account);
      }
    });
  });
}

/** The last words that a shell completes a line to, sorted; none where it proposes nothing. */
async function proposals(shell: string, script: string, line: string): Promise<string[]> {
  if (shell === "fish") {
    // fish says it itself: each proposal on a line, a tab before what explains it.
    const code = `source ${script}; complete --do-complete ${JSON.stringify(line)}`;
    const printed = await must("fish", "--no-config", "-c", code);
    return afterEqualsSign(printed.split("\n").map((text) => text.split("\t")[0]!)).sort();
  }
  const words = (await must(PYTHON, TYPE_INTO, shell, script, line)).trimEnd().split("\n");
  const before = line.split(" ").length - 1;
  return afterEqualsSign(words.slice(before)).filter((word) => word !== line.split(" ").at(-1))
    .sort();
}

/** `--option=VALUE` is proposed as a whole by some shells. */
function afterEqualsSign(words: readonly string[]): string[] {
  return words.map((word) => word.replace(/^--[a-z-]+=/, "")).filter((word) => word !== "");
}

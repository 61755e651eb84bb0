/** The README says what the program says: nothing is promised twice in different words. */
import { assert } from "@std/assert";
import { COMMANDS, OPTIONS } from "../src/cli/options.ts";
import { planEnable } from "../src/planner.ts";
import { NOT_COVERED } from "../src/warnings.ts";

const README = await Deno.readTextFile(new URL("../README.md", import.meta.url));

Deno.test("the README names what no packet filter stops, in the program's words", () => {
  for (const words of Object.values(NOT_COVERED).flat()) assert(README.includes(words), words);
});

Deno.test("the README's example has as many commands as the plan", () => {
  const steps = planEnable([{ name: "agent_runner" }], {
    system: "linux",
    backend: "iptables",
    onlyPorts: [],
    persist: false,
    sessions: false,
  });
  assert(README.includes(`Firewall enable: applying ${steps.length} command(s)\n`));
});

Deno.test("the README names every command and every option", () => {
  for (const name of Object.keys(COMMANDS)) {
    assert(README.includes(`fishnet firewall ${name}`), name);
  }
  for (const name of Object.keys(OPTIONS)) {
    assert(name === "help" || README.includes(`\`--${name}`), name);
  }
});

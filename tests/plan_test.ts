/** What a plan is made of, whatever system it is for. */
import { assert, assertEquals } from "@std/assert";
import { disableSteps, enableSteps, type Hold, lineOf, type Step } from "../src/plan.ts";
import { type LockOptions, planDisable, planEnable } from "../src/planner.ts";

const step = (run: string, more: Partial<Step> = {}): Step => ({ run, why: "because", ...more });

Deno.test("a step with a check is one line: the check, or else the command", () => {
  assertEquals(lineOf(step("take", { check: "look" })), "look 2>/dev/null || take");
  assertEquals(lineOf(step("take")), "take");
});

Deno.test("disable lets go of every hold in reverse, and undoing that takes them again", () => {
  const holds: Hold[] = [
    { take: step("take 1"), release: step("release 1") },
    { take: step("extend 1") },
    { release: step("release 2") },
    { take: step("take 3"), release: step("release 3") },
  ];
  assertEquals(disableSteps(holds), [
    step("release 3", { undo: ["take 3"] }),
    step("release 2"),
    step("release 1", { undo: ["take 1", "extend 1"] }),
  ]);
});

Deno.test("a hold that accounts share is taken first and let go last, once", () => {
  const shared: Hold = { take: step("make the table"), release: step("remove the table") };
  const own = (name: string): Hold => ({
    take: step(`take ${name}`),
    release: step(`let ${name} go`),
  });
  const holds = [shared, own("a"), shared, own("b")];
  assertEquals(enableSteps(holds).map(lineOf), ["make the table", "take a", "take b"]);
  assertEquals(disableSteps(holds).map(lineOf), ["let b go", "let a go", "remove the table"]);
});

const EVERY_OPTION: LockOptions[] = (["linux", "macos"] as const).flatMap((system) =>
  (["iptables", "nftables"] as const).flatMap((backend) =>
    [[], [3777], [53, 3777]].flatMap((onlyPorts) =>
      [false, true].map((persist) => ({ system, backend, onlyPorts, persist, sessions: false }))
    )
  )
);

Deno.test("every line is one line, and does all it does through sudo", () => {
  for (const options of EVERY_OPTION) {
    const accounts = [{ name: "agent_runner" }, { name: "b-2" }];
    for (const each of [...planEnable(accounts, options), ...planDisable(accounts, options)]) {
      for (const line of [lineOf(each), ...each.undo ?? []]) {
        assert(!line.includes("\n"), line);
        const words = unquoted(line).split(/\|\||&&|\||;/).map((part) => part.trim().split(" ")[0]);
        for (const word of words) assert(word === "sudo" || word === "echo", `${word}: ${line}`);
      }
      assert(each.why.length > 0 && !each.why.includes("\n"));
    }
  }
});

Deno.test("no $(…) stands right of a pipe, where it could swallow what the pipe carries", () => {
  for (const options of EVERY_OPTION) {
    const accounts = [{ name: "agent_runner" }];
    for (const each of [...planEnable(accounts, options), ...planDisable(accounts, options)]) {
      for (const line of [lineOf(each), ...each.undo ?? []]) {
        for (const right of unquoted(line).replaceAll("||", ";").split("|").slice(1)) {
          assert(!right.split(";")[0]!.includes("$("), line);
        }
      }
    }
  }
});

Deno.test("a check is one sudo command, so that its answer can be told from the command's", () => {
  for (const options of EVERY_OPTION) {
    for (const { check } of planEnable([{ name: "agent_runner" }], options)) {
      if (check === undefined) continue;
      assert(unquoted(check).startsWith("sudo "), check);
      assert(!/[|;&]/.test(unquoted(check)), check);
    }
  }
});

Deno.test("planning the same twice gives the same lines", () => {
  for (const options of EVERY_OPTION) {
    assertEquals(planEnable([{ name: "a" }], options), planEnable([{ name: "a" }], options));
  }
});

/** A line without what stands in quotes, single ones and those around a single quote. */
function unquoted(line: string): string {
  return line.replace(/'[^']*'|"'"/g, "''");
}

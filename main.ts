/**
 * fishnet: keeps the account of an AI agent on this machine.
 *
 * @module
 */
import denoJson from "./deno.json" with { type: "json" };
import type { ChangeCommand, Command } from "./src/command_line.ts";
import { parseCommandLine } from "./src/command_line.ts";
import { FishnetError } from "./src/errors.ts";
import * as output from "./src/output.ts";
import { lineOf, type Step } from "./src/plan.ts";

async function main(args: readonly string[]): Promise<number> {
  try {
    const user = Deno.env.get("USER");
    await run(parseCommandLine(args, { user, os: Deno.build.os }));
    return 0;
  } catch (error) {
    if (!(error instanceof FishnetError)) throw error;
    output.printError(error.message);
    if (args.includes("--json")) output.printJson({ error: { message: error.message } });
    return 1;
  }
}

async function run(command: Command): Promise<void> {
  switch (command.kind) {
    case "help": {
      const { helpText } = await import("./src/help.ts");
      return output.printText(helpText(command.topic));
    }
    case "version":
      return output.printText(`fishnet ${denoJson.version}\n`);
    case "enable": {
      const { planEnable } = await import("./src/planner.ts");
      const accounts = command.accounts.map((name) => ({ name }));
      return await change("enable", planEnable(accounts, command), command);
    }
    case "disable": {
      const { planDisable } = await import("./src/planner.ts");
      const accounts = command.accounts.map((name) => ({ name }));
      return await change("disable", planDisable(accounts, { ...command, onlyPorts: [] }), command);
    }
    default: {
      const _: never = command;
      throw new Error(`unreachable: ${_}`);
    }
  }
}

async function change(
  action: output.Action,
  steps: readonly Step[],
  command: ChangeCommand,
): Promise<void> {
  if (!command.apply) {
    if (command.json) printPlan(action, steps, command, { applied: false });
    else output.printDryRun(action, steps, command.explain);
    return;
  }
  const { applySteps } = await import("./src/apply.ts");
  if (!command.json) output.printApplying(action, steps.length);
  const changes = await applySteps(steps, { onStep: output.printProgress })
    .finally(output.clearProgress);
  if (command.json) printPlan(action, steps, command, { applied: true, changed: changes > 0 });
  else output.printComplete(action);
}

function printPlan(
  action: output.Action,
  steps: readonly Step[],
  { system, backend, accounts }: ChangeCommand,
  outcome: Readonly<Record<string, boolean>>,
): void {
  output.printJson({
    command: action,
    os: system,
    ...(system === "linux" ? { backend } : {}),
    agentUsers: accounts,
    ...outcome,
    steps: steps.map((step) => ({ line: lineOf(step), why: step.why, undo: step.undo ?? [] })),
  });
}

if (import.meta.main) Deno.exit(await main(Deno.args));

/**
 * fishnet: keeps the account of an AI agent on this machine.
 *
 * @module
 */
import denoJson from "./deno.json" with { type: "json" };
import type { Account } from "./src/account.ts";
import { type Command, parseCommandLine } from "./src/command_line.ts";
import { FishnetError } from "./src/errors.ts";
import * as output from "./src/output.ts";
import { lineOf, type Step } from "./src/plan.ts";
import type { Backend } from "./src/planner.ts";

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
    case "completions": {
      const { completionScript } = await import("./src/completions.ts");
      return output.printText(completionScript(command.shell));
    }
    case "enable": {
      const { planEnable } = await import("./src/planner.ts");
      return await change(
        command,
        (accounts, backend) => planEnable(accounts, { ...command, backend }),
      );
    }
    case "disable": {
      const { planDisable } = await import("./src/planner.ts");
      return await change(
        command,
        (accounts, backend) => planDisable(accounts, { ...command, backend }),
      );
    }
    case "status":
    case "verify":
      throw new FishnetError(`${command.kind} is not there yet`);
    default: {
      const _: never = command;
      throw new Error(`unreachable: ${_}`);
    }
  }
}

type ChangingCommand = Extract<Command, { kind: "enable" | "disable" }>;

async function change(
  command: ChangingCommand,
  plan: (accounts: readonly Account[], backend: Backend) => Step[],
): Promise<void> {
  const backend = command.backend ?? "iptables";
  const steps = plan(command.accounts.map((name) => ({ name })), backend);
  if (!command.apply) {
    if (command.json) printPlan(command, backend, steps, { applied: false });
    else output.printDryRun(command.kind, steps, command.explain);
    return;
  }
  const { applySteps } = await import("./src/apply.ts");
  if (!command.json) output.printApplying(command.kind, steps.length);
  const changes = await applySteps(steps, { onStep: output.printProgress })
    .finally(output.clearProgress);
  if (command.json) {
    printPlan(command, backend, steps, { applied: true, changed: changes > 0 });
  } else output.printComplete(command.kind);
}

function printPlan(
  { kind, system, accounts }: ChangingCommand,
  backend: Backend,
  steps: readonly Step[],
  outcome: Readonly<Record<string, boolean>>,
): void {
  output.printJson({
    command: kind,
    os: system,
    ...(system === "linux" ? { backend } : {}),
    agentUsers: accounts,
    ...outcome,
    steps: steps.map((step) => ({ line: lineOf(step), why: step.why, undo: step.undo ?? [] })),
  });
}

if (import.meta.main) Deno.exit(await main(Deno.args));

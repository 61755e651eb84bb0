/**
 * fishnet: keeps the account of an AI agent on this machine.
 *
 * @module
 */
import denoJson from "./deno.json" with { type: "json" };
import type { Account } from "./src/account.ts";
import {
  type Command,
  parseCommandLine,
  type StatusCommand,
  type VerifyCommand,
} from "./src/cli/command_line.ts";
import { FishnetError } from "./src/errors.ts";
import { disableOutcome, enableOutcome, proxyHint } from "./src/cli/outcome_text.ts";
import * as output from "./src/cli/output.ts";
import { lineOf, type Step, undoOf } from "./src/plan.ts";
import type { Backend } from "./src/planner.ts";
import type { Warning } from "./src/warnings.ts";

async function main(args: readonly string[]): Promise<number> {
  try {
    const user = Deno.env.get("USER");
    return await run(parseCommandLine(args, { user, os: Deno.build.os })) ?? 0;
  } catch (error) {
    if (!(error instanceof FishnetError)) throw error;
    output.printError(error.message);
    if (args.includes("--json")) output.printJson({ error: { message: error.message } });
    return 1;
  }
}

/** Carries a command out; the exit code, where it is not 0. */
async function run(command: Command): Promise<number | void> {
  switch (command.kind) {
    case "help": {
      const { helpText } = await import("./src/cli/help.ts");
      return output.printText((width) => helpText(command.topic, width));
    }
    case "version":
      return output.printScript(`fishnet ${denoJson.version}\n`);
    case "completions": {
      const { completionScript } = await import("./src/cli/completions.ts");
      return output.printScript(completionScript(command.shell));
    }
    case "enable": {
      if (command.log) throw new FishnetError("--log is not in this version yet");
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
      return await status(command);
    case "verify":
      return await verify(command);
    case "log":
      throw new FishnetError("log is not in this version yet");
    default: {
      const _: never = command;
      throw new Error(`unreachable: ${_}`);
    }
  }
}

/** The exit code for an account that is not fully locked, or not known to be. */
const NOT_LOCKED = 3;

async function status({ accounts, system, json, explain }: StatusCommand): Promise<number> {
  const [{ statusOf }, { NOT_COVERED, warningsFor }] = await Promise.all([
    import("./src/status.ts"),
    import("./src/warnings.ts"),
  ]);
  const report = await statusOf(accounts, system);
  const warnings = await warningsFor(report.accounts, system);
  const notCovered = NOT_COVERED[system];
  if (json) output.printJson({ command: "status", os: system, ...report, warnings, notCovered });
  else {
    const { statusLines } = await import("./src/cli/status_text.ts");
    const view = { warnings, notCovered, explain };
    output.printLines((width) => statusLines(report, view, width));
  }
  return report.state === "locked" ? 0 : NOT_LOCKED;
}

async function verify(command: VerifyCommand): Promise<number> {
  const { accounts, system, json } = command;
  const [{ verify }, { verifyLines }] = await Promise.all([
    import("./src/verify.ts"),
    import("./src/cli/verify_text.ts"),
  ]);
  const verifications = [];
  for (const name of accounts) {
    const verification = await verify(name, command);
    if (!json) output.printLines((width) => verifyLines(verification, width));
    verifications.push(verification);
  }
  if (json) output.printJson({ command: "verify", os: system, accounts: verifications });
  return verifications.every(({ proven }) => proven) ? 0 : NOT_LOCKED;
}

type ChangingCommand = Extract<Command, { kind: "enable" | "disable" }>;

async function change(
  command: ChangingCommand,
  plan: (accounts: readonly Account[], backend: Backend) => Step[],
): Promise<void> {
  const backend = command.backend ?? "iptables";
  if (!command.apply) {
    const steps = plan(command.accounts.map((name) => ({ name })), backend);
    if (command.json) printPlan(command, backend, steps, { applied: false });
    else output.printDryRun(command.kind, steps.map(lineAndWhy), command.explain);
    return;
  }
  const { applyPlan } = await import("./src/apply.ts");
  let steps: readonly Step[] = [];
  const changes = await applyPlan(async () => plan(await accountsOf(command, backend), backend), {
    onPlan: (planned) => {
      steps = planned;
      if (!command.json) output.printApplying(command.kind, steps.length);
    },
    onStep: (step) => {
      if (!command.json) output.printCommand(lineOf(step), command.explain ? step.why : undefined);
    },
  });
  const { outcome, warnings, notCovered } = command.kind === "enable"
    ? await factsAfter(command, changes > 0)
    : {
      outcome: disableOutcome(command.accounts, changes > 0),
      warnings: [],
      notCovered: [],
    };
  if (command.json) {
    const result = { applied: true, changed: changes > 0, warnings, notCovered };
    printPlan(command, backend, steps, result);
  } else {
    if (changes === 0) output.printAlreadyInForce(command.kind);
    output.printOutcome(outcome);
    output.printComplete(command.kind);
  }
  output.printWarnings(warnings, notCovered);
}

const lineAndWhy = (step: Step) => ({ line: lineOf(step), why: step.why });

/** The accounts for a plan that is to be applied, which the machine is asked about first. */
async function accountsOf(command: ChangingCommand, backend: Backend): Promise<Account[]> {
  if (command.system !== "linux") return command.accounts.map((name) => ({ name }));
  const { preflight } = await import("./src/linux/preflight.ts");
  return await preflight({ ...command, backend });
}

/** What an administrator should know after an enable. */
async function factsAfter({ accounts, system }: ChangingCommand, changed: boolean) {
  const [{ statusOf }, { NOT_COVERED, warningsFor, wholeness }] = await Promise.all([
    import("./src/status.ts"),
    import("./src/warnings.ts"),
  ]);
  const report = await statusOf(accounts, system);
  const others = await warningsFor(report.accounts, system);
  return {
    outcome: [
      ...enableOutcome(report.accounts, changed),
      proxyHint(report.accounts.flatMap(({ onlyPorts }) => onlyPorts)),
    ],
    warnings: [...wholeness(report.accounts), ...others],
    notCovered: NOT_COVERED[system],
  };
}

function printPlan(
  { kind, system, accounts }: ChangingCommand,
  backend: Backend,
  steps: readonly Step[],
  outcome: Readonly<Record<string, boolean | readonly (Warning | string)[]>>,
): void {
  output.printJson({
    command: kind,
    os: system,
    ...(system === "linux" ? { backend } : {}),
    agentUsers: accounts,
    ...outcome,
    steps: steps.map((step) => ({ line: lineOf(step), why: step.why, undo: undoOf(step) })),
  });
}

if (import.meta.main) {
  const code = await main(Deno.args);
  Deno.exit(code === 0 && output.isIncomplete() ? 1 : code);
}

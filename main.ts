/**
 * fishnet: keeps the account of an AI agent on this machine.
 *
 * @module
 */
import denoJson from "./deno.json" with { type: "json" };
import { type Backend, type System as SystemName, SYSTEMS } from "./src/account.ts";
import { type Command, parseCommandLine } from "./src/cli/command_line.ts";
import * as output from "./src/cli/output.ts";
import { FishnetError } from "./src/errors.ts";
import type { Verification } from "./src/lock/judge.ts";
import type { Step } from "./src/lock/piece.ts";
import type { Session } from "./src/sudo.ts";
import type { System } from "./src/system.ts";

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
      const limits = command.topic === "firewall" ? await limitsHere() : [];
      return output.printLines((width) => [helpText(command.topic, width, limits)]);
    }
    case "version":
      return output.printLines(() => [`fishnet ${denoJson.version}`]);
    case "completions": {
      const { completionScript } = await import("./src/cli/completions.ts");
      return output.printLines(() => [completionScript(command.shell)]);
    }
    case "enable":
    case "disable":
      return command.apply ? await change(command) : await dryRun(command);
    case "status":
      return await status(command);
    case "verify":
      return await verify(command);
    case "log":
      return await log(command);
    default: {
      const _: never = command;
      throw new Error(`unreachable: ${_}`);
    }
  }
}

/** The exit code for an account that is not fully locked, or not known to be. */
const NOT_LOCKED = 3;

/** The one system that is asked for: the other's knowledge need not be loaded. */
async function systemOf(name: SystemName): Promise<System<unknown>> {
  if (name === "macos") return (await import("./src/macos/macos.ts")).macos as System<unknown>;
  return (await import("./src/linux/linux.ts")).linux as System<unknown>;
}

/** What no packet filter of this system stops. */
async function limitsHere(): Promise<readonly string[]> {
  const name = SYSTEMS[Deno.build.os];
  return name === undefined ? [] : (await systemOf(name)).notCovered;
}

/** Has sudo start before the rest is loaded: that takes as long. */
async function startSession(): Promise<{ readonly opening: Promise<Session> }> {
  const { Session } = await import("./src/sudo.ts");
  const opening = Session.open();
  opening.catch(() => {}); // it is told where it is waited for
  return { opening };
}

type Changing = Extract<Command, { kind: "enable" | "disable" }>;

/** What a dry-run, which reads nothing, does not know, and does not show. */
function* unseen({ kind, system, onlyPorts = [] }: Changing, backend: Backend) {
  const onMac = system === "macos";
  const byOthers = (what: string) => `other accounts may be locked by that ${what}: then `;
  if (kind === "disable" && onMac) yield `${byOthers("anchor")}use --apply, which looks`;
  else if (kind === "disable" && backend === "nftables") {
    yield `${byOthers("table")}leave the line out that deletes it, or use --apply, which looks`;
  }
  if (onMac) {
    yield "the line with pfctl -R takes the running rules as pfctl lists them: let nobody change " +
      "them meanwhile, or use --apply, which looks twice";
  } else if (kind === "enable" && onlyPorts.length > 0) {
    yield "--apply also shuts what looks names up, prints or passes things on here for others: by " +
      "files in /etc/sudoers.d, /etc/dbus-1/system.d and /etc/tmpfiles.d, and access lists in /run";
  }
}

async function dryRun(command: Changing): Promise<void> {
  const { stepsByName } = await import("./src/lock/difference.ts");
  const system = await systemOf(command.system);
  const { kind, backend = "iptables" } = command;
  const locks = command.accounts.map((name) => ({ ...command, name, backend }));
  const steps = stepsByName(system, locks, kind);
  if (command.json) printPlan(command, steps, { backend, applied: false });
  else {
    output.printDryRun(kind, steps, command.explain);
    output.printOutcome([...unseen(command, backend)]);
  }
}

async function change(command: Changing): Promise<number> {
  const { SignalTrap } = await import("./src/signals.ts");
  using signals = new SignalTrap();
  const { opening } = await startSession();
  const [{ makeChange }, text, system] = await Promise.all([
    import("./src/lock/change.ts"),
    import("./src/cli/outcome_text.ts"),
    systemOf(command.system),
  ]);
  const { kind, json } = command;
  const { accounts, steps, stays, warnings } = await makeChange(
    system,
    command,
    {
      onWaiting: () => output.printWaiting("another run of this program is at work"),
      onPlan: ({ length }) => {
        if (!json) output.printLines(() => [`Firewall ${kind}: applying ${length} command(s)`]);
      },
      onStep: ({ line, why }) => {
        if (!json) output.printCommand(line, command.explain ? why : undefined);
      },
      onLong: ({ line }) => output.printWaiting(withoutText(line)),
    },
    { opening, signals },
  );
  const enabling = kind === "enable";
  const notCovered = enabling ? system.notCovered : [];
  const changed = steps.length > 0;
  const isWhole = accounts.every(({ state }) => state === "locked");
  if (json) {
    const { backend } = accounts[0] ?? {};
    const states = enabling
      ? { accounts: accounts.map(({ name, uid, state }) => ({ name, uid, state })) }
      : {};
    printPlan(command, steps, { backend, applied: true, changed, ...states, warnings, notCovered });
  } else {
    output.printOutcome([
      ...(changed || !isWhole ? [] : [text.NOTHING_TO_DO[kind]]),
      ...(enabling
        ? text.enableOutcome(accounts, changed)
        : text.disableOutcome(command.accounts, changed)),
      ...stays,
      ...(enabling ? [text.proxyHint(accounts.flatMap(({ onlyPorts }) => onlyPorts))] : []),
    ]);
    output.printLines(() => [`Firewall ${kind}: complete.`]);
  }
  output.printWarnings(warnings, notCovered);
  return isWhole ? 0 : NOT_LOCKED;
}

function printPlan(
  { kind, system, accounts }: Changing,
  steps: readonly Step[],
  { backend, ...outcome }: Readonly<Record<string, unknown>>,
): void {
  output.printJson({
    command: kind,
    os: system,
    backend: system === "linux" ? backend : undefined,
    agentUsers: accounts,
    ...outcome,
    steps: steps.map(({ line, why, undo }) => ({
      line,
      why,
      undo: undo.filter((one) => one !== "").toReversed(),
    })),
  });
}

async function status(command: Extract<Command, { kind: "status" }>): Promise<number> {
  const { accounts, json, explain } = command;
  const { opening } = await startSession();
  const [{ readStatus }, system] = await Promise.all([
    import("./src/lock/status.ts"),
    systemOf(command.system),
  ]);
  const { report, warnings } = await readStatus(system, accounts, opening);
  const { notCovered } = system;
  if (json) {
    output.printJson({ command: "status", os: command.system, ...report, warnings, notCovered });
  } else {
    const { statusLines } = await import("./src/cli/status_text.ts");
    output.printLines((width) => statusLines(report, { warnings, notCovered, explain }, width));
  }
  return report.state === "locked" ? 0 : NOT_LOCKED;
}

async function verify(command: Extract<Command, { kind: "verify" }>): Promise<number> {
  const { accounts, json } = command;
  const { opening } = await startSession();
  const [{ verifyAll }, { verifyLines }, system] = await Promise.all([
    import("./src/lock/run_verify.ts"),
    import("./src/cli/verify_text.ts"),
    systemOf(command.system),
  ]);
  const verifications: Verification[] = [];
  for await (const verification of verifyAll(system, accounts, command, opening)) {
    verifications.push(verification);
    if (!json) output.printLines((width) => verifyLines(verification, width));
  }
  if (json) {
    output.printJson({ command: "verify", os: command.system, accounts: verifications });
  }
  return verifications.every(({ proven }) => proven) ? 0 : NOT_LOCKED;
}

async function log(command: Extract<Command, { kind: "log" }>): Promise<void> {
  const { opening } = await startSession();
  const [{ showLog }, text] = await Promise.all([
    import("./src/linux/show_log.ts"),
    import("./src/cli/log_text.ts"),
  ]);
  const { json, summary } = command;
  const [person, program] = summary
    ? [text.summaryLines, text.summaryJson]
    : [text.logLines, text.logJson];
  const linesOf = json ? program : person;
  let count = 0;
  const lost = await showLog(command, (refusals) => {
    count += refusals.length;
    if (refusals.length > 0) output.printLines(() => linesOf(refusals));
    return !output.isUnread;
  }, opening);
  if (lost > 0) output.printOutcome([text.lossLine(lost)]);
  if (count === 0 && !command.follow) output.printOutcome(["nothing was refused in that time"]);
}

/** The command that reads a text of many lines. */
function withoutText(line: string): string {
  return line.includes("\n") ? line.slice(line.lastIndexOf("' | sudo ") + "' | ".length) : line;
}

if (import.meta.main) {
  const code = await main(Deno.args);
  Deno.exit(code === 0 && output.isIncomplete ? 1 : code);
}

/**
 * The help texts, written from the description of the command line.
 *
 * @module
 */
import { COMMANDS, type FirewallCommand, OPTIONS, type Topic } from "./options.ts";

/** The help for one level of the command line, ending in a newline. */
export function helpText(topic: Topic): string {
  switch (topic) {
    case "fishnet":
      return FISHNET;
    case "firewall":
      return FIREWALL;
    case "completions":
      return COMPLETIONS;
    case "enable":
    case "disable":
    case "status":
    case "verify":
    case "log":
      return commandHelp(topic);
    default: {
      const _: never = topic;
      throw new Error(`unreachable: ${_}`);
    }
  }
}

const commandList = Object.entries(COMMANDS)
  .map(([name, help]) => `  ${name.padEnd(9)} ${help}`).join("\n");

const FISHNET = `Keeps the account of an AI agent on this machine.

Usage: fishnet firewall COMMAND [OPTIONS]

Commands:
${commandList}

  fishnet firewall COMMAND --help    the options of a command
  fishnet completions bash|zsh|fish  completions for a shell, to be sourced
  fishnet --version                  the version
`;

const COMPLETIONS = `Prints completions for a shell.

Usage: fishnet completions bash|zsh|fish
`;

const FIREWALL = `Configures the system's packet filter so that the account of an AI agent
reaches this machine only, and so the proxy on it. Without --apply nothing
runs: the plan is shown, line by line.

Usage: fishnet firewall COMMAND [OPTIONS]

Commands:
${commandList}

With the firewall enabled:
  the account can connect to http://127.0.0.1:3777 (the Fishnet proxy)
  the account can access other localhost services (but see --only-port)
  the account cannot connect to external APIs
  other accounts notice nothing

Exit codes:
  0  done, or the dry-run was shown
  1  an error: nothing was changed, or the message says what is left
  3  status or verify found the account not fully locked

All or nothing:
  A step that fails, or Ctrl-C, undoes the ones before it. enable twice is
  enable once; disable without an enable is no error. Two runs at once wait
  for one another. After kill -9, run it again.

Testing:
  fishnet firewall verify --agent-user USER tries what must fail and what must
  work. By hand: sudo -u USER curl https://api.openai.com/v1/models has to be
  refused, sudo -u USER curl http://127.0.0.1:3777/health has to answer.

Permissions:
  --apply runs its commands through sudo, which may ask for your password.

Systems:
  macOS (pf), Linux (iptables or nftables); no others, Windows for one
`;

function commandHelp(command: FirewallCommand): string {
  const options = Object.entries(OPTIONS).filter(([, { on }]) => on.includes(command));
  const labels = options.map(([name, { value }]) => `--${name}${value ? ` ${value}` : ""}`);
  const width = Math.max(...labels.map((label) => label.length));
  return `${COMMANDS[command]}.

Usage: fishnet firewall ${command} [--agent-user USER] ${
    OPTIONS["apply"]!.on.includes(command) ? "[--apply] " : ""
  }[OPTIONS]

Options:
${
    options.map(([, { help, values }], i) =>
      `  ${labels[i]!.padEnd(width)}  ${help}${values ? ` [${values.join(", ")}]` : ""}`
    ).join("\n")
  }

Example:
  fishnet firewall ${command} --agent-user agent_runner
${NOTES[command] ?? ""}`;
}

/** What a command's exit code and output mean, where that is not plain from its options. */
const NOTES: Readonly<Partial<Record<FirewallCommand, string>>> = {
  status: `
Without --agent-user every account is shown that anything of a lock is there for,
deleted ones included. The states:
  locked    every piece is in force
  partial   some are; each missing one is named, with the command that mends it
  unlocked  none is
  unknown   the system's state could not be read (sudo was refused)

Exit codes: 0 every account shown is locked; 3 one is not, or none is shown; 1 an error.
`,
  verify: `
Each try stands beside a control, the same as an account that is not locked
(nobody, or root). Where the control fails too, the line says inconclusive.
Without --target no packet is sent off this machine for an account that is not
locked: the kernel is asked for a route.

Exit codes: 0 locked, and proven; 3 not locked, or not proven; 1 an error.
`,
};

/** The command line, described once: parsing, help, completions and manual page are made from it. */

/** A subcommand of `fishnet firewall`. */
export type FirewallCommand = "enable" | "disable" | "status" | "verify" | "log";

/** A level of `--help`. */
export type Topic = "fishnet" | "firewall" | "completions" | FirewallCommand;

/** A shell that completions are written for. */
export type Shell = typeof SHELLS[number];

/** The shells that completions are written for. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

/** The words that may follow `fishnet` itself. */
export const FIRST_WORDS = {
  firewall: "Keep an account on this machine",
  completions: "Print completions for a shell",
  help: "Show help, for a command too",
};

/** What each subcommand does, in one line. */
export const COMMANDS: Readonly<Record<FirewallCommand, string>> = {
  enable: "Create the rules that keep the account on this machine",
  disable: "Remove the lock; the machine is as it was before the first enable",
  status: "Show what is in force, as the system itself reports it",
  verify: "Try, as the account, what must fail and what must work",
  log: "Show what the account tried, if it was enabled with --log",
};

/** Whether a word is one of them. */
export function isFirewallCommand(word: string): word is FirewallCommand {
  return Object.hasOwn(COMMANDS, word);
}

/** One option: its value's name if it takes one, where it is accepted, and what it does. */
interface OptionSpec {
  readonly value?: string;
  readonly values?: readonly string[];
  readonly repeatable?: true;
  readonly on: readonly FirewallCommand[];
  readonly help: string;
}

const CHANGES = ["enable", "disable"] as const;
const ALL = ["enable", "disable", "status", "verify", "log"] as const;

/** Every option, in the order in which help lists them. */
export const OPTIONS: Readonly<Record<string, OptionSpec>> = {
  "agent-user": {
    value: "USER",
    repeatable: true,
    on: ALL,
    help: "Unix username of the AI agent, repeatable (default: $USER; status and log: every " +
      "locked account)",
  },
  "apply": { on: CHANGES, help: "Execute the plan; without it, the plan is only shown" },
  "apply-system": { on: CHANGES, help: "The same as --apply" },
  "backend": {
    value: "BACKEND",
    values: ["iptables", "nftables"],
    on: CHANGES,
    help: "Linux: which rule set carries the lock (default: the one that the account is locked " +
      "with, else iptables, else nftables); disable: the dry-run shows the lines for this one",
  },
  "only-port": {
    value: "PORT",
    repeatable: true,
    on: ["enable"],
    help: "Limit loopback too, to this TCP port; repeatable",
  },
  "persist": {
    on: ["enable"],
    help: "The lock is there again after a reboot, on Linux before the network is up",
  },
  "sessions": {
    on: ["enable"],
    help: "With --persist, on Linux with systemd: nothing in the account's login sessions " +
      "reaches another machine",
  },
  "log": {
    on: ["enable"],
    help: "Linux: record refusals with the kernel's audit; needs auditd",
  },
  "target": {
    value: "HOST:PORT",
    on: ["verify"],
    help: "Where to try to connect outside (default: addresses reserved for documentation)",
  },
  "proxy": {
    value: "URL",
    on: ["verify"],
    help: "What must be reachable on this machine (default: http://127.0.0.1:3777/health)",
  },
  "since": {
    value: "DURATION",
    on: ["log"],
    help: "How far to look back: 30s, 10m, 2h, 1d (default: 1h; with --follow: not at all)",
  },
  "follow": { on: ["log"], help: "Show what is tried from now on, until Ctrl-C" },
  "summary": {
    on: ["log"],
    help: "Show how often each destination was tried, the most tried first",
  },
  "os": {
    value: "OS",
    values: ["macos", "linux"],
    on: CHANGES,
    help: "Show the plan for another system (dry-run only)",
  },
  "json": { on: ALL, help: "Print one JSON document (log: one on each line)" },
  "explain": {
    on: ["enable", "disable", "status"],
    help: "Say why each command of the plan is there; status: list what no packet filter stops",
  },
  "help": { on: ALL, help: "Show this help" },
};

/** The options of a subcommand by their names, in the same order. */
export const optionsOf = (command: FirewallCommand) =>
  new Map(Object.entries(OPTIONS).filter(([, { on }]) => on.includes(command)));

/**
 * The command line: what it accepts, described once. `--help`, the completions
 * and the manual page are written from this description.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { closestString } from "@std/text/closest-string";
import { parseAccountName, refuseRoot } from "../account.ts";
import { FishnetError } from "../errors.ts";
import { MAX_ONLY_PORTS } from "../linux/iptables.ts";
import type { Backend, System } from "../planner.ts";

/** What `enable` and `disable` have in common. */
export interface ChangeCommand {
  readonly accounts: readonly string[];
  readonly apply: boolean;
  readonly system: System;
  /** Undefined where the user left the choice to the program. */
  readonly backend: Backend | undefined;
  readonly json: boolean;
  readonly explain: boolean;
}

/** `enable`: what the lock consists of, beside what it has in common with `disable`. */
export interface EnableCommand extends ChangeCommand {
  readonly onlyPorts: readonly number[];
  readonly persist: boolean;
  readonly sessions: boolean;
}

/** `status`: the accounts to look at; none stands for every locked one. */
export interface StatusCommand {
  readonly accounts: readonly string[];
  readonly system: System;
  readonly json: boolean;
}

/** `verify`: as whom to try, and what. */
export interface VerifyCommand extends StatusCommand {
  readonly target: { readonly host: string; readonly port: number } | undefined;
  readonly proxy: URL;
}

/** One call of the program, checked: `main.ts` has nothing left to refuse. */
export type Command =
  | { readonly kind: "help"; readonly topic: Topic }
  | { readonly kind: "version" }
  | { readonly kind: "completions"; readonly shell: Shell }
  | { readonly kind: "enable" } & EnableCommand
  | { readonly kind: "disable" } & ChangeCommand
  | { readonly kind: "status" } & StatusCommand
  | { readonly kind: "verify" } & VerifyCommand;

/** A level of `--help`. */
export type Topic = "fishnet" | "firewall" | "completions" | FirewallCommand;

/** A subcommand of `fishnet firewall`. */
export type FirewallCommand = "enable" | "disable" | "status" | "verify";

/** A shell that completions are written for. */
export type Shell = typeof SHELLS[number];

/** The shells that completions are written for. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

/** One option: its value's name if it takes one, where it is accepted, and what it does. */
export interface OptionSpec {
  readonly value?: string;
  readonly values?: readonly string[];
  readonly repeatable?: true;
  readonly on: readonly FirewallCommand[];
  readonly help: string;
}

const CHANGES = ["enable", "disable"] as const;
const ALL = ["enable", "disable", "status", "verify"] as const;

/** What each subcommand does, in one line. */
export const COMMANDS: Readonly<Record<FirewallCommand, string>> = {
  enable: "Create the rules that keep the account on this machine",
  disable: "Remove them; the machine is as it was before the first enable",
  status: "Show what is in force, as the system itself tells it",
  verify: "Try, as the account, what must fail and what must work",
};

/** Every option, in the order in which help lists them. */
export const OPTIONS: Readonly<Record<string, OptionSpec>> = {
  "agent-user": {
    value: "USER",
    repeatable: true,
    on: ALL,
    help: "Unix username of the AI agent, repeatable (default: $USER; status: every locked one)",
  },
  "apply": { on: CHANGES, help: "Execute the plan; without it, the plan is only shown" },
  "apply-system": { on: CHANGES, help: "The same as --apply" },
  "backend": {
    value: "BACKEND",
    values: ["iptables", "nftables"],
    on: CHANGES,
    help: "Linux: which rule set carries the lock (default: iptables)",
  },
  "only-port": {
    value: "PORT",
    repeatable: true,
    on: ["enable"],
    help: "Limit loopback too to this TCP port; may be given several times",
  },
  "persist": {
    on: ["enable"],
    help: "The lock is there again after a reboot, on Linux before the network is up",
  },
  "sessions": {
    on: ["enable"],
    help: "With --persist, on Linux with systemd: shut the account's login sessions as a whole",
  },
  "target": {
    value: "HOST:PORT",
    on: ["verify"],
    help: "What outside to try to reach (default: addresses reserved for documentation)",
  },
  "proxy": {
    value: "URL",
    on: ["verify"],
    help: "What on this machine has to be reachable (default: http://127.0.0.1:3777/health)",
  },
  "os": {
    value: "OS",
    values: ["macos", "linux"],
    on: CHANGES,
    help: "Show the plan for another system (dry-run only)",
  },
  "json": { on: ALL, help: "Print one JSON document" },
  "explain": { on: CHANGES, help: "Precede each line of the plan by why it is there" },
  "help": { on: ALL, help: "Show this help" },
};

/** What parsing needs to know of the machine. */
export interface Surroundings {
  /** `$USER`, the reference page's default for `--agent-user`. */
  readonly user: string | undefined;
  /** `Deno.build.os`. */
  readonly os: string;
}

/**
 * Turns an argument vector into a command.
 *
 * @throws {FishnetError} for anything that is not in the description above.
 */
export function parseCommandLine(args: readonly string[], surroundings: Surroundings): Command {
  const [first, second] = args;
  if (first === undefined) {
    throw new FishnetError("a command is required: fishnet firewall enable (see fishnet --help)");
  }
  if (isHelp(first)) return { kind: "help", topic: "fishnet" };
  if (first === "--version" || first === "-V") return { kind: "version" };
  if (first === "completions") return completionsOf(args.slice(1));
  if (first !== "firewall") {
    throw unknown("command", first, ["firewall", "completions", "--help", "--version"]);
  }
  if (second === undefined) {
    throw new FishnetError(
      "a subcommand is required: fishnet firewall enable (see fishnet firewall --help)",
    );
  }
  if (isHelp(second)) return { kind: "help", topic: "firewall" };
  if (!isFirewallCommand(second)) {
    throw unknown("subcommand", second, [...Object.keys(COMMANDS), "--help"]);
  }
  const rest = args.slice(2);
  if (rest.some(isHelp)) return { kind: "help", topic: second };
  return commandOf(second, readOptions(second, rest), surroundings);
}

const isHelp = (arg: string) => arg === "--help" || arg === "-h";

function isFirewallCommand(word: string): word is FirewallCommand {
  return Object.hasOwn(COMMANDS, word);
}

/** The options of one call: flags that were given, and values in their order. */
interface Options {
  flag(name: string): boolean;
  values(name: string): readonly string[];
  /** The value of an option that may be given once. */
  value(name: string): string | undefined;
}

function readOptions(command: FirewallCommand, args: readonly string[]): Options {
  const known = Object.entries(OPTIONS).filter(([, spec]) => spec.on.includes(command));
  const valued = known.filter(([, spec]) => spec.value !== undefined).map(([name]) => name);
  const flags = known.filter(([, spec]) => spec.value === undefined).map(([name]) => name);
  const parsed = parseArgs(joinValues(args, valued, flags), {
    boolean: flags,
    string: valued,
    collect: valued,
  }) as Readonly<Record<string, unknown>>;
  const values = (name: string) => (parsed[name] ?? []) as readonly string[];
  for (const [name, spec] of known) {
    if (!spec.repeatable && values(name).length > 1) {
      throw new FishnetError(`--${name} is given more than once`);
    }
    for (const value of spec.values === undefined ? [] : values(name)) {
      if (!spec.values?.includes(value)) {
        throw unknown(`value for --${name}`, value, spec.values ?? []);
      }
    }
  }
  return { flag: (name) => parsed[name] === true, values, value: (name) => values(name)[0] };
}

/**
 * Writes `--option value` as `--option=value`, so that a value may be empty or
 * begin with a hyphen, and refuses what the parser would guess at.
 */
function joinValues(
  args: readonly string[],
  valued: readonly string[],
  flags: readonly string[],
): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    const name = arg.replace(/^--/, "").replace(/=.*/s, "");
    if (!arg.startsWith("-") || arg === "--") {
      throw new FishnetError(`unexpected argument '${arg}'`);
    }
    if (!arg.startsWith("--") || ![...valued, ...flags].includes(name)) {
      const options = [...valued, ...flags].map((option) => `--${option}`);
      throw unknown("option", arg.replace(/=.*/s, ""), options);
    }
    if (arg === `--${name}` && valued.includes(name)) {
      const value = args[++i];
      if (value === undefined || value.startsWith("--")) {
        throw new FishnetError(`--${name} needs a value`);
      }
      joined.push(`${arg}=${value}`);
    } else if (arg !== `--${name}` && flags.includes(name)) {
      throw new FishnetError(`--${name} takes no value`);
    } else joined.push(arg);
  }
  return joined;
}

function completionsOf(args: readonly string[]): Command {
  const [shell, extra] = args;
  if (args.some(isHelp)) return { kind: "help", topic: "completions" };
  if (shell === undefined) throw new FishnetError(`a shell is required: ${SHELLS.join(", ")}`);
  if (extra !== undefined) throw new FishnetError(`unexpected argument '${extra}'`);
  const found = SHELLS.find((known) => known === shell);
  if (found === undefined) throw unknown("shell", shell, SHELLS);
  return { kind: "completions", shell: found };
}

function commandOf(kind: FirewallCommand, options: Options, { user, os }: Surroundings): Command {
  const json = options.flag("json");
  const given = namesOf(options.values("agent-user"));
  switch (kind) {
    case "enable": {
      const change = changeOf(options, given, user, os);
      return { kind, ...change, ...lockOf(options, change.system) };
    }
    case "disable":
      return { kind, ...changeOf(options, given, user, os) };
    case "status":
      return { kind, accounts: given, system: systemOf(os), json };
    case "verify":
      return {
        kind,
        accounts: given.length > 0 ? given : defaultAccount(user),
        system: systemOf(os),
        json,
        target: targetOf(options.value("target")),
        proxy: proxyOf(options.value("proxy") ?? "http://127.0.0.1:3777/health"),
      };
    default: {
      const _: never = kind;
      throw new Error(`unreachable: ${_}`);
    }
  }
}

function changeOf(
  options: Options,
  given: readonly string[],
  user: string | undefined,
  os: string,
): ChangeCommand {
  const apply = options.flag("apply") || options.flag("apply-system");
  const chosen = options.value("os") as System | undefined;
  if (chosen !== undefined && apply) {
    throw new FishnetError("--os only shows the plan for another system: leave out --apply");
  }
  const system = chosen ?? systemOf(os);
  const backend = options.value("backend") as Backend | undefined;
  if (backend !== undefined && system === "macos") {
    throw new FishnetError("--backend is for Linux; macOS has pf alone");
  }
  const accounts = given.length > 0 ? given : defaultAccount(user);
  accounts.forEach(refuseRoot);
  const json = options.flag("json");
  return { accounts, apply, system, backend, json, explain: options.flag("explain") };
}

function lockOf(
  options: Options,
  system: System,
): Pick<EnableCommand, "onlyPorts" | "persist" | "sessions"> {
  const [persist, sessions] = [options.flag("persist"), options.flag("sessions")];
  if (sessions && !persist) throw new FishnetError("--sessions needs --persist: give both");
  if (sessions && system === "macos") {
    throw new FishnetError("--sessions is for Linux with systemd: leave it out");
  }
  return { onlyPorts: portsOf(options.values("only-port")), persist, sessions };
}

function systemOf(os: string): System {
  if (os === "darwin") return "macos";
  if (os === "linux") return "linux";
  throw new FishnetError("firewall command is not supported on this OS");
}

function namesOf(given: readonly string[]): string[] {
  return [...new Set(given.map(parseAccountName))];
}

function defaultAccount(user: string | undefined): string[] {
  if (user === undefined || user === "") {
    throw new FishnetError("agent user is required (--agent-user)");
  }
  return [parseAccountName(user)];
}

function targetOf(text: string | undefined): VerifyCommand["target"] {
  if (text === undefined) return undefined;
  const url = URL.parse(`tcp://${text}`);
  if (url === null || url.host !== text || url.hostname === "" || url.port === "") {
    throw new FishnetError(`invalid target '${text}': must be HOST:PORT, as in 203.0.113.9:443`);
  }
  return { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port) };
}

function proxyOf(text: string): URL {
  const url = URL.parse(text);
  if (url === null || url.protocol !== "http:") {
    throw new FishnetError(`invalid proxy '${text}': must be an http:// URL`);
  }
  return url;
}

function portsOf(given: readonly string[]): number[] {
  const ports = given.map((text) => {
    const port = Number(text);
    if (!/^[0-9]+$/.test(text) || port < 1 || port > 65535) {
      throw new FishnetError(`invalid port '${text}': must be a number from 1 to 65535`);
    }
    return port;
  });
  const distinct = [...new Set(ports)].sort((a, b) => a - b);
  if (distinct.length > MAX_ONLY_PORTS) {
    throw new FishnetError(`--only-port takes at most ${MAX_ONLY_PORTS} ports`);
  }
  return distinct;
}

function unknown(what: string, word: string, known: readonly string[]): FishnetError {
  const nearest = closestString(word, [...known]);
  return new FishnetError(`unknown ${what} '${word}': did you mean '${nearest}'?`);
}

/**
 * The command line: what it accepts, described once. `--help`, the completions
 * and the manual page are written from this description.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { closestString } from "@std/text/closest-string";
import { parseAccountName, refuseRoot } from "./account.ts";
import { FishnetError } from "./errors.ts";
import { MAX_ONLY_PORTS } from "./linux/iptables.ts";
import type { Backend, System } from "./planner.ts";

/** What `enable` and `disable` have in common. */
export interface ChangeCommand {
  readonly accounts: readonly string[];
  readonly apply: boolean;
  readonly system: System;
  readonly backend: Backend;
  readonly json: boolean;
  readonly explain: boolean;
}

/** One call of the program, checked: `main.ts` has nothing left to refuse. */
export type Command =
  | { readonly kind: "help"; readonly topic: Topic }
  | { readonly kind: "version" }
  | { readonly kind: "enable"; readonly onlyPorts: readonly number[] } & ChangeCommand
  | { readonly kind: "disable" } & ChangeCommand;

/** A level of `--help`. */
export type Topic = "fishnet" | "firewall" | FirewallCommand;

/** A subcommand of `fishnet firewall`. */
export type FirewallCommand = "enable" | "disable";

/** One option: its value's name if it takes one, where it is accepted, and what it does. */
export interface OptionSpec {
  readonly value?: string;
  readonly values?: readonly string[];
  readonly repeatable?: true;
  readonly on: readonly FirewallCommand[];
  readonly help: string;
}

const CHANGES = ["enable", "disable"] as const;

/** What each subcommand does, in one line. */
export const COMMANDS: Readonly<Record<FirewallCommand, string>> = {
  enable: "Create the rules that keep the account on this machine",
  disable: "Remove them; the machine is as it was before the first enable",
};

/** Every option, in the order in which help lists them. */
export const OPTIONS: Readonly<Record<string, OptionSpec>> = {
  "agent-user": {
    value: "USER",
    repeatable: true,
    on: CHANGES,
    help: "Unix username of the AI agent; may be given several times (default: $USER)",
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
  "os": {
    value: "OS",
    values: ["macos", "linux"],
    on: CHANGES,
    help: "Show the plan for another system (dry-run only)",
  },
  "json": { on: CHANGES, help: "Print one JSON document" },
  "explain": { on: CHANGES, help: "Precede each line of the plan by why it is there" },
  "help": { on: CHANGES, help: "Show this help" },
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
  if (first !== "firewall") throw unknown("command", first, ["firewall", "--help", "--version"]);
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
    string: [...valued, "_"],
    collect: valued,
    unknown: (arg: string, key?: string) => {
      if (key === undefined) throw new FishnetError(`unexpected argument '${arg}'`);
      throw unknown("option", arg.replace(/=.*/s, ""), known.map(([name]) => `--${name}`));
    },
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
    if (arg === `--${name}` && valued.includes(name)) {
      const value = args[++i];
      if (value === undefined || value.startsWith("--")) {
        throw new FishnetError(`--${name} needs a value`);
      }
      joined.push(`${arg}=${value}`);
    } else if (arg.startsWith("--") && arg !== `--${name}` && flags.includes(name)) {
      throw new FishnetError(`--${name} takes no value`);
    } else if (arg === "--" || !arg.startsWith("-")) {
      throw new FishnetError(`unexpected argument '${arg}'`);
    } else joined.push(arg);
  }
  return joined;
}

function commandOf(
  kind: FirewallCommand,
  options: Options,
  { user, os }: Surroundings,
): Command {
  const apply = options.flag("apply") || options.flag("apply-system");
  const system = systemOf(options.value("os"), os, apply);
  const backend = options.value("backend") as Backend | undefined;
  if (backend !== undefined && system === "macos") {
    throw new FishnetError("--backend is for Linux; macOS has pf alone");
  }
  const change: ChangeCommand = {
    accounts: accountsOf(options.values("agent-user"), user),
    apply,
    system,
    backend: backend ?? "iptables",
    json: options.flag("json"),
    explain: options.flag("explain"),
  };
  switch (kind) {
    case "enable":
      return { kind, ...change, onlyPorts: portsOf(options.values("only-port")) };
    case "disable":
      return { kind, ...change };
    default: {
      const _: never = kind;
      throw new Error(`unreachable: ${_}`);
    }
  }
}

function systemOf(chosen: string | undefined, os: string, apply: boolean): System {
  if (chosen !== undefined) {
    if (apply) {
      throw new FishnetError("--os only shows the plan for another system: leave out --apply");
    }
    return chosen as System;
  }
  if (os === "darwin") return "macos";
  if (os === "linux") return "linux";
  throw new FishnetError("firewall command is not supported on this OS");
}

function accountsOf(given: readonly string[], user: string | undefined): string[] {
  const names = given.length > 0 ? given : user === undefined || user === "" ? [] : [user];
  if (names.length === 0) throw new FishnetError("agent user is required (--agent-user)");
  for (const name of names) refuseRoot(parseAccountName(name));
  return [...new Set(names)];
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

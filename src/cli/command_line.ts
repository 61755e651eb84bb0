/** From an argument vector to a checked command. */
import { parseAccountName, PROXY_PORT, refuseRoot, SYSTEMS } from "../account.ts";
import type { Backend, System } from "../account.ts";
import { FishnetError } from "../errors.ts";
import type { LockOptions } from "../lock/piece.ts";
import type { VerifyOptions } from "../lock/verify.ts";
import { type Options, readOptions, unknown } from "./arguments.ts";
import { COMMANDS, FIRST_WORDS, isFirewallCommand, SHELLS } from "./options.ts";
import type { FirewallCommand, Shell, Topic } from "./options.ts";

/** What all subcommands have in common. */
interface AboutAccounts {
  /** `status` and `log`: none stands for every locked one. */
  readonly accounts: readonly string[];
  /** Whether they were named with --agent-user, and not taken from $USER. */
  readonly accountsGiven: boolean;
  readonly system: System;
  readonly json: boolean;
}

/** What `enable` and `disable` have in common; a `disable` asks for nothing of a lock. */
interface Change extends AboutAccounts, Omit<LockOptions, "backend"> {
  readonly apply: boolean;
  /** Undefined where the user left the choice to the program. */
  readonly backend: Backend | undefined;
  readonly explain: boolean;
}

/** One call of the program, checked: `main.ts` has nothing left to refuse. */
export type Command =
  | { readonly kind: "help"; readonly topic: Topic }
  | { readonly kind: "version" }
  | { readonly kind: "completions"; readonly shell: Shell }
  | { readonly kind: "enable" } & Change
  | { readonly kind: "disable" } & Change
  | { readonly kind: "status"; readonly explain: boolean } & AboutAccounts
  | { readonly kind: "verify" }
    & AboutAccounts
    & Pick<VerifyOptions, "target" | "proxy" | "proxyGiven">
  | AboutAccounts & {
    readonly kind: "log";
    /** How far to look back, in seconds; undefined for not at all. */
    readonly since: number | undefined;
    readonly follow: boolean;
    readonly summary: boolean;
  };

/** What parsing needs to know of the machine. */
interface Surroundings {
  /** `$USER`, the reference page's default for `--agent-user`. */
  readonly user: string | undefined;
  readonly os: string;
}

/** @throws {FishnetError} for anything that is not in the description of `options.ts`. */
export function parseCommandLine(args: readonly string[], surroundings: Surroundings): Command {
  const [first, second] = args;
  if (first === undefined || isHelp(first)) return helpFor(args.slice(1));
  if (first === "--version" || first === "-V") return { kind: "version" };
  if (first === "completions") return completionsOf(args.slice(1));
  if (first !== "firewall") {
    const known = [...Object.keys(FIRST_WORDS), "--help", "--version"];
    throw unknown("command", first, [...known, ...Object.keys(COMMANDS)], "see fishnet --help");
  }
  if (second === undefined || isHelp(second)) return helpFor(["firewall", ...args.slice(2)]);
  if (!isFirewallCommand(second)) {
    const known = [...Object.keys(COMMANDS), "--help"];
    throw unknown("subcommand", second, known, "see fishnet firewall --help");
  }
  const rest = args.slice(2);
  if (rest.some((arg) => arg === "--help" || arg === "-h")) return { kind: "help", topic: second };
  return commandOf(second, readOptions(second, rest), surroundings);
}

const isHelp = (arg: string) => ["help", "--help", "-h"].includes(arg);

/** `fishnet help firewall enable`: help for what is named. */
function helpFor(words: readonly string[]): Command {
  const [first, ...rest] = words.filter((word) => !isHelp(word));
  const [topic, ...more] = first === "firewall" && rest.length > 0 ? rest : [first, ...rest];
  const known = [...Object.keys(FIRST_WORDS), ...Object.keys(COMMANDS)];
  if (more.length > 0) throw new FishnetError(`unexpected argument '${more[0]}'`);
  if (topic !== undefined && !known.includes(topic)) {
    throw unknown("topic", topic, known, "see fishnet --help");
  }
  return { kind: "help", topic: (topic ?? "fishnet") as Topic };
}

function completionsOf(args: readonly string[]): Command {
  const [shell, extra] = args;
  if (args.some(isHelp)) return helpFor(["completions"]);
  if (shell === undefined) throw new FishnetError(`a shell is required: ${SHELLS.join(", ")}`);
  if (extra !== undefined) throw new FishnetError(`unexpected argument '${extra}'`);
  const found = SHELLS.find((known) => known === shell);
  if (found === undefined) throw unknown("shell", shell, SHELLS);
  return { kind: "completions", shell: found };
}

function commandOf(kind: FirewallCommand, options: Options, around: Surroundings): Command {
  const about = aboutOf(kind, options, around);
  switch (kind) {
    case "enable":
    case "disable":
      return { kind, ...changeOf(options, about) };
    case "status":
      return { kind, ...about, explain: options.has("explain") };
    case "verify": {
      const proxy = proxyOf(valueOf(options, "proxy") ?? `http://127.0.0.1:${PROXY_PORT}/health`);
      const target = targetOf(valueOf(options, "target"));
      return { kind, ...about, target, proxy, proxyGiven: options.has("proxy") };
    }
    case "log":
      return { kind, ...about, ...logOf(options, about) };
  }
}

const valueOf = (options: Options, name: string) => options.get(name)?.[0];

/** Whose it is: the accounts that are named, or $USER; every locked one for `status` and `log`. */
function aboutOf(
  kind: FirewallCommand,
  options: Options,
  { user, os }: Surroundings,
): AboutAccounts {
  const system = valueOf(options, "os") as System | undefined ?? SYSTEMS[os];
  if (system === undefined) throw new FishnetError("firewall command is not supported on this OS");
  const accounts = new Set(options.get("agent-user")?.map(parseAccountName));
  const accountsGiven = accounts.size > 0;
  if (!accountsGiven && kind !== "status" && kind !== "log") {
    if (!user) throw new FishnetError("agent user is required (--agent-user)");
    accounts.add(parseAccountName(user));
  }
  return { accounts: [...accounts], accountsGiven, system, json: options.has("json") };
}

function changeOf(options: Options, about: AboutAccounts): Change {
  const isMac = about.system === "macos";
  const apply = options.has("apply") || options.has("apply-system");
  if (options.has("os") && apply) {
    throw new FishnetError("--os only shows the plan for another system: leave out --apply");
  }
  const backend = valueOf(options, "backend") as Backend | undefined;
  if (backend !== undefined && isMac) {
    throw new FishnetError("--backend is for Linux; macOS has pf alone");
  }
  about.accounts.forEach(refuseRoot);
  const [persist, sessions] = [options.has("persist"), options.has("sessions")];
  if (sessions && !persist) throw new FishnetError("--sessions needs --persist: give both");
  if (sessions && isMac) {
    throw new FishnetError("--sessions is for Linux with systemd: leave it out");
  }
  const log = options.has("log");
  if (log && isMac) {
    throw new FishnetError("--log is for Linux, whose audit records it: leave it out");
  }
  const onlyPorts = portsOf(options.get("only-port") ?? []);
  const explain = options.has("explain");
  return { ...about, apply, backend, onlyPorts, persist, sessions, log, explain };
}

function logOf(options: Options, { system }: AboutAccounts) {
  if (system === "macos") {
    throw new FishnetError("log is for Linux, whose audit records what an account tries");
  }
  const [follow, summary] = [options.has("follow"), options.has("summary")];
  if (follow && summary) {
    throw new FishnetError("--summary counts what is recorded, --follow has no end: give one");
  }
  const since = valueOf(options, "since") ?? (follow ? undefined : "1h");
  return { since: since === undefined ? undefined : secondsOf(since), follow, summary };
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

function secondsOf(text: string): number {
  const [, count, unit] = /^([1-9][0-9]{0,4})([smhd])$/.exec(text) ?? [];
  if (count === undefined || unit === undefined) {
    throw new FishnetError(`invalid duration '${text}': must be as in 30s, 10m, 2h, 1d`);
  }
  return Number(count) * UNITS[unit]!;
}

function targetOf(text: string | undefined): VerifyOptions["target"] {
  if (text === undefined) return undefined;
  const url = URL.parse(`tcp://${text}`);
  // A URL of http takes no host in numbers that is no IPv4 address, and writes out a short one.
  const host = URL.parse(`http://${text.toLowerCase()}`)?.hostname;
  if (url?.host !== text || host !== url.hostname.toLowerCase() || !(Number(url.port) > 0)) {
    throw new FishnetError(`invalid target '${text}': must be HOST:PORT, as in 203.0.113.9:443`);
  }
  return { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port) };
}

function proxyOf(text: string): URL {
  const url = URL.parse(text);
  if (url === null || url.protocol !== "http:") {
    throw new FishnetError(`invalid proxy '${text}': must be an http:// URL`);
  }
  // It would be shown, and nobody asks for it.
  if (url.username !== "" || url.password !== "") {
    throw new FishnetError("invalid proxy: leave the name and the password out of the URL");
  }
  return url;
}

/** The kernel's xt_multiport takes no more in one rule (XT_MULTI_PORTS, linux/netfilter/xt_multiport.h). */
const MAX_ONLY_PORTS = 15;

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

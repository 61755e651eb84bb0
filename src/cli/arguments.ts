/**
 * The words after a subcommand: options and their values, and what is said of a word that nobody
 * knows.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { closestString } from "@std/text/closest-string";
import { levenshteinDistance } from "@std/text/levenshtein-distance";
import { FishnetError } from "../errors.ts";
import { type FirewallCommand, isFirewallCommand, OPTIONS } from "./options.ts";

/** The options of one call: flags that were given, and values in their order. */
export interface Options {
  flag(name: string): boolean;
  values(name: string): readonly string[];
  /** The value of an option that may be given once. */
  value(name: string): string | undefined;
}

/**
 * Reads the options of a subcommand, each of which it has to have.
 *
 * @throws {FishnetError} for anything else.
 */
export function readOptions(command: FirewallCommand, args: readonly string[]): Options {
  const known = Object.entries(OPTIONS).filter(([, spec]) => spec.on.includes(command));
  const valued = known.filter(([, spec]) => spec.value !== undefined).map(([name]) => name);
  const flags = known.filter(([, spec]) => spec.value === undefined).map(([name]) => name);
  const parsed = parseArgs(joinValues(command, args, valued, flags), {
    boolean: flags,
    string: valued,
    collect: valued,
  }) as Readonly<Record<string, unknown>>;
  const values = (name: string) => (parsed[name] ?? []) as readonly string[];
  for (const [name, spec] of known.filter(([name]) => valued.includes(name))) {
    if (!spec.repeatable && values(name).length > 1) {
      throw new FishnetError(`--${name} is given more than once`);
    }
    for (const value of values(name)) {
      if (spec.values !== undefined && !spec.values.includes(value)) {
        throw unknown(`value for --${name}`, value, spec.values, oneOf(spec.values));
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
  command: FirewallCommand,
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
      throw unknown("option", arg.replace(/=.*/s, ""), options, helpOf(command));
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

/** What stands in place of a near word, where a few are known. */
export const oneOf = (known: readonly string[]) => `one of ${known.join(", ")}`;

const helpOf = (command: FirewallCommand) => `see fishnet firewall ${command} --help`;

/**
 * An error that names the word that was meant, where one is near.
 *
 * @param otherwise where to find the words that are known, or which they are
 */
export function unknown(
  what: string,
  word: string,
  known: readonly string[],
  otherwise: string,
): FishnetError {
  const near = nearest(word, known);
  if (near === undefined) return new FishnetError(`unknown ${what} '${word}' (${otherwise})`);
  const full = what === "command" && isFirewallCommand(near) ? `fishnet firewall ${near}` : near;
  return new FishnetError(`unknown ${what} '${word}': did you mean '${full}'?`);
}

/** The known word that another is a part of (`--user`), or a typing error in three letters. */
function nearest(word: string, known: readonly string[]): string | undefined {
  const bare = (text: string) => text.replace(/^-+/, "").toLowerCase();
  const whole = known.find((one) => bare(one).split("-").includes(bare(word)));
  if (whole !== undefined) return whole;
  const closest = closestString(word, [...known]);
  const [given, meant] = [bare(word), bare(closest)];
  const distance = levenshteinDistance(given, meant);
  return distance * 3 <= Math.max(given.length, meant.length) ? closest : undefined;
}

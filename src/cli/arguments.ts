/**
 * The words after a subcommand: options and their values, and what is said of a word that nobody
 * knows.
 *
 * @module
 */
import { levenshteinDistance } from "@std/text/levenshtein-distance";
import { FishnetError } from "../errors.ts";
import { type FirewallCommand, isFirewallCommand, OPTIONS } from "./options.ts";

/** The options of one call, each with its values in their order; a flag has none. */
export type Options = ReadonlyMap<string, readonly string[]>;

/**
 * Reads the options of a subcommand. Nothing is guessed: a value may be empty, or begin with one
 * hyphen.
 *
 * @throws {FishnetError} for what the subcommand does not have.
 */
export function readOptions(command: FirewallCommand, args: readonly string[]): Options {
  const known = Object.keys(OPTIONS).filter((name) => OPTIONS[name]!.on.includes(command));
  const given = new Map<string, string[]>();
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (!arg.startsWith("-") || arg === "--") {
      throw new FishnetError(`unexpected argument '${arg}'`);
    }
    const option = arg.split("=", 1)[0]!;
    const name = known.find((name) => option === `--${name}`);
    if (name === undefined) {
      const options = known.map((name) => `--${name}`);
      throw unknown("option", option, options, `see fishnet firewall ${command} --help`);
    }
    const { value: takesValue, values, repeatable } = OPTIONS[name]!;
    const joined = arg === option ? undefined : arg.slice(option.length + 1);
    if (!takesValue) {
      if (joined !== undefined) throw new FishnetError(`${option} takes no value`);
      given.set(name, []);
      continue;
    }
    const value = joined ?? args[++i];
    if (value === undefined || (joined === undefined && value.startsWith("--"))) {
      throw new FishnetError(`${option} needs a value`);
    }
    if (given.has(name) && !repeatable) {
      throw new FishnetError(`${option} is given more than once`);
    }
    if (values !== undefined && !values.includes(value)) {
      throw unknown(`value for ${option}`, value, values, oneOf(values));
    }
    given.set(name, [...given.get(name) ?? [], value]);
  }
  return given;
}

/** What stands in place of a near word, where a few are known. */
export const oneOf = (known: readonly string[]) => `one of ${known.join(", ")}`;

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
  const given = bare(word);
  return known.find((one) => bare(one).split("-").includes(given)) ??
    known.map((one) => ({ one, distance: levenshteinDistance(given, bare(one)) }))
      .sort((a, b) => a.distance - b.distance)
      .find(({ one, distance }) => distance * 3 <= Math.max(given.length, bare(one).length))?.one;
}

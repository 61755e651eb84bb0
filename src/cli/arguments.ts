/** The words after a subcommand: options and their values, and what is said of unknown words. */
import { parseArgs } from "@std/cli/parse-args";
import { levenshteinDistance } from "@std/text/levenshtein-distance";
import { FishnetError } from "../errors.ts";
import { type FirewallCommand, isFirewallCommand, optionsOf } from "./options.ts";

/** The options of one call, each with its values in their order; a flag has none. */
export type Options = ReadonlyMap<string, readonly string[]>;

/** Reads the options of a subcommand. @throws {FishnetError} for what it does not have. */
export function readOptions(command: FirewallCommand, args: readonly string[]): Options {
  const known = optionsOf(command);
  const { string = [], boolean = [] } = Object.groupBy(
    known.keys(),
    (name) => known.get(name)!.value === undefined ? "boolean" : "string",
  );
  const parsed: Readonly<Record<string, boolean | readonly string[]>> = parseArgs(
    joinValues(command, args, known),
    { string, boolean, collect: string },
  );
  const given = new Map<string, readonly string[]>();
  for (const [name, { values: possible, repeatable }] of known) {
    const values = parsed[name];
    if (values === true) given.set(name, []);
    if (typeof values !== "object" || values.length === 0) continue;
    if (values.length > 1 && !repeatable) {
      throw new FishnetError(`--${name} is given more than once`);
    }
    const wrong = possible && values.find((value) => !possible.includes(value));
    if (wrong !== undefined) throw unknown(`value for --${name}`, wrong, possible!);
    given.set(name, values);
  }
  return given;
}

/** Writes `--option=value`, which the parser takes as it is, and refuses what it would guess at. */
function joinValues(
  command: FirewallCommand,
  args: readonly string[],
  known: ReturnType<typeof optionsOf>,
): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (!arg.startsWith("-") || arg === "--") {
      const advice = arg === "--" ? "" : ": an account is named by --agent-user";
      throw new FishnetError(`unexpected argument '${arg}'${advice}`);
    }
    const option = arg.split("=", 1)[0]!;
    const spec = option.startsWith("--") ? known.get(option.slice(2)) : undefined;
    if (spec === undefined) {
      const options = [...known.keys()].map((name) => `--${name}`);
      throw unknown("option", option, options, `see fishnet firewall ${command} --help`);
    }
    // Nothing is guessed: a value may be empty, or begin with one hyphen.
    const takesValue = spec.value !== undefined;
    if (!takesValue && arg !== option) throw new FishnetError(`${option} takes no value`);
    const value = takesValue && arg === option ? args[++i] : undefined;
    if (takesValue && arg === option && (value === undefined || value.startsWith("--"))) {
      throw new FishnetError(`${option} needs a value`);
    }
    joined.push(value === undefined ? arg : `${option}=${value}`);
  }
  return joined;
}

/** An error that names the word that was meant, or, where none is near, `otherwise` the known. */
export function unknown(
  what: string,
  word: string,
  known: readonly string[],
  otherwise = `one of ${known.join(", ")}`,
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

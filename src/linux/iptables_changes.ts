/**
 * Rules that come and go: one by the command that an administrator knows, many in one call of
 * iptables-restore, which changes a table as a whole or not at all.
 *
 * @module
 */
import { feed, printed, sudo } from "../line.ts";
import type { Step } from "../lock/piece.ts";
import type { Table } from "./iptables_layers.ts";
import type { Family, Variant } from "./machine.ts";

/** What comes or goes in a table: a rule, or a chain with its rules. */
export interface Change extends Pick<Step, "why" | "counts"> {
  readonly family: Family;
  /** Where the plain name stands for another one. */
  readonly variant?: Variant | undefined;
  readonly table: Table;
  /** The words of one rule, from `-I` or `-D` on, or lines of iptables-restore. */
  readonly there: Lines;
  readonly back: Lines;
}
type Lines = readonly (string | readonly string[])[];

/** `iptables`, `ip6tables-legacy`, … */
export function commandOf(family: Family, variant?: Variant): string {
  return `${family === 4 ? "iptables" : "ip6tables"}${variant === undefined ? "" : `-${variant}`}`;
}

/** The command of one change. */
export function stepOf(change: Change): Step {
  const { there, back, why, counts } = change;
  return {
    line: lineOf(change, there),
    why,
    undo: [lineOf(change, back)],
    ...(counts === undefined ? {} : { counts }),
  };
}

/** A rule by the command that an administrator knows; what comes or goes as a whole, as a text. */
function lineOf(change: Change, lines: Lines): string {
  const [words] = lines;
  if (typeof words !== "object") return restore(change, lines);
  const { family, variant, table } = change;
  const command = [commandOf(family, variant), "-w", ...(table === "filter" ? [] : ["-t", table])];
  return sudo(...command, ...words);
}

/** The command that changes a table as a whole, or not at all, and leaves alone what is not named. */
function restore({ family, variant, table }: Change, lines: Lines): string {
  const joined = lines.map((line) => typeof line === "string" ? line : line.join(" "));
  const text = [`*${table}`, ...joined, "COMMIT"].join("\n");
  const command = [`${commandOf(family, variant)}-restore`, "-w", "--noflush"];
  // A rule of somebody else's that comes back may hold what `echo` changes.
  return text.includes("\\")
    ? `${printed(`${text}\n`)} | ${sudo(...command)}`
    : feed(text, ...command);
}

/** What iptables-restore takes for one word as it stands. */
const PLAIN = /^[\w!:,./=-]+$/;

/** The commands of many changes: one for each table that several of them change. */
export function stepsOf(changes: readonly Change[]): Step[] {
  const tables = Map.groupBy(
    changes,
    ({ family, variant, table }) => `${commandOf(family, variant)} ${table}`,
  );
  return [...tables.values()].flatMap((those) => {
    const words = those.flatMap(({ there, back }) =>
      [...there, ...back].filter((line) => typeof line !== "string").flat()
    );
    return those.length > 1 && words.every((word) => PLAIN.test(word))
      ? [atOnce(those)]
      : those.map(stepOf);
  });
}

function atOnce(changes: readonly Change[]): Step {
  const [first] = changes as readonly [Change];
  const counts = changes.find((change) => change.counts !== undefined)?.counts;
  return {
    line: restore(first, changes.flatMap(({ there }) => there)),
    why: [...new Set(changes.map(({ why }) => why))].join("; "),
    undo: [restore(first, changes.toReversed().flatMap(({ back }) => back))],
    // All of them or none: one tells.
    ...(counts === undefined ? {} : { counts }),
  };
}

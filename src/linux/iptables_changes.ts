/**
 * Rules that come and go: one by the command that an administrator knows, many in one call of
 * iptables-restore, which changes a table as a whole or not at all.
 *
 * @module
 */
import { feed, printed, sudo } from "../line.ts";
import type { Step } from "../lock/piece.ts";
import { splitWords } from "./iptables_rules.ts";

/** What comes or goes in a table: a rule, or a chain with its rules. */
export interface Change extends Pick<Step, "why" | "counts"> {
  /** `iptables`, `ip6tables-legacy`, … */
  readonly command: string;
  readonly table: string;
  /** Lines of iptables-restore: one that inserts or deletes a rule is a command as well. */
  readonly there: readonly string[];
  readonly back: readonly string[];
}

/** The commands of many changes: one for each table. */
export function stepsOf(changes: readonly Change[]): Step[] {
  const tables = Map.groupBy(changes, ({ command, table }) => `${command} ${table}`);
  return [...tables.values()].map(stepOf);
}

/** The command of changes in one table. */
export function stepOf(changes: readonly Change[]): Step {
  const [first] = changes as readonly [Change];
  // All of them or none: one tells.
  const counts = changes.find((change) => change.counts !== undefined)?.counts;
  return {
    line: lineOf(first, changes.flatMap(({ there }) => there)),
    why: [...new Set(changes.map(({ why }) => why))].join("; "),
    undo: [lineOf(first, changes.toReversed().flatMap(({ back }) => back))],
    ...(counts && { counts }),
  };
}

/** Changes a table as a whole, or not at all, and leaves alone what is not named. */
function lineOf({ command, table }: Change, lines: readonly string[]): string {
  if (lines.length === 1 && /^-[ID] /.test(lines[0]!)) {
    const place = table === "filter" ? [] : ["-t", table];
    return sudo(command, "-w", ...place, ...splitWords(lines[0]!));
  }
  const text = [`*${table}`, ...lines, "COMMIT"].join("\n");
  const restore = [`${command}-restore`, "-w", "--noflush"];
  // A rule of somebody else's that comes back may hold what `echo` changes.
  return text.includes("\\")
    ? `${printed(`${text}\n`)} | ${sudo(...restore)}`
    : feed(text, ...restore);
}

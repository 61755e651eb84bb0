/**
 * Rules that come and go: one by the command that an administrator knows, many in one call of
 * iptables-restore, which changes a table as a whole or not at all.
 *
 * @module
 */
import { feed, sudo } from "../lock/line.ts";
import type { Step } from "../lock/piece.ts";
import type { Variant } from "./iptables_saved.ts";
import type { Family } from "./machine.ts";

/** One rule that comes or goes. */
export interface Change extends Pick<Step, "why" | "counts"> {
  readonly family: Family;
  /** Where the plain name stands for another one. */
  readonly variant?: Variant | undefined;
  readonly table: string;
  /** From `-I` or `-D` on. */
  readonly there: readonly string[];
  readonly back: readonly string[];
}

/** `iptables`, `ip6tables-legacy`, … */
export function commandOf(family: Family, variant?: Variant): string {
  return `${family === 4 ? "iptables" : "ip6tables"}${variant === undefined ? "" : `-${variant}`}`;
}

/** What reads many changes of a table, and leaves alone what they do not name. */
export function restoreOf(family: Family, variant?: Variant): string[] {
  return [`${commandOf(family, variant)}-restore`, "-w", "--noflush"];
}

/** The command of one change; the table filter needs no name. */
export function stepOf({ family, variant, table, there, back, why, counts }: Change): Step {
  const command = [commandOf(family, variant), "-w", ...(table === "filter" ? [] : ["-t", table])];
  return {
    line: sudo(...command, ...there),
    why,
    undo: [sudo(...command, ...back)],
    ...(counts === undefined ? {} : { counts }),
  };
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
    const words = those.flatMap(({ there, back }) => [...there, ...back]);
    return those.length > 1 && words.every((word) => PLAIN.test(word))
      ? [atOnce(those)]
      : those.map(stepOf);
  });
}

function atOnce(changes: readonly Change[]): Step {
  const { family, variant, table, counts } = changes[0]!;
  const text = (lines: readonly (readonly string[])[]) =>
    [`*${table}`, ...lines.map((words) => words.join(" ")), "COMMIT"].join("\n");
  const restore = restoreOf(family, variant);
  return {
    line: feed(text(changes.map(({ there }) => there)), ...restore),
    why: [...new Set(changes.map(({ why }) => why))].join("; "),
    undo: [feed(text(changes.map(({ back }) => back).toReversed()), ...restore)],
    // All of them or none: one tells.
    ...(counts === undefined ? {} : { counts }),
  };
}

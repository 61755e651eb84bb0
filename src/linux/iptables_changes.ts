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

/** The commands of many changes: one for each family and variant that several of them change. */
export function stepsOf(changes: readonly Change[]): Step[] {
  const commands = Map.groupBy(changes, ({ family, variant }) => commandOf(family, variant));
  return [...commands.values()].flatMap((those) => {
    const words = those.flatMap(({ there, back }) => [...there, ...back]);
    return those.length > 1 && words.every((word) => PLAIN.test(word))
      ? [atOnce(those)]
      : those.map(stepOf);
  });
}

function atOnce(changes: readonly Change[]): Step {
  const { family, variant, counts } = changes[0]!;
  const tables = [...Map.groupBy(changes, ({ table }) => table)];
  const restore = restoreOf(family, variant);
  const text = (table: string, lines: readonly (readonly string[])[]) =>
    [`*${table}`, ...lines.map((words) => words.join(" ")), "COMMIT"].join("\n");
  return {
    line: feed(
      tables.map(([table, those]) => text(table, those.map(({ there }) => there))).join("\n"),
      ...restore,
    ),
    why: [...new Set(changes.map(({ why }) => why))].join("; "),
    // Table by table: where only the first was changed, what is not there cannot be taken back.
    undo: [
      tables.toReversed().map(([table, those]) =>
        feed(text(table, those.map(({ back }) => back).toReversed()), ...restore)
      ).join("; "),
    ],
    // A table is changed as a whole or not at all, and the first one first: one rule tells.
    ...(counts === undefined ? {} : { counts }),
  };
}

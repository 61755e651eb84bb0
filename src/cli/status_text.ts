/**
 * A status as a person reads it: a table, and below it what is missing and what mends it.
 *
 * @module
 */
import { bold, dim, green, red, yellow } from "@std/fmt/colors";
import type { AccountStatus, LockState, StatusReport } from "../status.ts";
import type { Warning } from "../warnings.ts";

const PAINT: Readonly<Record<LockState, (text: string) => string>> = {
  locked: green,
  partial: yellow,
  unlocked: red,
  unknown: yellow,
};

/** The lines of a status; they carry colours unless those are switched off. */
export function statusLines(
  { accounts, reason }: StatusReport,
  warnings: readonly Warning[],
  notCovered: readonly string[],
): string[] {
  const trouble = reason === undefined ? [] : [`${yellow("unknown")}: ${reason}`];
  if (accounts.length === 0) return trouble.length > 0 ? trouble : ["no account is locked"];
  return [
    ...trouble,
    ...table([
      ["ACCOUNT", "UID", "STATE", "BACKEND", "LOOPBACK", "REBOOT"],
      ...accounts.map(rowOf),
    ]),
    ...accounts.flatMap(detailsOf),
    ...warnings.map(warningLine),
    dim(`no packet filter stops: ${notCovered.join("; ")}`),
  ];
}

/** A warning in one line: whose, why, and what to do. */
function warningLine({ account, reason, remedy }: Warning): string {
  return `${yellow("warning")}: ${account === undefined ? "" : `${account}: `}${reason}; ${remedy}`;
}

function rowOf(account: AccountStatus): string[] {
  const { name, uid, state, backend, onlyPorts, survivesReboot } = account;
  const known = state === "locked" || state === "partial";
  return [
    name,
    uid === undefined ? "-" : `${uid}`,
    PAINT[state](state),
    backend ?? "-",
    !known ? "-" : onlyPorts.length === 0 ? "open" : `only ${onlyPorts.join(",")}`,
    !known ? "-" : survivesReboot ? "kept" : "lost",
  ];
}

function detailsOf({ name, pieces, notes }: AccountStatus): string[] {
  const faults = pieces.filter(({ present, detail }) => !present || detail !== undefined);
  return [
    ...faults.flatMap(({ name: piece, present, detail }) => [
      `${name}: ${present ? "" : detail === undefined ? "missing: " : "not in force: "}${piece}` +
      (detail === undefined ? "" : ` (${detail})`),
    ]),
    ...[...new Set(faults.flatMap(({ remedy }) => remedy ?? []))]
      .map((remedy) => `${name}: to mend: ${bold(remedy)}`),
    ...(notes ?? []).map((note) => dim(`${name}: ${note}`)),
  ];
}

// deno-lint-ignore no-control-regex -- colours have no width
const widthOf = (cell: string) => cell.replace(/\x1b\[\d+m/g, "").length;

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => widthOf(row[column]!))));
  return rows.map((row) =>
    row.map((cell, i) => cell + " ".repeat(widths[i]! - widthOf(cell))).join("  ").trimEnd()
  );
}

/** A status as a person reads it: a table, what is missing and what mends it, and what to know. */
import { bold, dim, green, red, yellow } from "@std/fmt/colors";
import { isHeld, type Warning } from "../lock/report.ts";
import type { AccountStatus, LockState, PieceStatus, StatusReport } from "../lock/report.ts";
import { indented, table, type Width, wrap } from "./layout.ts";
import { LIMITS_HINT, warningTexts } from "./outcome_text.ts";
import { shown } from "../shown.ts";

const PAINT: Readonly<Record<LockState, (text: string) => string>> = {
  locked: green,
  partial: yellow,
  unlocked: red,
  unknown: yellow,
};

/** What a status is shown with; `explain`: with all that is not covered. */
interface StatusView {
  readonly warnings: readonly Warning[];
  readonly notCovered: readonly string[];
  readonly explain: boolean;
}

/** The lines of a status. */
export function statusLines(report: StatusReport, view: StatusView, width: Width): string[] {
  const { accounts, reason } = report;
  const wrapped = (lines: readonly string[], indent = 2) =>
    lines.flatMap((line) => wrap(line, width, indent));
  const [only, ...others] = accounts;
  return [
    ...wrapped(reason === undefined ? [] : [`${yellow("unknown")}: ${shown(reason)}`]),
    ...(only !== undefined
      ? table([HEADER, ...accounts.map(rowOf)], width).flat()
      : reason === undefined
      ? ["no account is locked"]
      : []),
    ...wrapped(only && others.length === 0 ? layers(only, width) : accounts.flatMap(faults)),
    ...accounts.flatMap(remedies),
    ...wrapped(accounts.flatMap(notesOf)),
    ...wrapped(limits(accounts, view), 4),
    ...wrapped(warningTexts(view.warnings).map((text) => `${yellow("warning")}: ${text}`)),
  ];
}

const HEADER = ["ACCOUNT", "UID", "STATE", "BACKEND", "LOOPBACK", "REBOOT"];

function rowOf(account: AccountStatus): string[] {
  const { name, uid, state, backend, onlyPorts, survivesReboot } = account;
  return [
    shown(name),
    uid === undefined ? "-" : `${uid}`,
    PAINT[state](state),
    backend ?? "-",
    !isHeld(account) ? "-" : onlyPorts.length === 0 ? "open" : `only ${onlyPorts.join(", ")}`,
    !isHeld(account) ? "-" : survivesReboot ? "kept" : "lost",
  ];
}

function layers({ pieces }: AccountStatus, width: Width): string[] {
  if (pieces.length === 0) return [];
  const rows = pieces.map((piece) => {
    const why = piece.detail === undefined ? "" : `: ${shown(piece.detail)}`;
    return [shown(piece.name), (piece.present ? green : red)(stateOf(piece)) + why];
  });
  return ["", ...table([["PIECE", "STATE"], ...rows], width).flat()];
}

const stateOf = ({ present, detail }: PieceStatus) =>
  present ? "in force" : detail === undefined ? "missing" : "without effect";

const isFault = ({ present, detail }: PieceStatus) => !present || detail !== undefined;

/** What is wrong with one of many accounts, a line each. */
function faults({ name, pieces }: AccountStatus): string[] {
  return pieces.filter(isFault).map((piece) => {
    const what = piece.present ? "" : `${stateOf(piece)}: `;
    const why = piece.detail === undefined ? "" : ` (${shown(piece.detail)})`;
    return `${shown(name)}: ${what}${shown(piece.name)}${why}`;
  });
}

/** The commands that mend an account, whole, each on a line of its own: they are to be copied. */
function remedies({ name, pieces }: AccountStatus): string[] {
  const commands = [...new Set(pieces.filter(isFault).flatMap(({ remedy }) => remedy ?? []))];
  if (commands.length === 0) return [];
  const lines = commands.flatMap(indented);
  return [`${shown(name)}: to mend:`, ...lines.map((line) => bold(shown(line, Infinity)))];
}

function notesOf({ name, notes }: AccountStatus): string[] {
  return (notes ?? []).map((note) => dim(`${shown(name)}: ${shown(note, Infinity)}`));
}

function limits(accounts: readonly AccountStatus[], view: StatusView): string[] {
  if (!view.explain) return accounts.some(isHeld) ? [dim(LIMITS_HINT)] : [];
  return [dim("No packet filter stops:"), ...view.notCovered.map((one) => `  ${dim(`- ${one}`)}`)];
}

/**
 * The nftables backend: a table of our own that covers both families, and one more for
 * `--only-port`, apart because `ct` makes the kernel track connections.
 *
 * Locked uids stand in a set that is a hash, and ranges of subordinate uids in one of intervals,
 * which is searched for uids of their height alone: so the cost to others does not grow with the
 * number of accounts.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import { feed, printed, sudo } from "../line.ts";
import type { Found, Kind, Lock, Piece, Step, Uids } from "../lock/piece.ts";
import { printRange, type UidRange, UidSet } from "../lock/uid_range.ts";
import { allUids, ownerWord, ownUids, subordinateUids } from "./accounts.ts";
import { type Machine, unread } from "./machine.ts";
import { defectOf, parseTable, type Table } from "./nft_table.ts";
import lockText from "./table_fishnet.nft" with { type: "text" };
import loopbackText from "./table_fishnet_loopback.nft" with { type: "text" };

/**
 * Where subordinate uids may begin: uids of ordinary accounts are below (useradd gives ranges from
 * 100000 on, SUB_UID_MIN of login.defs(5)), and are not looked for among the ranges.
 */
export const FIRST_SUBORDINATE = 65536;

/** A table of ours, and the question whose answer is what is there of it. */
interface OurTable {
  readonly name: string;
  readonly text: string;
  readonly made: Table;
  readonly question: string;
}

const LOCK = tableOf("inet fishnet", lockText, "nft");
const LOOPBACK = tableOf("inet fishnet_loopback", loopbackText, "nft loopback");

function tableOf(name: string, file: string, question: string): OurTable {
  const text = file.trimEnd();
  let made: Table | undefined;
  return {
    name,
    text,
    question,
    get made() {
      return made ??= parseTable(text);
    },
  };
}

interface ElementPiece extends Piece {
  readonly table: OurTable;
  readonly set: string;
  readonly port: number | undefined;
}
interface TablePiece extends Piece {
  readonly tableItself: OurTable;
}
const isTable = (piece: Piece): piece is TablePiece => "tableItself" in piece;

/** Whether nft is there, whatever it says. */
export const hasNft = ({ answers }: Machine): boolean =>
  answers.get(LOCK.question)!.exitCode !== 127;

/** The table that refuses, and drops, what leaves. */
export const lockTable: Kind<Machine> = kindOf(LOCK, (lock) => {
  const why = "both families: refuse, and drop, what leaves by a real device";
  return [
    elementPiece(LOCK, "locked", ownUids(lock), lock.name, why),
    ...subordinateUids(lock).map((uids) => elementPiece(LOCK, "subordinate", uids, lock.name, why)),
  ];
});

/** The table for `--only-port`. */
export const loopbackTable: Kind<Machine> = kindOf(LOOPBACK, (lock) => {
  if (lock.onlyPorts.length === 0) return [];
  const why = "on loopback, refuse the account whatever its ports do not allow";
  return allUids(lock).flatMap((uids) => {
    const isRange = uids === "ranges" || (typeof uids === "object" && uids.first < uids.last);
    const set = isRange ? "allowed_subordinate" : "allowed";
    return [
      ...lock.onlyPorts.map((port) =>
        elementPiece(LOOPBACK, set, uids, lock.name, `on loopback, allow TCP to ${port}`, port)
      ),
      elementPiece(LOOPBACK, "narrowed", uids, lock.name, why),
    ];
  });
});

function elementPiece<U extends Uids>(
  table: OurTable,
  set: string,
  uids: U,
  owner: string | undefined,
  why: string,
  port?: number,
) {
  const is = table === LOCK
    ? `uids in table ${LOCK.name}`
    : port === undefined
    ? `loopback limited in table ${LOOPBACK.name}`
    : `loopback open to TCP ${port} in table ${LOOPBACK.name}`;
  const whose = owner === undefined ? {} : { owner };
  return { is, why, uids, ...whose, table, set, port };
}

function kindOf(table: OurTable, elements: (lock: Lock) => ElementPiece[]): Kind<Machine> {
  return {
    // Listing the names of all tables first takes nft three times as long (1.0.6).
    questions: () => ({
      [table.question]: ["nft", "list", "table", ...table.name.split(" ")],
    }),
    wanted(lock) {
      if (lock.backend !== "nftables") return [];
      const pieces = elements(lock);
      return pieces.length === 0 ? [] : [tablePiece(table), ...pieces];
    },
    found: (machine) => foundIn(table, listingOf(table, machine)),
    make: (pieces, machine) => [
      ...pieces.filter(isTable).map(({ tableItself }) => makeTable(tableItself, machine)),
      ...createSteps(pieces.filter((piece) => !isTable(piece)) as ElementPiece[], machine),
    ],
    unmake: (pieces) =>
      pieces.map((piece) =>
        isTable(piece) ? deleteTable(piece) : deleteStep(piece as ElementPiece)
      ),
  };
}

const tablePiece = (table: OurTable): TablePiece => ({
  is: `table ${table.name}`,
  why: table === LOCK
    ? "the rules for every uid in its sets: refuse what leaves, and on loopback SCTP, MPTCP and " +
      "foreign sources; for nobody's, drop what is for this machine, and reports on missing parts"
    : "the rules for loopback: TCP to the ports of each uid in its sets, and replies, nothing else",
  tableItself: table,
});

function foundIn(table: OurTable, listing: string | undefined): Found[] {
  if (listing === undefined) return [];
  const there = parseTable(listing);
  const defect = defectOf(there, table.made);
  const fault = defect === undefined ? opened(table, there) : { fault: `${table.name}: ${defect}` };
  return [
    { ...tablePiece(table), ...fault, ...(isOurs(table, there) ? {} : { foreign: true }) } as Found,
    ...[...table.made.sets.keys()].flatMap((set) =>
      (there.sets.get(set) ?? [])
        // Below, the rules do not look for a uid among the ranges.
        .filter(({ first }) => set !== "subordinate" || first >= FIRST_SUBORDINATE)
        .map(({ first, last, comment, port }) => ({
          ...elementPiece(table, set, { first, last }, comment, "an element of a set", port),
          says: { backend: "nftables", ...(port === undefined ? {} : { onlyPorts: [port] }) },
          ...fault,
        } as const))
    ),
  ];
}

/** What is in a set that opens ports, and is none of ours: a range of ports, say. */
function opened({ name }: OurTable, { strange }: Table): Pick<Found, "fault" | "mend"> {
  const [one] = ["allowed", "allowed_subordinate"].flatMap((set) =>
    (strange.get(set) ?? []).map((key) => ({ set, key }))
  );
  if (one === undefined) return {};
  const words = ["element", ...name.split(" "), one.set, `{ ${one.key} }`];
  return {
    fault: `${name}: set ${one.set} has ${one.key}, which opens more`,
    mend: sudo("nft", "delete", ...words),
  };
}

/** Without any set of ours, it only has the same name. */
const isOurs = ({ made }: OurTable, there: Table) =>
  [...made.sets.keys()].some((set) => there.sets.has(set));

/**
 * One transaction, so that a table that was damaged is mended without a gap.
 *
 * @throws {FishnetError} where somebody else has a table of its name.
 */
function makeTable(table: OurTable, machine: Machine | undefined): Step {
  const { name, text } = table;
  const why = tablePiece(table).why;
  const listing = machine === undefined ? undefined : listingOf(table, machine);
  if (listing === undefined) {
    return { line: feed(text, "nft", "-f", "-"), why, undo: [deleteTableLine(table)] };
  }
  if (!isOurs(table, parseTable(listing))) {
    throw new FishnetError(
      `somebody else has a table '${name}': remove it, or use --backend iptables`,
    );
  }
  return {
    line: renewLine(table),
    why,
    undo: [`${printed(`delete table ${name}\n${listing}\n`)} | ${sudo("nft", "-f", "-")}`],
  };
}

/** Its rules alone, whether it is there or not: what is in its sets stays. */
const renewLine = ({ name, text }: OurTable) =>
  feed(`add table ${name}\nflush table ${name}\n${text}`, "nft", "-f", "-");

const deleteTableLine = ({ name }: OurTable) => sudo("nft", "delete", "table", ...name.split(" "));

function deleteTable({ tableItself }: TablePiece): Step {
  return {
    line: deleteTableLine(tableItself),
    why: "remove the table, which no account needs any more: while one does, it must stay",
    // If it failed before it deleted anything, the rules must not be there twice.
    undo: [renewLine(tableItself)],
  };
}

/** What is in the set already, and what another piece brings, stays: an interval set refuses overlaps. */
function createSteps(pieces: readonly ElementPiece[], machine: Machine | undefined): Step[] {
  const there = new Map<string, UidRange[]>();
  return pieces.flatMap((piece) => {
    const { uids, table, set, port } = piece;
    if (typeof uids !== "object" || machine === undefined) {
      return [elementStep("create", piece, ownerWord(piece.uids, piece.owner))];
    }
    const key = `${table.name} ${set} ${port}`;
    let held = there.get(key);
    if (held === undefined) {
      const elements = parseTable(listingOf(table, machine) ?? "").sets.get(set) ?? [];
      there.set(key, held = elements.filter((element) => element.port === port));
    }
    const parts = new UidSet(held).without(uids);
    held.push(...parts);
    return parts.map((part) => elementStep("create", piece, printRange(part)));
  });
}

const deleteStep = (piece: ElementPiece): Step =>
  elementStep("delete", piece, ownerWord(piece.uids, piece.owner));

/** Not `add`, which also succeeds where another account has the uids, whose disable frees them. */
function elementStep(verb: "create" | "delete", piece: ElementPiece, uids: string): Step {
  const { table, set, port, owner } = piece;
  const place = ["element", ...table.name.split(" "), set];
  // Of this set, a uid that stands alone is deleted as a range alone.
  const first = set === "allowed_subordinate" && /^\d+$/.test(uids) ? `${uids}-${uids}` : uids;
  const key = port === undefined ? uids : `${first} . ${port}`;
  const comment = owner === undefined ? "" : ` comment "${owner}"`;
  const create = ["create", ...place, `{ ${key}${comment} }`];
  const remove = ["delete", ...place, `{ ${key} }`];
  const [there, back] = verb === "create" ? [create, remove] : [remove, create];
  return {
    line: sudo("nft", ...there),
    why: verb === "create" ? piece.why : "take it out of the set",
    undo: [sudo("nft", ...back)],
    batch: { words: ["nft", "-f", "-"], text: there.join(" "), undo: back.join(" ") },
  };
}

/**
 * What nft prints of a table; undefined where it is not there.
 *
 * @throws {UnreadableError} where nft fails otherwise: a listing that failed is not an empty one.
 */
function listingOf({ name, question }: OurTable, { answers }: Machine): string | undefined {
  const answer = answers.get(question)!;
  const { exitCode, stdout, stderr } = answer;
  if (exitCode === 0) return stdout.trimEnd();
  if (exitCode === 127 || /^Error: No such file or directory|not supported/m.test(stderr)) {
    return undefined;
  }
  throw unread(`nft could not list ${name}`, answer, stderr.trim().split("\n", 1)[0]!);
}

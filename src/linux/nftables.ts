/**
 * The nftables backend: a table of our own that covers both families, and one more for
 * `--only-port`, apart because `ct` makes the kernel track connections.
 *
 * Locked uids stand in a set that is a hash, and ranges of subordinate uids in one of intervals,
 * which is searched for uids of their height alone: so the cost to others does not grow with the
 * number of accounts.
 */
import { FishnetError } from "../errors.ts";
import { feed, printed, sudo } from "../line.ts";
import type { Found, Kind, Lock, Piece, Step } from "../lock/piece.ts";
import { type UidRange, UidSet } from "../lock/uid_range.ts";
import { allUids, ownerWord } from "./accounts.ts";
import { type Machine, unread } from "./machine.ts";
import { defectOf, type Element, parseTable, type Table } from "./nft_table.ts";
import lockText from "./table_fishnet.nft" with { type: "text" };
import loopbackText from "./table_fishnet_loopback.nft" with { type: "text" };

/** Below are ordinary uids, not looked for among ranges (SUB_UID_MIN of login.defs(5): 100000). */
export const FIRST_SUBORDINATE = 65536;

/** An element of a set, and the port that it opens, if any. */
interface ElementPiece extends Piece {
  readonly set: string;
  readonly port?: number | undefined;
}
const isElement = (piece: Piece): piece is ElementPiece => "set" in piece;

/** A table of ours, which is a piece that accounts share. */
interface OurTable extends Omit<Piece, "uids"> {
  readonly name: string;
  readonly text: string;
  /** The question whose answer is what is there of it. */
  readonly question: string;
  /** What its elements without a port are. */
  readonly holds: string;
  /** What a lock has in its sets. */
  readonly elements: (lock: Lock) => readonly Omit<ElementPiece, "is">[];
}

/** Whether nft is there, whatever it says. */
export const hasNft = ({ answers }: Machine): boolean => answers.get("nft")!.exitCode !== 127;

/** The table that refuses, and drops, what leaves. */
export const lockTable: Kind<Machine> = kindOf({
  is: "table inet fishnet",
  why: "the rules for every uid in its sets: refuse what leaves, and on loopback SCTP, MPTCP and " +
    "foreign sources; for nobody's, drop what is for this machine, and reports on missing parts",
  name: "inet fishnet",
  text: lockText.trimEnd(),
  question: "nft",
  holds: "uids",
  elements(lock) {
    const why = "both families: refuse, and drop, what leaves by a real device";
    return allUids(lock).map((uids, i) => ({ set: i === 0 ? "locked" : "subordinate", uids, why }));
  },
});

/** The table for `--only-port`. */
export const loopbackTable: Kind<Machine> = kindOf({
  is: "table inet fishnet_loopback",
  why:
    "the rules for loopback: TCP to the ports of each uid in its sets, and replies, nothing else",
  name: "inet fishnet_loopback",
  text: loopbackText.trimEnd(),
  question: "nft loopback",
  holds: "loopback limited",
  elements(lock) {
    const { onlyPorts } = lock;
    if (onlyPorts.length === 0) return [];
    const why = "on loopback, refuse the account whatever its ports do not allow";
    return allUids(lock).flatMap((uids) => {
      const isRange = uids === "ranges" || (typeof uids === "object" && uids.first < uids.last);
      const set = isRange ? "allowed_subordinate" : "allowed";
      return [
        ...onlyPorts.map((port) => ({ set, uids, why: `on loopback, allow TCP to ${port}`, port })),
        { set: "narrowed", uids, why },
      ];
    });
  },
});

function kindOf(table: OurTable): Kind<Machine> {
  const isOf = (port: number | undefined) =>
    `${port === undefined ? table.holds : `loopback open to TCP ${port}`} in ${table.is}`;
  return {
    // Listing the names of all tables first takes nft three times as long (1.0.6).
    questions: () => ({
      [table.question]: ["nft", "list", "table", ...table.name.split(" ")],
    }),

    wanted(lock) {
      const pieces = lock.backend === "nftables" ? table.elements(lock) : [];
      return pieces.length === 0 ? [] : [
        table,
        ...pieces.map((piece) => ({ ...piece, is: isOf(piece.port), owner: lock.name })),
      ];
    },

    found(machine) {
      const listing = listingOf(table, machine);
      if (listing === undefined) return [];
      const there = parseTable(listing);
      const fault = faultOf(table, there);
      const foundElement = (set: string, { first, last, comment, port }: Element): Found => ({
        is: isOf(port),
        why: "an element of a set",
        uids: { first, last },
        ...(comment === undefined ? {} : { owner: comment }),
        says: { backend: "nftables", ...(port === undefined ? {} : { onlyPorts: [port] }) },
        ...{ set, port, ...fault },
      });
      return [
        { ...table, ...fault, ...(isOurs(table, there) ? {} : { foreign: true }) },
        ...setsOf(table).flatMap((set) =>
          (there.sets.get(set) ?? [])
            // Below, the rules do not look for a uid among the ranges.
            .filter(({ first }) => set !== "subordinate" || first >= FIRST_SUBORDINATE)
            .map((element) => foundElement(set, element))
        ),
      ];
    },

    make: (pieces, machine) => [
      ...(pieces.some((piece) => !isElement(piece)) ? [makeTable(table, machine)] : []),
      ...createSteps(table, pieces.filter(isElement), machine),
    ],

    unmake: (pieces) =>
      pieces.map((piece) =>
        isElement(piece) ? elementStep("delete", table, piece) : {
          line: deleteLine(table),
          why: "remove the table, which no account needs any more: while one does, it must stay",
          // If it failed before it deleted anything, the rules must not be there twice.
          undo: [renewLine(table)],
        }
      ),
  };
}

const setsOf = ({ text }: OurTable) => parseTable(text).sets.keys();

/** Without any set of ours, it only has the same name. */
const isOurs = (table: OurTable, there: Table) => setsOf(table).some((set) => there.sets.has(set));

/** Why a table does not do what it is for; in a set that opens ports, what is none of ours opens more. */
function faultOf({ name, text }: OurTable, there: Table): Pick<Found, "fault" | "mend"> {
  const defect = defectOf(there, parseTable(text));
  if (defect !== undefined) return { fault: `${name}: ${defect}` };
  for (const set of ["allowed", "allowed_subordinate"]) {
    const [key] = there.strange.get(set) ?? [];
    if (key === undefined) continue;
    const words = ["element", ...name.split(" "), set, `{ ${key} }`];
    return {
      fault: `${name}: set ${set} has ${key}, which opens more`,
      mend: sudo("nft", "delete", ...words),
    };
  }
  return {};
}

/** One transaction: mended without a gap. @throws {FishnetError} where it is somebody else's. */
function makeTable(table: OurTable, machine: Machine | undefined): Step {
  const { name, text, why } = table;
  const listing = machine && listingOf(table, machine);
  if (listing === undefined) {
    return { line: feed(text, "nft", "-f", "-"), why, undo: [deleteLine(table)] };
  }
  const there = parseTable(listing);
  if (isOurs(table, there)) {
    const back = printed(`delete table ${name}\n${listing}\n`);
    // Where a chain hangs, its first line, nft changes of none that is there.
    const moved = [...parseTable(text).chains].filter(([chain, [hook]]) =>
      there.chains.has(chain) && there.chains.get(chain)![0] !== hook && /^type /.test(hook!)
    );
    const line = renewLine(table, moved.map(([chain]) => chain));
    return { line, why, undo: [`${back} | ${sudo("nft", "-f", "-")}`] };
  }
  throw new FishnetError(
    `somebody else has a table '${name}': remove it, or use --backend iptables`,
  );
}

/** Its rules alone, whether it is there or not: what is in its sets stays. */
function renewLine({ name, text }: OurTable, moved: readonly string[] = []): string {
  const changes = [
    `add table ${name}`,
    `flush table ${name}`,
    ...moved.map((chain) => `delete chain ${name} ${chain}`),
  ];
  return feed([...changes, text].join("\n"), "nft", "-f", "-");
}

const deleteLine = ({ name }: OurTable) => sudo("nft", "delete", "table", ...name.split(" "));

/** What is in the set already, and what another piece brings, stays: an interval set refuses overlaps. */
function createSteps(
  table: OurTable,
  pieces: readonly ElementPiece[],
  machine: Machine | undefined,
): Step[] {
  const { sets } = parseTable(machine && listingOf(table, machine) || "");
  const held = new Map<string, UidRange[]>();
  return pieces.flatMap((piece) => {
    const { uids, set, port } = piece;
    if (typeof uids !== "object") return [elementStep("create", table, piece)];
    const key = `${set} ${port}`;
    const there = held.get(key) ?? (sets.get(set) ?? []).filter((one) => one.port === port);
    held.set(key, there);
    const parts = new UidSet(there).without(uids);
    there.push(...parts);
    return parts.map((part) => elementStep("create", table, { ...piece, uids: part }));
  });
}

/** Not `add`, which also succeeds where another account has the uids, whose disable frees them. */
function elementStep(verb: "create" | "delete", table: OurTable, piece: ElementPiece): Step {
  const { uids, owner, set, port, why } = piece;
  const place = ["element", ...table.name.split(" "), set];
  const word = ownerWord(uids, owner);
  // Of this set, a uid that stands alone is deleted as a range alone.
  const range = set === "allowed_subordinate" && /^\d+$/.test(word) ? `${word}-${word}` : word;
  const key = port === undefined ? word : `${range} . ${port}`;
  const comment = owner === undefined ? "" : ` comment "${owner}"`;
  const create = ["create", ...place, `{ ${key}${comment} }`];
  const remove = ["delete", ...place, `{ ${key} }`];
  const [there, back] = verb === "create" ? [create, remove] : [remove, create];
  return {
    line: sudo("nft", ...there),
    why: verb === "create" ? why : "take it out of the set",
    undo: [sudo("nft", ...back)],
    batch: { words: ["nft", "-f", "-"], text: there.join(" "), undo: back.join(" ") },
  };
}

/** Undefined where it is not there. @throws {UnreadableError} where nft fails otherwise. */
function listingOf({ name, question }: OurTable, { answers }: Machine): string | undefined {
  const answer = answers.get(question)!;
  const { exitCode, stdout, stderr } = answer;
  if (exitCode === 0) return stdout.trimEnd();
  if (exitCode === 127 || /^Error: No such file or directory|not supported/m.test(stderr)) {
    return undefined;
  }
  throw unread(`nft could not list ${name}`, answer, stderr.trim().split("\n", 1)[0]!);
}

/**
 * The rules of the locked accounts: in the anchor's one file, and in the anchor itself.
 *
 * @module
 */
import { removeFile, restoreFile } from "../lock/file.ts";
import { quoted, sudo } from "../lock/line.ts";
import type { Step } from "../lock/piece.ts";
import type { Part } from "./part.ts";
import { Draft, foundPieces, rulePieces } from "./draft.ts";
import type { Machine } from "./machine.ts";
import { ANCHOR, readRules, RULES_FILE } from "./rules.ts";

const WHERE_FILE = `the file ${RULES_FILE}`;
const WHERE_ANCHOR = `the anchor ${ANCHOR}`;

/** The rules in the file: what is loaded by each start of macOS, and by us. */
export const rulesFile: Part = {
  are: WHERE_FILE,
  wanted: (lock) => rulePieces(WHERE_FILE, lock),
  found: (machine) => foundPieces(WHERE_FILE, (machine.rulesFile ?? "").split("\n"), machine),
  make(pieces, machine) {
    const draft = Draft.of(machine);
    draft.put(pieces);
    return write(draft, machine);
  },
  unmake(pieces, machine) {
    const why = "no account is locked any more";
    if (machine === undefined) return [{ line: sudo("rm", RULES_FILE), why, undo: [""] }];
    const draft = Draft.of(machine);
    const gone = pieces.filter((piece) => !draft.isReplaced(piece));
    draft.drop(gone);
    if (draft.isEmpty) {
      const text = machine.rulesFile;
      return text === undefined ? [] : [removeFile(RULES_FILE, text, why)];
    }
    // What is in the anchor too was taken out of both, the file first: see below.
    const loaded = new Set(readRules(machine.loaded).accounts.map(({ uid }) => uid));
    const alone = gone.some(({ uids }) => typeof uids === "object" && !loaded.has(uids.first));
    return alone ? write(draft, machine) : [];
  },
};

/** The rules in the anchor, as pfctl prints them back: what pf goes by. */
export const loadedRules: Part = {
  are: WHERE_ANCHOR,
  wanted: (lock) => rulePieces(WHERE_ANCHOR, lock),
  found(machine) {
    const outside = machine.skipped.filter((device) => device !== "lo0");
    const skipsLoopback = machine.skipped.includes("lo0");
    return foundPieces(WHERE_ANCHOR, machine.loaded, machine).map((piece) => {
      const skipped = piece.is.includes("of loopback") ? (skipsLoopback ? ["lo0"] : []) : outside;
      return skipped.length === 0 || piece.fault !== undefined
        ? piece
        : { ...piece, fault: skipFault(skipped) };
    });
  },
  make(pieces, machine) {
    const draft = Draft.of(machine);
    draft.put(pieces);
    // A file that lost an account would take it out of the anchor, too.
    const there = new Set(readRules((machine?.rulesFile ?? "").split("\n")).accounts.map(uidOf));
    const lost = readRules(machine?.loaded ?? []).accounts.some((account) =>
      !there.has(uidOf(account))
    );
    return [...(lost ? write(draft, machine) : []), load(machine)];
  },
  unmake(pieces, machine) {
    const draft = Draft.of(machine);
    const gone = pieces.filter((piece) => !draft.isReplaced(piece));
    draft.drop(gone);
    if (machine === undefined || draft.isEmpty) {
      const line = sudo("pfctl", "-a", ANCHOR, "-F", "rules");
      return [{ line, why: "nothing holds any account any more", undo: [loadBack(machine)] }];
    }
    return gone.length === 0 ? [] : [...write(draft, machine), load(machine)];
  },
};

const uidOf = ({ uid }: { readonly uid: number | string }) => uid;

/** What pf does not look at, no rule holds. */
export function skipFault(devices: readonly string[]): string {
  return `pf looks at no packet of ${devices.join(", ")}: ` +
    `take "set skip" out of /etc/pf.conf and restart`;
}

/** Into a file beside it first: pfctl has to understand it, and it is whole or not there at all. */
function write(draft: Draft, machine: Machine | undefined): Step[] {
  const [text, draftFile] = [`${draft.text}\n`, `${RULES_FILE}.new`];
  // A dry-run's uids are commands: the shell runs them between double quotes.
  const words = machine === undefined ? `"${text}"` : quoted(text);
  const before = machine?.rulesFile;
  const back = before === undefined
    ? sudo("rm", "-f", RULES_FILE)
    : restoreFile(RULES_FILE, before);
  return [{
    line: `echo ${words} | ${sudo("tee", draftFile)} >/dev/null`,
    why: "the rules of every locked account, in one file",
    undo: [sudo("rm", "-f", draftFile)],
  }, {
    line: sudo("pfctl", "-nf", draftFile),
    why: "pfctl understands them",
    undo: [""],
  }, {
    line: `${sudo("sync", draftFile)} && ${sudo("mv", draftFile, RULES_FILE)}`,
    why: "put them in their place",
    undo: ["", back],
  }];
}

function load(machine: Machine | undefined): Step {
  return {
    line: sudo("pfctl", "-a", ANCHOR, "-f", RULES_FILE),
    why: "load them into our anchor alone; no other rule is touched",
    undo: [loadBack(machine)],
  };
}

/** Loads what was in the anchor before; a second time where another program loads just now. */
function loadBack(machine: Machine | undefined): string {
  const rules = (machine?.loaded ?? []).join("\n");
  const line = rules === ""
    ? sudo("pfctl", "-a", ANCHOR, "-F", "rules")
    : `echo ${quoted(rules)} | ${sudo("pfctl", "-a", ANCHOR, "-f", "-")}`;
  return `${line} || { sleep 2; ${line}; }`;
}

/**
 * The rules of the locked accounts, as pieces: in the anchor's one file, which each start of macOS
 * loads, and in the anchor, as pfctl prints what pf goes by. Each change writes the whole of both.
 */
import { FishnetError } from "../errors.ts";
import { quoted, sudo } from "../line.ts";
import { removeFile, restoreFile } from "../lock/file.ts";
import type { Found, Kind, Lock, Piece, Step } from "../lock/piece.ts";
import { single } from "../lock/uid_range.ts";
import type { Machine } from "./machine.ts";
import { type AccountRules, ANCHOR, readRules, RULES_FILE, writtenRules } from "./rules.ts";

const WHERE_FILE = `the file ${RULES_FILE}`;
const WHERE_ANCHOR = `the anchor ${ANCHOR}`;

/** Whether a piece is one of these. */
export const isRule = ({ is }: Piece) => is.startsWith(WHERE_FILE) || is.startsWith(WHERE_ANCHOR);
const isLoaded = ({ is }: Piece) => is.startsWith(WHERE_ANCHOR);

/** The rules of each account, in both places. */
export const rules: Pick<Kind<Machine>, "wanted" | "found" | "make" | "unmake"> = {
  wanted: (lock) => [WHERE_FILE, WHERE_ANCHOR].flatMap((where) => wantedPieces(where, lock)),
  found(machine) {
    return [
      ...foundPieces(WHERE_FILE, (machine.rulesFile ?? "").split("\n"), machine),
      ...foundPieces(WHERE_ANCHOR, machine.loaded, machine).map((piece) => {
        const isOfLoopback = piece.is.includes("of loopback");
        const fault = unseen(machine, (device) => (device === "lo0") === isOfLoopback);
        return fault === undefined ? piece : { fault, ...piece };
      }),
    ];
  },
  make(pieces, machine) {
    if (pieces.length === 0) return [];
    const text = textOf(changed(accountsIn(machine), "with", pieces));
    return [
      ...(isWritten(text, machine) ? [] : write(text, machine)),
      ...(pieces.some(isLoaded) ? [load(machine)] : []),
    ];
  },
  unmake(pieces, machine, made = []) {
    if (pieces.length === 0) return [];
    const before = changed(accountsIn(machine), "with", made);
    const gone = pieces.filter((piece) => !isReplaced(piece, before));
    const after = changed(before, "without", gone);
    if (after.size === 0) {
      const line = sudo("pfctl", "-a", ANCHOR, "-F", "rules");
      const why = "nothing holds any account any more";
      return [
        ...(gone.some(isLoaded) ? [{ line, why, undo: [loadBack(machine)] }] : []),
        ...removal(machine),
      ];
    }
    const text = textOf(after);
    const isThere = made.length === 0 && isWritten(text, machine);
    return [
      ...(gone.length === 0 || isThere ? [] : write(text, machine)),
      ...(gone.some(isLoaded) ? [load(machine)] : []),
    ];
  },
};

/** Why ours are not asked: a skip, or a pass in translation (xnu, pf_test_rule: natpass). */
export function unseen(
  { skipped, beside }: Machine,
  concerns: (device: string) => boolean,
): string | undefined {
  const devices = skipped.filter(concerns).join(", ");
  if (devices !== "") {
    return `pf looks at no packet of ${devices}: take "set skip" out of /etc/pf.conf and restart`;
  }
  const rule = /^(?:nat|binat) pass\b.*/m.exec(beside)?.[0];
  return rule && `pf's rule "${rule}" passes packets before any other is asked: ` +
      `take "pass" out of it`;
}

/** It ends in a newline before that of echo: the quote on a line of its own makes none too long. */
const textOf = (accounts: Accounts) =>
  [...accounts.values()].flatMap(writtenRules).map((line) => `${line}\n`).join("");

const isWritten = (text: string, machine: Machine | undefined) =>
  machine?.rulesFile === `${text}\n`;

function removal(machine: Machine | undefined): Step[] {
  const why = "no account is locked any more";
  if (machine === undefined) return [{ line: sudo("rm", RULES_FILE), why, undo: [""] }];
  const { rulesFile } = machine;
  return rulesFile === undefined ? [] : [removeFile(RULES_FILE, rulesFile, why)];
}

/** Into a file beside it first: pfctl has to understand it, and it is whole or not there at all. */
function write(text: string, machine: Machine | undefined): Step[] {
  const draft = `${RULES_FILE}.new`;
  // A dry-run's uids are commands: the shell runs them between double quotes.
  const words = machine === undefined ? `"${text}"` : quoted(text);
  return [{
    line: `echo ${words} | ${sudo("tee", draft)} >/dev/null`,
    why: "the rules of every locked account, in one file",
    undo: [sudo("rm", "-f", draft)],
  }, {
    line: sudo("pfctl", "-nf", draft),
    why: "check that pfctl understands them",
    undo: [""],
  }, {
    line: `${sudo("sync", draft)} && ${sudo("mv", draft, RULES_FILE)}`,
    why: "put them in their place",
    undo: ["", restoreFile(RULES_FILE, machine?.rulesFile)],
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
  const loaded = (machine?.loaded ?? []).join("\n");
  const line = loaded === ""
    ? sudo("pfctl", "-a", ANCHOR, "-F", "rules")
    : `echo ${quoted(loaded)} | ${sudo("pfctl", "-a", ANCHOR, "-f", "-")}`;
  return `${line} || { sleep 2; ${line}; }`;
}

/** The pieces that an account has in the file, and again in the anchor, which `where` says. */
function wantedPieces(where: string, { name, uid, onlyPorts }: Lock): Piece[] {
  return pieces(where, onlyPorts.length === 0 ? undefined : onlyPorts).map((piece) => ({
    ...piece,
    uids: uid === undefined ? "name" : single(uid),
    owner: name,
  }));
}

function pieces(
  where: string,
  ports: readonly number[] | undefined,
): Pick<Piece, "is" | "why">[] {
  const base = {
    is: `${where}: all but loopback is refused`,
    why: "TCP and UDP end at this machine",
  };
  if (ports === undefined) return [base];
  const list = ports.toSorted((a, b) => a - b).join(", ");
  const is = `${where}: of loopback, all but TCP to ${list} is refused`;
  return [base, { is, why: "no local service but these can be reached" }];
}

function foundPieces(where: string, lines: readonly string[], { names }: Machine): Found[] {
  const { accounts, strange } = readRules(lines, names);
  return accounts.flatMap((account) => {
    const uid = Number(account.uid);
    const { owner } = account;
    const fault = strange.length > 0 ? `"${strange[0]}" is none of our rules` : account.fault;
    return pieces(where, account.onlyPorts).map((piece, i) => ({
      ...piece,
      uids: single(uid),
      ...(owner === undefined ? {} : { owner }),
      ...(fault === undefined ? {} : { fault }),
      ...(i === 0 ? {} : { says: { onlyPorts: account.onlyPorts ?? [] } }),
    }));
  });
}

type Accounts = ReadonlyMap<number | string, AccountRules>;

/** What the file and the anchor say together; where they differ, the file. */
export function accountsOf(
  { rulesFile = "", loaded, names }: Machine,
): { readonly accounts: Accounts; readonly strange: readonly string[] } {
  const [file, anchor] = [rulesFile.split("\n"), loaded].map((lines) => readRules(lines, names));
  const accounts = new Map(file!.accounts.map((account) => [account.uid, account]));
  for (const account of anchor!.accounts) {
    const { base, onlyPorts, ...other } = accounts.get(account.uid) ?? account;
    accounts.set(account.uid, {
      ...other,
      base: base || account.base,
      onlyPorts: onlyPorts ?? account.onlyPorts,
    });
  }
  return { accounts, strange: [...file!.strange, ...anchor!.strange] };
}

/** What the file or the anchor lost comes back. @throws {FishnetError} for others' rules. */
function accountsIn(machine: Machine | undefined): Accounts {
  if (machine === undefined) return new Map();
  const { accounts, strange } = accountsOf(machine);
  if (strange.length > 0) {
    const place = `${RULES_FILE} or its anchor`;
    throw new FishnetError(
      `"${strange[0]}" is none of our rules, but stands in ${place}: take it out`,
    );
  }
  return accounts;
}

/** The same with pieces, or without them; ports take the place of other ports of the account. */
function changed(
  accounts: Accounts,
  verb: "with" | "without",
  pieces: readonly Piece[],
): Accounts {
  const result = new Map(accounts);
  for (const piece of pieces) {
    const [uid, ports] = [uidOf(piece), portsOf(piece)];
    const before = result.get(uid) ?? { uid, owner: undefined, base: false, onlyPorts: undefined };
    const account = {
      ...before,
      owner: piece.owner ?? before.owner,
      ...(ports === undefined
        ? { base: verb === "with" }
        : { onlyPorts: verb === "with" ? ports : undefined }),
    };
    if (account.base || account.onlyPorts !== undefined) result.set(uid, account);
    else result.delete(uid);
  }
  return result;
}

/** Other ports have taken this piece's place, and so nothing is left to take away. */
function isReplaced(piece: Piece, accounts: Accounts): boolean {
  const [ports, now] = [portsOf(piece), accounts.get(uidOf(piece))?.onlyPorts];
  return ports !== undefined && now !== undefined && `${ports}` !== `${now}`;
}

/** A dry-run does not know uids: the shell that it is pasted into asks for them. */
function uidOf({ uids, owner }: Piece): number | string {
  return typeof uids === "object" ? uids.first : `$(id -u ${owner})`;
}

function portsOf({ is }: Piece): number[] | undefined {
  return / all but TCP to ([\d, ]+) is refused$/.exec(is)?.[1]?.split(", ").map(Number);
}

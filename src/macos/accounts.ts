/**
 * The rules of the locked accounts, as pieces. They stand in the anchor's one file and in the anchor,
 * and each change writes the whole of both.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import type { Found, Lock, Piece } from "../lock/piece.ts";
import { single } from "../lock/uid_range.ts";
import type { Machine } from "./machine.ts";
import { type AccountRules, readRules, RULES_FILE } from "./rules.ts";

const BASE = "all but loopback is refused";

/** The pieces that an account has in the file, and again in the anchor, which `where` says. */
export function wantedPieces(where: string, { name, uid, onlyPorts }: Lock): Piece[] {
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
  const base = { is: `${where}: ${BASE}`, why: "TCP and UDP end at this machine" };
  if (ports === undefined) return [base];
  const list = ports.toSorted((a, b) => a - b).join(", ");
  const is = `${where}: of loopback, all but TCP to ${list} is refused`;
  return [base, { is, why: "no local service but these can be reached" }];
}

/** The pieces that lines of rules are. */
export function foundPieces(where: string, lines: readonly string[], { names }: Machine): Found[] {
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

/** The accounts' rules by their uids. */
export type Accounts = ReadonlyMap<number | string, AccountRules>;

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

/**
 * What is there: what one of the file and the anchor lost comes back with the next change.
 *
 * @throws {FishnetError} where somebody else's rules stand among ours, which a write would lose.
 */
export function accountsIn(machine: Machine | undefined): Accounts {
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
export function changed(
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
export function isReplaced(piece: Piece, accounts: Accounts): boolean {
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

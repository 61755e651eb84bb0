/**
 * What the anchor's one file will hold when the commands that are planned so far have run. All
 * accounts share that file, and each change of it writes the whole of it.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import type { Found, Lock, Piece } from "../lock/piece.ts";
import type { Machine } from "./machine.ts";
import { type AccountRules, readRules, RULES_FILE, writtenRules } from "./rules.ts";

const BASE = "all but loopback is refused";

/** The pieces that an account has in the file, and again in the anchor, which `where` says. */
export function rulePieces(where: string, { name, uid, onlyPorts }: Lock): Piece[] {
  const whose = {
    uids: uid === undefined ? "name" : { first: uid, last: uid },
    owner: name,
  } as const;
  return pieces(where, onlyPorts.length === 0 ? undefined : onlyPorts, whose);
}

function pieces<Whose>(
  where: string,
  ports: readonly number[] | undefined,
  whose: Whose,
): (Pick<Piece, "is" | "why"> & Whose)[] {
  const base = { is: `${where}: ${BASE}`, why: "TCP and UDP end at this machine", ...whose };
  if (ports === undefined) return [base];
  const list = ports.toSorted((a, b) => a - b).join(", ");
  const is = `${where}: of loopback, all but TCP to ${list} is refused`;
  return [base, { is, why: "no local service but these can be reached", ...whose }];
}

/** The pieces that lines of rules are. */
export function foundPieces(where: string, lines: readonly string[], machine: Machine): Found[] {
  const { accounts, strange } = readRules(lines);
  return accounts.flatMap((account) => {
    const uid = Number(account.uid);
    const owner = account.owner ?? machine.names.get(uid);
    const fault = strange.length > 0 ? `"${strange[0]}" is none of our rules` : account.fault;
    const whose = {
      uids: { first: uid, last: uid },
      ...(owner === undefined ? {} : { owner }),
      ...(fault === undefined ? {} : { fault }),
    };
    return pieces(where, account.onlyPorts, whose).map((piece, i) =>
      i === 0 ? piece : { ...piece, says: { onlyPorts: account.onlyPorts ?? [] } }
    );
  });
}

const drafts = new WeakMap<Machine, Draft>();

/** The accounts' rules, of the file and of the anchor together: what one of them lost comes back. */
export class Draft {
  readonly #accounts: Map<number | string, AccountRules>;

  private constructor(accounts: readonly AccountRules[]) {
    this.#accounts = new Map(accounts.map((account) => [account.uid, account]));
  }

  /**
   * The draft of a plan for this machine; without one, an empty one.
   *
   * @throws {FishnetError} where somebody else's rules stand among ours, which a write would lose.
   */
  static of(machine: Machine | undefined): Draft {
    if (machine === undefined) return new Draft([]);
    const known = drafts.get(machine);
    if (known !== undefined) return known;
    const { accounts, strange } = accountsOf(machine);
    if (strange.length > 0) {
      throw new FishnetError(
        `"${
          strange[0]
        }" is none of our rules, but stands in ${RULES_FILE} or its anchor: take it out`,
      );
    }
    const draft = new Draft(accounts);
    drafts.set(machine, draft);
    return draft;
  }

  /** No account is left. */
  get isEmpty(): boolean {
    return this.#accounts.size === 0;
  }

  /** The file's text, without the last newline. */
  get text(): string {
    return [...this.#accounts.values()].flatMap(writtenRules).join("\n");
  }

  /** Adds pieces; the ports take the place of other ports of the account. */
  put(pieces: readonly Piece[]): void {
    for (const piece of pieces) {
      const uid = uidOf(piece);
      const account = this.#accounts.get(uid) ?? { uid, base: false, onlyPorts: undefined };
      const ports = portsOf(piece);
      this.#accounts.set(uid, {
        ...account,
        owner: piece.owner,
        ...(ports === undefined ? { base: true } : { onlyPorts: ports }),
      });
    }
  }

  /** Takes pieces out. */
  drop(pieces: readonly Piece[]): void {
    for (const piece of pieces) {
      const uid = uidOf(piece);
      const account = this.#accounts.get(uid);
      if (account === undefined) continue;
      const rest = portsOf(piece) === undefined
        ? { ...account, base: false }
        : { ...account, onlyPorts: undefined };
      if (rest.base || rest.onlyPorts !== undefined) this.#accounts.set(uid, rest);
      else this.#accounts.delete(uid);
    }
  }

  /** Other ports have taken this piece's place, and so nothing is left to take away. */
  isReplaced(piece: Piece): boolean {
    const [ports, now] = [portsOf(piece), this.#accounts.get(uidOf(piece))?.onlyPorts];
    return ports !== undefined && now !== undefined && `${ports}` !== `${now}`;
  }
}

/** What the file and the anchor say together; where they differ, the file. */
export function accountsOf(machine: Machine): {
  readonly accounts: readonly AccountRules[];
  readonly strange: readonly string[];
} {
  const file = readRules((machine.rulesFile ?? "").split("\n"));
  const loaded = readRules(machine.loaded);
  const accounts = new Map(loaded.accounts.map((account) => [account.uid, account]));
  for (const account of file.accounts) {
    const other = accounts.get(account.uid);
    accounts.set(account.uid, {
      ...account,
      base: account.base || (other?.base ?? false),
      onlyPorts: account.onlyPorts ?? other?.onlyPorts,
    });
  }
  const inOrder = [...file.accounts, ...loaded.accounts].map(({ uid }) => uid);
  return {
    accounts: [...new Set(inOrder)].map((uid) => {
      const account = accounts.get(uid)!;
      return { ...account, owner: account.owner ?? machine.names.get(Number(uid)) };
    }),
    strange: [...file.strange, ...loaded.strange],
  };
}

/** A dry-run does not know uids: the shell that it is pasted into asks for them. */
function uidOf({ uids, owner }: Piece): number | string {
  return typeof uids === "object" ? uids.first : `$(id -u ${owner})`;
}

function portsOf({ is }: Piece): number[] | undefined {
  return / all but TCP to ([\d, ]+) is refused$/.exec(is)?.[1]?.split(", ").map(Number);
}

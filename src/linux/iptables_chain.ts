/** Our own chains as pieces: what they hold is theirs as a whole, and made anew as a whole. */
import { FishnetError } from "../errors.ts";
import type { Found, Piece, Step } from "../lock/piece.ts";
import { CHAIN, type Layer, layerOf, OWN_CHAINS, type OwnChain } from "./iptables_layers.ts";
import { commandOf, type SavedRules, savedRules } from "./iptables_saved.ts";
import type { Family, Machine } from "./machine.ts";

/** What comes or goes in a table: a rule, or a chain with its rules. */
export interface Change extends Pick<Step, "why" | "counts"> {
  /** `iptables`, `ip6tables-legacy`, … */
  readonly command: string;
  readonly table: string;
  /** Lines of iptables-restore: one that inserts or deletes a rule is a command as well. */
  readonly there: readonly string[];
  readonly back: readonly string[];
}

/** A chain as a piece. */
export interface ChainPiece extends Found {
  readonly own: OwnChain;
  readonly family: Family;
  readonly command: string;
  /** What it holds, as it was saved. */
  readonly rules?: readonly string[];
}

/** Whether a piece is a chain. */
export const isChain = (piece: Piece): piece is ChainPiece => "own" in piece;

/** A chain, of one family. */
export const chainPiece = (own: OwnChain, family: Family): ChainPiece => ({
  is: `IPv${family}: ${own.is}`,
  why: `IPv${family}: ${own.why}`,
  own,
  family,
  command: commandOf(family),
  serves: leadsTo(own),
});

/** Whether a piece is a rule that jumps to a chain. */
export const leadsTo = (own: OwnChain) => (piece: Piece): boolean =>
  "layer" in piece && (piece.layer as Layer).own === own;

/** What iptables-restore reads to make it, or to make it anew. */
const textOf = (rules: readonly string[]) => [`:${CHAIN} - [0:0]`, ...rules];
/** Nothing is emptied where it can't be removed. */
const GONE = [`-F ${CHAIN}`, `-X ${CHAIN}`];

/** Makes or mends it in one transaction. @throws {FishnetError} where it is somebody else's. */
export function makeChain(chain: ChainPiece, machine?: Machine): Change {
  const { own, family, command, why } = chain;
  const there = machine && thereOf(chain, machine);
  if (there?.foreign) {
    throw new FishnetError(
      `somebody else has a chain '${CHAIN}' in ${command}, or leads to ours: rename it ` +
        `(${command} -t ${own.table} -E), or use --backend nftables`,
    );
  }
  // What others put into it comes back by the undo.
  const back = there === undefined ? GONE : textOf(there.rules!);
  return { command, table: own.table, there: textOf(own.rules(family)), back, why };
}

/** Removes it; what was in it comes back by the undo. */
export function unmakeChain(chain: ChainPiece): Change {
  const { own, family, command, rules = own.rules(family) } = chain;
  const why = "remove our chain, which no account needs any more: as long as one does, this fails";
  return { command, table: own.table, there: GONE, back: textOf(rules), why };
}

/** What is there of a chain, in its variant: one in the other variant is none for rules of this one. */
export const thereOf = ({ is, command }: ChainPiece, machine: Machine): ChainPiece | undefined =>
  savedRules(machine).flatMap(chainsIn)
    .find((there) => there.is === is && there.command === command);

/** The chains that are there. */
export const chainsIn = ({ rules, chains, family, command }: SavedRules): ChainPiece[] =>
  OWN_CHAINS.filter(({ table }) => chains.has(`${table} ${CHAIN}`)).map((own) => {
    const inTable = rules.filter(({ table }) => table === own.table);
    const there = inTable.filter(({ chain }) => chain === CHAIN).map(({ text }) => text);
    const ours = own.rules(family);
    const leading = inTable.filter(({ target, goto }) => target === CHAIN || goto === CHAIN);
    // What only has the same name: others lead to it, or it holds what is not ours for nobody of ours.
    const isForeign = leading.some((rule) => layerOf(rule) === undefined) ||
      leading.length === 0 && there.some((text) => !ours.includes(text));
    return {
      ...chainPiece(own, family),
      command,
      rules: there,
      ...(there.join("\n") === ours.join("\n") ? {} : { fault: `${own.is} was changed` }),
      ...(isForeign ? { foreign: true } : {}),
    };
  });

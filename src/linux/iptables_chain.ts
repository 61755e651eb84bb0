/**
 * The chain of our own in the table filter, which the rules of `--only-port` share: it refuses what
 * is not a reply. What is not tracked has no direction, and is refused. The first packet of a
 * connection is never a reply, although an account can make it look like one: by a connection from
 * the other's port, before the other has it, that is left half open.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import { feed, printed, sudo } from "../lock/line.ts";
import type { Found, Piece, Step } from "../lock/piece.ts";
import { commandOf, restoreOf } from "./iptables_changes.ts";
import { CHAIN } from "./iptables_layers.ts";
import type { Rule } from "./iptables_rules.ts";
import { plainVariant, savedRules, type Variant } from "./iptables_saved.ts";
import type { Family, Machine } from "./machine.ts";

/** The chain as a piece. */
export interface ChainPiece extends Omit<Piece, "uids"> {
  readonly chainOf: Family;
  readonly variant?: Variant;
  /** What it holds, as it was saved. */
  readonly rules?: readonly string[];
}
type FoundChain = ChainPiece & Omit<Found, "uids">;

/** Whether a piece is the chain. */
export const isChain = (piece: Piece): piece is ChainPiece => "chainOf" in piece;

/** What iptables-restore reads to make the chain, or to mend it, in one transaction. */
const CHAIN_TEXT = `*filter
:${CHAIN} - [0:0]
-A ${CHAIN} -p tcp --tcp-flags SYN,ACK SYN -j REJECT --reject-with tcp-reset
-A ${CHAIN} -m conntrack --ctdir REPLY -j RETURN
-A ${CHAIN} -p tcp -j REJECT --reject-with tcp-reset
-A ${CHAIN} -j REJECT
COMMIT`;

/** The chain, of one family. */
export const chainPiece = (family: Family): ChainPiece => ({
  is: `IPv${family}: chain ${CHAIN}`,
  why: `IPv${family}: refuses on loopback, but for the replies of an account's own servers`,
  chainOf: family,
  serves: ({ is }) => is.includes("loopback"),
});

/**
 * Makes it, or mends it, in one transaction; what others put into it comes back by the undo.
 *
 * @throws {FishnetError} where somebody else has a chain of its name.
 */
export function makeChain({ chainOf: family, why }: ChainPiece, machine?: Machine): Step {
  const restore = restoreOf(family);
  const there = machine === undefined ? [] : savedRules(machine)
    .filter((saved) => saved.family === family)
    .flatMap(({ rules, variant }) => chainFound(rules, family, variant));
  const foreign = there.find((chain) => chain.foreign);
  if (foreign !== undefined) {
    throw new FishnetError(
      `somebody else has a chain '${CHAIN}' in ${commandOf(family)}: rename it ` +
        `(${commandOf(family, foreign.variant)} -E), or use --backend nftables`,
    );
  }
  const plain = machine && plainVariant(machine);
  const before = there.find(({ variant }) => variant === plain)?.rules ?? [];
  return {
    line: feed(CHAIN_TEXT, ...restore),
    why,
    undo: [before.length > 0 ? backLine(before, restore) : goneLines(family).join(" && ")],
  };
}

function backLine(rules: readonly string[], restore: readonly string[]): string {
  const text = ["*filter", `:${CHAIN} - [0:0]`, ...rules, "COMMIT\n"].join("\n");
  return `${printed(text)} | ${sudo(...restore)}`;
}

/** Removes it; what was in it comes back by the undo. */
export function unmakeChain(
  { chainOf: family, rules }: ChainPiece,
  variant: Variant | undefined,
): Step[] {
  const restore = restoreOf(family, variant);
  const back = rules === undefined ? feed(CHAIN_TEXT, ...restore) : backLine(rules, restore);
  const whys = ["empty our chain, which no account needs any more", "remove it"];
  return goneLines(family, variant).map((line, i) => ({ line, why: whys[i]!, undo: [back] }));
}

const goneLines = (family: Family, variant?: Variant) =>
  ["-F", "-X"].map((option) => sudo(commandOf(family, variant), "-w", option, CHAIN));

const rulesOfChain = (rules: readonly Rule[]) =>
  rules.filter(({ table, chain }) => table === "filter" && chain === CHAIN);

/** The chain that is there, if it is. */
export function chainFound(rules: readonly Rule[], family: Family, variant: Variant): FoundChain[] {
  const chain = rulesOfChain(rules);
  if (chain.length === 0) return [];
  const unreachable = family === 4 ? "icmp-port-unreachable" : "icmp6-port-unreachable";
  const there = chain.map(({ text }) => text);
  const ours = [
    `-A ${CHAIN} -p tcp -m tcp --tcp-flags SYN,ACK SYN -j REJECT --reject-with tcp-reset`,
    `-A ${CHAIN} -m conntrack --ctdir REPLY -j RETURN`,
    `-A ${CHAIN} -p tcp -j REJECT --reject-with tcp-reset`,
    `-A ${CHAIN} -j REJECT --reject-with ${unreachable}`,
  ];
  const sound = there.join("\n") === ours.join("\n");
  return [{
    ...chainPiece(family),
    variant,
    rules: there,
    ...(sound ? {} : { fault: `chain ${CHAIN} was changed` }),
    // Without any rule of ours, it only has the same name.
    ...(there.some((text) => ours.includes(text)) ? {} : { foreign: true }),
  }];
}

/**
 * Parses what `nft list table` prints of a table of ours, and the files that they are made from.
 *
 * @module
 */
import { parseRange, type UidRange } from "../lock/uid_range.ts";

/** One element of a set: uids, and the port that they may have, where the set has ports. */
export interface Element extends UidRange {
  readonly comment?: string;
  readonly port?: number;
}

/** A table: what its sets hold, and the rules of each chain. */
export interface Table {
  /** A dormant table is there and does nothing (nft(8)). */
  readonly dormant: boolean;
  readonly sets: ReadonlyMap<string, readonly Element[]>;
  /** The keys of other elements: those with a range of ports, say. */
  readonly strange: ReadonlyMap<string, readonly string[]>;
  /** Each chain's rules, after the hook that it hangs on, if any. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
}

/** Parses one table. What is not understood of its chains stays in them as it was printed. */
export function parseTable(text: string): Table {
  const chains = new Map<string, string[]>();
  let chain: string[] | undefined;
  let dormant = false;
  for (const line of text.split("\n").map((line) => line.trim())) {
    const name = /^chain (\S+) \{$/.exec(line)?.[1];
    if (name !== undefined) chains.set(name, chain = []);
    else if (line === "}") chain = undefined;
    else if (chain !== undefined) {
      if (line !== "") chain.push(inOurWords(line));
    } else if (/^flags\b.*\bdormant\b/.test(line)) dormant = true;
  }
  const sets = [...text.matchAll(/^\tset (\S+) \{\n(.*?)\n\t\}$/gms)];
  const found = sets.map(([, name, body]) => [name!, parseElements(body!)] as const);
  return {
    dormant,
    chains,
    sets: new Map(found.map(([name, { elements }]) => [name, elements])),
    strange: new Map(found.map(([name, { strange }]) => [name, strange])),
  };
}

/** Older versions of nft have other names, and all of them numbers where there is no /etc/protocols. */
const inOurWords = (rule: string) =>
  rule.replace("icmpx type ", "icmpx ").replace("icmpv6 code admin-prohibited", "icmpv6 code 1")
    .replace(/l4proto (!= )?6 /, "l4proto $1tcp ").replace("l4proto 132 ", "l4proto sctp ");

/** Elements are separated by commas, and lines may break after one. A comment may hold either. */
function parseElements(text: string): { elements: Element[]; strange: string[] } {
  const body = /\belements = \{((?:[^"}]|"[^"]*")*)\}/.exec(text)?.[1] ?? "";
  const strange: string[] = [];
  const elements = [...body.matchAll(/(?:[^,"]|"[^"]*")+/g)].flatMap(([element]) => {
    const match = /^\s*([\d-]+)(?:\s+\.\s+(\d{1,5}))?(?:\s+comment\s+"([^"]*)")?\s*$/.exec(element);
    // An element with a timeout, or with any other thing, is not one that a lock can count on.
    const range = match === null ? undefined : parseRange(match[1]!);
    if (match === null || range === undefined) {
      const key = /^\s*([\d. -]*\d)/.exec(element)?.[1];
      if (key !== undefined) strange.push(key);
      return [];
    }
    return [{
      ...range,
      ...(match[2] === undefined ? {} : { port: Number(match[2]) }),
      ...(match[3] === undefined ? {} : { comment: match[3] }),
    }];
  });
  return { elements, strange };
}

/** Why a table does nothing, or not what it was made for. */
export function defectOf(found: Table, made: Table): string | undefined {
  if (found.dormant) return "the table is dormant";
  for (const [chain, rules] of made.chains) {
    const there = found.chains.get(chain);
    if (there === undefined) return `chain ${chain} is missing`;
    if (there.join("\n") !== rules.join("\n")) return `chain ${chain} was changed`;
  }
  const set = [...made.sets.keys()].find((name) => !found.sets.has(name));
  return set === undefined ? undefined : `set ${set} is missing`;
}

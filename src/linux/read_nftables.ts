/**
 * Parses what `nft list table` prints of a table of ours.
 *
 * @module
 */
import { parseRange, type UidRange } from "./uid_range.ts";

/** One element of a set, or of a map. */
export interface Element extends UidRange {
  readonly comment?: string;
  /** The chain that a map's verdict goes to. */
  readonly goto?: string;
}

/** A table: what its sets and maps hold, and the rules of each chain. */
export interface Table {
  /** A dormant table is there and does nothing (nft(8)). */
  readonly dormant: boolean;
  readonly elements: ReadonlyMap<string, readonly Element[]>;
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
      if (line !== "") chain.push(normalised(line));
    } else if (/^flags\b.*\bdormant\b/.test(line)) dormant = true;
  }
  return { dormant, elements: parseCollections(text), chains };
}

/** Older versions of nft write `icmpx type …`; the policy is always printed. */
function normalised(rule: string): string {
  return rule.replace("icmpx type ", "icmpx ").replace(/; policy accept;$/, ";");
}

/** The elements of each set and each map, by its name. */
function parseCollections(text: string): Map<string, Element[]> {
  const collections = text.matchAll(/^\t(?:set|map) (\S+) \{\n(.*?)\n\t\}$/gms);
  return new Map([...collections].map(([, name, body]) => [name!, parseElements(body!)]));
}

/** Elements are separated by commas, and lines may break after one. A comment may hold either. */
function parseElements(text: string): Element[] {
  const body = /\belements = \{((?:[^"}]|"[^"]*")*)\}/.exec(text)?.[1] ?? "";
  return [...body.matchAll(/(?:[^,"]|"[^"]*")+/g)].flatMap(([element]) => {
    const match = /^\s*([\d-]+)(?:\s+comment\s+"([^"]*)")?(?:\s*:\s*goto\s+(\S+))?\s*$/.exec(
      element,
    );
    // An element with a timeout, or with any other thing, is not one that a lock can count on.
    const range = match === null ? undefined : parseRange(match[1]!);
    if (match === null || range === undefined) return [];
    return [{
      ...range,
      ...(match[2] === undefined ? {} : { comment: match[2] }),
      ...(match[3] === undefined ? {} : { goto: match[3] }),
    }];
  });
}

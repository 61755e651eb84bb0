/** Parses what `nft list table` prints of a table of ours, and the files that they are made from. */
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
  const blocks = (kind: "chain" | "set") =>
    [...text.matchAll(new RegExp(`^\\t${kind} (\\S+) \\{\n(.*?)^\\t\\}$`, "gms"))]
      .map(([, name, body]) => [name!, body!] as const);
  const sets = blocks("set").map(([name, body]) => [name, parseElements(body)] as const);
  return {
    dormant: /^\s*flags\b.*\bdormant\b/m.test(text),
    chains: new Map(blocks("chain").map(([name, body]) => [name, parseChain(body)])),
    sets: new Map(sets.map(([name, { elements }]) => [name, elements])),
    strange: new Map(sets.map(([name, { strange }]) => [name, strange])),
  };
}

const parseChain = (body: string) =>
  body.split("\n").map((line) => inOurWords(line.trim())).filter((line) => line !== "");

/** Older versions of nft have other names, and all of them numbers where there is no /etc/protocols. */
const inOurWords = (rule: string) =>
  rule.replace("icmpx type ", "icmpx ").replace("icmpv6 code admin-prohibited", "icmpv6 code 1")
    .replace(/l4proto (!= )?6 /, "l4proto $1tcp ").replace("l4proto 132 ", "l4proto sctp ");

/** Elements are separated by commas, and lines may break after one. A comment may hold either. */
function parseElements(text: string): { elements: Element[]; strange: string[] } {
  const body = /\belements = \{((?:[^"}]|"[^"]*")*)\}/.exec(text)?.[1] ?? "";
  const [elements, strange]: [Element[], string[]] = [[], []];
  for (const [element] of body.matchAll(/(?:[^,"]|"[^"]*")+/g)) {
    const [, uids = "", port, comment] =
      /^\s*([\d-]+)(?:\s+\.\s+(\d{1,5}))?(?:\s+comment\s+"([^"]*)")?\s*$/.exec(element) ?? [];
    const range = parseRange(uids);
    // An element with a timeout, or with any other thing, is not one that a lock can count on.
    if (range === undefined) strange.push(...(/^[\d. -]*\d/.exec(element.trim()) ?? []));
    else {
      elements.push({
        ...range,
        ...(port === undefined ? {} : { port: Number(port) }),
        ...(comment === undefined ? {} : { comment }),
      });
    }
  }
  return { elements, strange };
}

/** Why a table does nothing, or not what it was made for. */
export function defectOf(found: Table, made: Table): string | undefined {
  if (found.dormant) return "the table is dormant";
  for (const [chain, rules] of made.chains) {
    const there = found.chains.get(chain);
    if (there === undefined) return `chain ${chain} is missing`;
    // A rule names its set, which is there then.
    if (there.join("\n") !== rules.join("\n")) return `chain ${chain} was changed`;
  }
  return undefined;
}

/**
 * Parses what `iptables-save` prints, of either variant and family, and says which rules have no
 * effect because something above them may let a packet pass.
 */
import { overlap, parseRange, type UidRange } from "../lock/uid_range.ts";

/** One rule, in the order in which its chain goes through it. */
export interface Rule {
  readonly table: string;
  readonly chain: string;
  readonly text: string;
  /** What stands behind the chain's name, without quotes where there need be none. */
  readonly words: string;
  /** `lo`, `!lo`, any other device, or undefined where the rule does not say. */
  readonly device: string | undefined;
  /** `tcp`, `!tcp`, … */
  readonly protocol: string | undefined;
  readonly destination: string | undefined;
  readonly owner: UidRange | undefined;
  readonly comment: string | undefined;
  /** The ports of `! --dports`. */
  readonly otherThanPorts: readonly number[] | undefined;
  /** Where `-j` leads; undefined for a rule that only counts. */
  readonly target: string | undefined;
  /** The chain of `-g`, which does not come back. */
  readonly goto: string | undefined;
  /** The rule matches by something that is not above: nothing is known of what it lets out. */
  readonly narrower: boolean;
}

/** All rules, and the chains of users, empty ones as well: `TABLE CHAIN` each. No other lines. */
export function parseIptablesSave(text: string): { rules: Rule[]; chains: Set<string> } {
  const rules: Rule[] = [];
  const chains = new Set<string>();
  let table = "";
  for (const line of text.split("\n")) {
    const chain = /^:(\S+) - /.exec(line)?.[1];
    if (line.startsWith("*")) table = line.slice(1);
    else if (line.startsWith("-A ")) rules.push(parseRule(table, line));
    else if (chain !== undefined) chains.add(`${table} ${chain}`);
  }
  return { rules, chains };
}

/**
 * The options that rules of ours have, and the values that are understood: a match without an option
 * of its own (frag, rt, hbh: ip6tables-extensions(8)) and a range of ports are none of ours.
 */
const UNDERSTOOD: ReadonlyMap<string, RegExp> = new Map(Object.entries({
  ...{ "-o": /^/, "!-o": /^/, "-p": /^/, "!-p": /^/, "-j": /^/, "-g": /^/, "--comment": /^/ },
  ...{ "--uid-owner": /^\d+(-\d+)?$/, "--reject-with": /^/, "!--dports": /^[\d,]+$/ },
  ...{ "-d": /^224\.0\.0\.0\/4$/, "-m": /^(owner|comment|multiport)$/ },
}));

/** One rule, as it is saved: `-A CHAIN …`. */
export function parseRule(table: string, text: string): Rule {
  const [, chain = "", ...words] = splitWords(text);
  const said = new Map<string, string>();
  let narrower = false;
  for (let i = 0; i < words.length; i++) {
    const not = words[i] === "!" ? "!" : "";
    if (not) i++;
    const option = words[i]!;
    const pattern = UNDERSTOOD.get(not + option);
    const value = words[i + 1] ?? "";
    // A match may be given twice, and then both have to be true.
    if (!pattern?.test(value) || said.has(option) && option !== "-m") narrower = true;
    if (pattern === undefined) continue; // its value is then looked at as if it were an option
    said.set(option, not + value);
    i++;
  }
  return {
    ...{ table, chain, text, narrower },
    words: text.slice(`-A ${chain} `.length).replace(/"([\w:.-]+)"/g, "$1"),
    device: said.get("-o"),
    protocol: said.get("-p"),
    destination: said.get("-d"),
    owner: parseRange(said.get("--uid-owner") ?? ""),
    comment: said.get("--comment"),
    otherThanPorts: said.get("--dports")?.slice(1).split(",").map(Number),
    target: said.get("-j"),
    goto: said.get("-g"),
  };
}

/** Splits at blanks; `"…"` is one word, with `\` before what it would end at. */
export function splitWords(text: string): string[] {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) =>
    quoted?.replace(/\\(.)/g, "$1") ?? plain!
  );
}

/** Behind these a packet goes on, or is refused. Others may accept it (iptables-extensions(8)). */
const NEVER_ACCEPTING = new Set([
  ...["DROP", "REJECT", "LOG", "NFLOG", "MARK", "CONNMARK", "CONNSECMARK", "SECMARK"],
  ...["CLASSIFY", "DSCP", "TOS", "TTL", "HL", "TCPMSS", "SET", "CHECKSUM", "AUDIT", "TRACE"],
  "TCPOPTSTRIP",
]);

/** Why a rule may let a packet out before the rules below it are asked. */
export class Shadows {
  readonly #chains: ReadonlyMap<string, readonly Rule[]>;
  readonly #accepting = new Map<string, boolean>();
  readonly #isNft: boolean;

  /** @param variant nft may have put rules there that iptables-save prints in part */
  constructor(rules: readonly Rule[], variant: "nft" | "legacy" = "nft") {
    this.#isNft = variant === "nft";
    this.#chains = Map.groupBy(rules, ({ table, chain }) => `${table} ${chain}`);
  }

  /** The rules of a base chain, each with what stands above it and may accept its packets. */
  withShadows(table: string, chain: string): { rule: Rule; shadow: Rule | undefined }[] {
    const above: Rule[] = [];
    return (this.#chains.get(`${table} ${chain}`) ?? []).map((rule) => {
      const shadow = above.find((other) => mayConcern(other, rule));
      if (this.#mayAccept(rule)) above.push(rule);
      return { rule, shadow };
    });
  }

  #mayAccept({ table, target, goto }: Rule): boolean {
    if (goto !== undefined) return true; // at its end the base chain's policy decides
    if (target === undefined) return this.#isNft;
    const key = `${table} ${target}`;
    const chain = this.#chains.get(key);
    // Extensions are spelt in capitals; any other target without rules is an empty chain.
    if (chain === undefined) return !NEVER_ACCEPTING.has(target) && !/[a-z]/.test(target);
    let accepting = this.#accepting.get(key);
    if (accepting === undefined) {
      this.#accepting.set(key, false); // iptables refuses loops; a text need not
      // In a chain that was jumped to, RETURN goes on behind the jump.
      accepting = chain.some((rule) => rule.target !== "RETURN" && this.#mayAccept(rule));
      this.#accepting.set(key, accepting);
    }
    return accepting;
  }
}

/** What is for another owner, or for the other side of loopback, does not. */
function mayConcern(above: Rule, below: Rule): boolean {
  if (above.owner && below.owner && !overlap(above.owner, below.owner)) return false;
  return !(above.device === "lo" && below.device === "!lo") &&
    !(above.device === "!lo" && below.device === "lo");
}

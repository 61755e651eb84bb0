/**
 * Parses what `iptables-save` prints, of either variant and family, and says which rules have no
 * effect because something above them may let a packet pass.
 *
 * @module
 */
import { overlap, parseRange, type UidRange } from "../lock/uid_range.ts";

/** One rule, in the order in which its chain goes through it. */
export interface Rule {
  readonly table: string;
  readonly chain: string;
  /** The rule as it was saved. */
  readonly text: string;
  /** What stands behind the chain's name, a word each. */
  readonly words: readonly string[];
  /** `lo`, `!lo`, any other device, or undefined where the rule does not say. */
  readonly device?: string;
  /** `tcp`, `!tcp`, … */
  readonly protocol?: string;
  readonly owner?: UidRange;
  readonly comment?: string;
  /** The ports of `! --dports`. */
  readonly otherThanPorts?: readonly number[];
  /** Where `-j` leads; undefined for a rule that only counts. */
  readonly target?: string;
  /** The chain of `-g`, which does not come back. */
  readonly goto?: string;
  /** The rule matches by something that is not above: nothing is known of what it lets out. */
  readonly narrower: boolean;
}

/**
 * All rules of all tables, and the chains that are nobody's but users', `TABLE CHAIN` each, empty ones
 * as well. Lines that are neither are left out.
 */
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

/** The matches that say nothing but by their options. */
const PLAIN_MATCHES = ["owner", "comment", "multiport"];

/** One rule, as it is saved: `-A CHAIN …`. */
export function parseRule(table: string, text: string): Rule {
  const [, chain = "", ...words] = splitWords(text);
  type Writable = { -readonly [K in keyof Rule]: Rule[K] };
  const rule: Writable = { table, chain, text, words, narrower: false };
  const seen = new Set<string>();
  for (let i = 0; i < words.length; i++) {
    const not = words[i] === "!" ? "!" : "";
    if (not) i++;
    const option = `${not}${words[i]}`;
    const value = words[i + 1] ?? "";
    // A match may be given twice, and then both have to be true.
    if (option !== "-m" && seen.has(option)) rule.narrower = true;
    seen.add(option);
    switch (option) {
      case "-m":
        // Some match without an option of their own (frag, rt, hbh: ip6tables-extensions(8)).
        if (!PLAIN_MATCHES.includes(value)) rule.narrower = true;
        break;
      case "--reject-with":
        break;
      case "-o":
      case "!-o":
        rule.device = not + value;
        break;
      case "-p":
      case "!-p":
        rule.protocol = not + value;
        break;
      case "--uid-owner": {
        const owner = parseRange(value);
        if (owner === undefined) rule.narrower = true;
        else rule.owner = owner;
        break;
      }
      case "--comment":
        rule.comment = value;
        break;
      case "!--dports":
        // A range of ports is none of ours.
        if (/^[\d,]+$/.test(value)) rule.otherThanPorts = value.split(",").map(Number);
        else rule.narrower = true;
        break;
      case "-j":
        rule.target = value;
        break;
      case "-g":
        rule.goto = value;
        break;
      default:
        rule.narrower = true;
        continue; // without its value, which is then looked at as if it were an option
    }
    i++;
  }
  return rule;
}

/** Splits at blanks; `"…"` is one word, with `\` before what it would end at. */
function splitWords(text: string): string[] {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) =>
    quoted?.replace(/\\(.)/g, "$1") ?? plain!
  );
}

/**
 * The targets after which a packet goes on to the next rule, or is refused. Any other may accept it
 * (iptables-extensions(8)); a chain of the user's is judged by its rules.
 */
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

  /**
   * The rules of a base chain, each with what stands above it and may accept its packets.
   * Rules for another owner, or for the other side of loopback, cannot.
   */
  withShadows(table: string, chain: string): { rule: Rule; shadow: Rule | undefined }[] {
    const above: Rule[] = [];
    return this.rulesOf(table, chain).map((rule) => {
      const shadow = above.find((other) => mayConcern(other, rule));
      if (this.#mayAccept(rule)) above.push(rule);
      return { rule, shadow };
    });
  }

  /** The rules of a chain, in its order. */
  rulesOf(table: string, chain: string): readonly Rule[] {
    return this.#chains.get(`${table} ${chain}`) ?? [];
  }

  #mayAccept({ table, target, goto }: Rule): boolean {
    if (goto !== undefined) return true; // at its end the base chain's policy decides
    if (target === undefined) return this.#isNft;
    const key = `${table} ${target}`;
    if (!this.#chains.has(key)) return !NEVER_ACCEPTING.has(target) && !isEmptyChain(target);
    let accepting = this.#accepting.get(key);
    if (accepting === undefined) {
      this.#accepting.set(key, false); // iptables refuses loops; a text need not
      // In a chain that was jumped to, RETURN goes on behind the jump.
      accepting = this.rulesOf(table, target)
        .some((rule) => rule.target !== "RETURN" && this.#mayAccept(rule));
      this.#accepting.set(key, accepting);
    }
    return accepting;
  }
}

/** Extensions are spelt in capitals; any other target without rules is an empty chain. */
const isEmptyChain = (target: string) => /[a-z]/.test(target);

function mayConcern(above: Rule, below: Rule): boolean {
  if (above.owner && below.owner && !overlap(above.owner, below.owner)) return false;
  return !(above.device === "lo" && below.device === "!lo") &&
    !(above.device === "!lo" && below.device === "lo");
}

/**
 * pf's rules, read strictly by the grammar of pf.conf(5): as much of it as a
 * plan of ours, macOS's own pf.conf and the reference page use. What is not in
 * it is an error, never a guess.
 *
 * @module
 */

/** A criterion: one value or a list of them, each of which makes a rule of its own. */
type List<T> = readonly T[];

/** Ports, or uids, from `first` to `last`. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

/** A filter rule; what is left out matches everything. */
export interface FilterRule {
  readonly kind: "pass" | "block";
  /** What happens to a blocked packet: silence, or an answer. */
  readonly answer: "drop" | "return";
  readonly direction?: "in" | "out";
  readonly quick: boolean;
  readonly interface?: { readonly name: string; readonly not: boolean };
  readonly family?: "inet" | "inet6";
  readonly protocols: List<string>;
  /** A destination that is an address: the rule speaks of that family alone. */
  readonly to?: { readonly network: string; readonly not: boolean };
  readonly ports: List<Range>;
  readonly users: List<Range>;
  /** Of the flags in `of`, exactly `set`. */
  readonly flags?: { readonly set: string; readonly of: string };
  readonly state: "keep" | "none" | undefined;
}

/** A call of an anchor. */
export interface AnchorCall {
  readonly kind: "anchor";
  readonly name: string;
}

/** What is read and has no part in filtering: scrub, translation, dummynet, load. */
export interface OtherLine {
  readonly kind: "other";
  readonly keyword: string;
}

export type Line = FilterRule | AnchorCall | OtherLine;

/** Where and why a text is no pf.conf. */
export class PfSyntaxError extends Error {}

/** pf.conf(5): "rules must be in order". */
const ORDER = ["scrub-anchor", "nat-anchor", "rdr-anchor", "dummynet-anchor", "filter"];

/** Reads a whole file for pfctl. */
export function parsePf(text: string): Line[] {
  if (text !== "" && !text.endsWith("\n")) throw new PfSyntaxError("no newline at the end");
  let last = 0;
  return text.split("\n").flatMap((line, index) => {
    const tokens = tokensOf(line);
    if (tokens.length === 0) return [];
    const parsed = new Parser(tokens, `line ${index + 1}: ${line}`).line();
    const section = parsed.kind === "other" ? parsed.keyword : "filter";
    if (section === "load") return [parsed];
    const place = ORDER.indexOf(section);
    if (place < last) throw new PfSyntaxError(`line ${index + 1}: rules must be in order`);
    last = place;
    return [parsed];
  });
}

/** Strings, words, and the signs that no word may hold (the manual's grammar, and pfctl's lexer). */
function tokensOf(line: string): string[] {
  const tokens = /\s*("[^"]*"|#.*|[(){}<>!=/,]|[^\s(){}<>!=/,#"]+)/gy;
  const found: string[] = [];
  let end = 0;
  for (const match of line.matchAll(tokens)) {
    end = match.index + match[0].length;
    if (!match[1]!.startsWith("#")) found.push(match[1]!);
  }
  if (line.slice(end).trim() !== "") throw new PfSyntaxError(`unreadable: ${line}`);
  return found;
}

class Parser {
  readonly #tokens: string[];
  readonly #where: string;

  constructor(tokens: readonly string[], where: string) {
    this.#tokens = [...tokens];
    this.#where = where;
  }

  line(): Line {
    const keyword = this.#next("a rule");
    const line = this.#lineOf(keyword);
    if (this.#tokens.length > 0) this.#fail(`nothing may follow, but "${this.#tokens[0]}" does`);
    return line;
  }

  #lineOf(keyword: string): Line {
    switch (keyword) {
      case "pass":
      case "block":
        return this.#filterRule(keyword);
      case "anchor": {
        const name = this.#string();
        this.#accept("all");
        return { kind: "anchor", name };
      }
      case "nat-anchor":
      case "rdr-anchor":
      case "scrub-anchor":
      case "dummynet-anchor":
        this.#string();
        return { kind: "other", keyword };
      case "load":
        this.#expect("anchor");
        this.#string();
        this.#expect("from");
        this.#string();
        return { kind: "other", keyword };
      default:
        return this.#fail(`no rule begins with "${keyword}"`);
    }
  }

  /** action [direction] [quick] [on] [af] [proto] [hosts] [filteropt-list], in this order. */
  #filterRule(kind: "pass" | "block"): FilterRule {
    const answer = kind === "block" ? this.#oneOf("drop", "return") : undefined;
    const direction = this.#oneOf("in", "out");
    const quick = this.#accept("quick");
    const on = this.#accept("on")
      ? { not: this.#accept("!"), name: this.#next("an interface") }
      : undefined;
    const family = this.#oneOf("inet", "inet6");
    const protocols = this.#accept("proto") ? this.#list((word) => word) : [];
    const hosts = this.#hosts();
    const options = this.#options();
    if (hosts.ports.length > 0 && !protocols.every((name) => name === "tcp" || name === "udp")) {
      this.#fail("port only applies to tcp/udp");
    }
    if (hosts.ports.length > 0 && protocols.length === 0) {
      this.#fail("port only applies to tcp/udp");
    }
    if (options.flags && (protocols.length !== 1 || protocols[0] !== "tcp")) {
      this.#fail("flags only apply to tcp");
    }
    return {
      kind,
      answer: answer ?? "drop",
      ...(direction ? { direction } : {}),
      quick,
      ...(on ? { interface: on } : {}),
      ...(family ? { family } : {}),
      protocols,
      ...hosts,
      ...options,
    };
  }

  #hosts(): Pick<FilterRule, "to" | "ports"> {
    if (this.#accept("all")) return { ports: [] };
    if (this.#accept("from")) this.#expect("any");
    if (!this.#accept("to")) return { ports: [] };
    const not = this.#accept("!");
    const network = this.#next("a host");
    const mask = this.#accept("/") ? `/${this.#next("a mask")}` : "";
    const ports = this.#accept("port") ? this.#list((word) => this.#range(word, 65535)) : [];
    return { ...(network === "any" ? {} : { to: { network: network + mask, not } }), ports };
  }

  #options(): Pick<FilterRule, "users" | "flags" | "state"> {
    let users: Range[] = [];
    let flags: FilterRule["flags"];
    let state: FilterRule["state"];
    for (;;) {
      if (this.#accept("user")) {
        this.#accept("=");
        users = this.#list((word) => this.#range(word, 2 ** 32 - 1));
      } else if (this.#accept("flags")) {
        const set = this.#next("flags");
        this.#expect("/");
        flags = { set, of: this.#next("flags") };
      } else if (this.#accept("keep") || this.#accept("no")) {
        state = this.#lastAccepted === "keep" ? "keep" : "none";
        this.#expect("state");
      } else return { users, ...(flags ? { flags } : {}), state };
    }
  }

  #lastAccepted = "";

  #list<T>(item: (word: string) => T): T[] {
    if (!this.#accept("{")) return [item(this.#next("a value"))];
    const items: T[] = [];
    while (!this.#accept("}")) {
      items.push(item(this.#next("a value, or }")));
      this.#accept(",");
    }
    if (items.length === 0) this.#fail("an empty list");
    return items;
  }

  #range(word: string, most: number): Range {
    if (!/^\d+(:\d+)?$/.test(word)) return this.#fail(`"${word}" is no number or range`);
    const [first, last = first] = word.split(":").map(Number) as [number, number?];
    if (first > last || last > most) this.#fail(`"${word}" is no range up to ${most}`);
    return { first, last };
  }

  #next(what: string): string {
    return this.#tokens.shift() ?? this.#fail(`${what} is missing`);
  }

  #accept(word: string): boolean {
    if (this.#tokens[0] !== word) return false;
    this.#lastAccepted = this.#tokens.shift()!;
    return true;
  }

  #expect(word: string): void {
    if (!this.#accept(word)) this.#fail(`"${word}" should stand where "${this.#tokens[0]}" does`);
  }

  #oneOf<T extends string>(...words: readonly T[]): T | undefined {
    return words.find((word) => this.#accept(word));
  }

  #string(): string {
    const word = this.#next("a string");
    if (!word.startsWith('"')) this.#fail(`${word} is no string`);
    return word.slice(1, -1);
  }

  #fail(why: string): never {
    throw new PfSyntaxError(`${why} (${this.#where})`);
  }
}

/** The rules as pfctl gives them back: one for each combination of a list's values. */
export function printedForm(line: Line): string[] {
  if (line.kind === "anchor") return [`anchor "${line.name}" all`];
  if (line.kind === "other") return [];
  const { kind, answer, direction, quick, flags } = line;
  const on = line.interface ? ` on ${line.interface.not ? "! " : ""}${line.interface.name}` : "";
  const front =
    `${kind}${kind === "block" ? ` ${answer}` : ""}${direction ? ` ${direction}` : ""}` +
    `${quick ? " quick" : ""}${on}`;
  return line.protocols.flatMap((protocol) =>
    line.ports.flatMap((port) =>
      line.users.map((user) =>
        `${front} proto ${protocol} from any to any port ${port.first}:${port.last} ` +
        `user = ${user.first}${flags ? ` flags ${flags.set}/${flags.of}` : ""}`
      )
    )
  );
}

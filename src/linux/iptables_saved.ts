/** The rules that are there, of both variants of iptables and both families. */
import type { Known, Questions } from "../lock/piece.ts";
import { type Answer, UnreadableError } from "../root.ts";
import { parseIptablesSave, type Rule } from "./iptables_rules.ts";
import { CHAIN } from "./iptables_layers.ts";
import { familiesOf, type Family, type Machine, unread, type Variant } from "./machine.ts";

/** What one of the `iptables-save` programs printed. */
export interface SavedRules {
  readonly family: Family;
  readonly variant: Variant;
  /** What changes them: the plain name, where it stands for the variant. */
  readonly command: string;
  readonly rules: readonly Rule[];
  /** The chains of users, empty ones as well: `TABLE CHAIN` each. */
  readonly chains: ReadonlySet<string>;
}

/** The tables that iptables-legacy has made, by family: without one it holds no rule. */
export const LEGACY_TABLES = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] as const;

/** `iptables`, `ip6tables-legacy`, … */
export function commandOf(family: Family, variant?: Variant): string {
  return `${family === 4 ? "iptables" : "ip6tables"}${variant === undefined ? "" : `-${variant}`}`;
}

/** What root is asked: the rules of both variants, by the plain name where the other one is missing. */
export function savedQuestions({ files, answers }: Known): Questions {
  const plain = plainVariant({ answers });
  const isGone = (name: string) => answers.get(name)?.exitCode === 127;
  return Object.assign(
    {},
    ...familiesOf(files).map((family): Questions => {
      const save = (variant?: Variant) => [`${commandOf(family, variant)}-save`];
      const tables = LEGACY_TABLES[family === 4 ? 0 : 1]!;
      const listed = (table: string) => ["nft", "list", "table", inNft(family), table];
      const isBlind = isGone(`${family} nft`) && isGone(plain ? `${family} plain` : "iptables");
      const listings = hiddenTables({ answers }, family)
        .map((table) => [listingOf(family, table), listed(table)] as const);
      return {
        ...Object.fromEntries(listings),
        [`${family} nft`]: save("nft"),
        ...(files.get(tables)?.text.trim() && { [`${family} legacy`]: save("legacy") }),
        ...(plain && isGone(`${family} ${plain}`) && { [`${family} plain`]: save() }),
        ...(isBlind && { [`${family} by nft`]: listed("mangle") }),
      };
    }),
  );
}

/** The family, as nft calls it. */
const inNft = (family: Family) => family === 4 ? "ip" : "ip6";

const HIDDEN = /table [`'](\S+)' is incompatible/gi;

/** The tables that rules of ours stand in. */
const TABLES: ReadonlySet<string> = new Set(["filter", "mangle"]);

/** Those of them that iptables-nft does not print, since it has no words for rules that nft put there. */
export function hiddenTables({ answers }: Pick<Machine, "answers">, family: Family): string[] {
  const { stdout, stderr } = nftAnswer({ answers }, family) ?? { stdout: "", stderr: "" };
  return [...(stdout + stderr).matchAll(HIDDEN)].map(([, table]) => table!)
    .filter((table) => TABLES.has(table));
}

const listingOf = (family: Family, table: string) => `${family} ${table} by nft`;

const nftAnswer = ({ answers }: Pick<Machine, "answers">, family: Family) =>
  plainVariant({ answers }) === "nft" && answers.get(`${family} plain`) ||
  answers.get(`${family} nft`);

const read = new WeakMap<Machine, readonly SavedRules[]>();

/** The rules of both variants and families, parsed once for a reading. */
export function savedRules(machine: Machine): readonly SavedRules[] {
  const { families, answers } = machine;
  for (const family of families) {
    if (!answers.get(`${family} by nft`)?.stdout.includes(`\tchain ${CHAIN} {`)) continue;
    throw new UnreadableError(
      `${commandOf(family)} is not installed, and rules that it made are there: ` +
        "install the package iptables",
    );
  }
  let saved = read.get(machine);
  if (saved === undefined) {
    const plain = plainVariant(machine);
    saved = families.flatMap((family) =>
      (["nft", "legacy"] as const).map((variant) => {
        const byPlain = variant === plain ? answers.get(`${family} plain`) : undefined;
        const answer = byPlain ?? answers.get(`${family} ${variant}`);
        if (variant === "nft") refuseHidden(machine, family);
        const text = answer === undefined ? "" : textIn(answer, family, variant);
        const command = commandOf(family, variant === plain ? undefined : variant);
        return { family, variant, command, ...parseIptablesSave(text) };
      })
    );
    read.set(machine, saved);
  }
  return saved;
}

/** What the two variants say where the kernel has not got them: then they hold no rule. */
const NOT_IN_KERNEL = /do you need to insmod|not supported/;

/** @throws {UnreadableError} where a table that is not printed may hold rules of ours, by what nft says. */
function refuseHidden(machine: Machine, family: Family): void {
  for (const table of hiddenTables(machine, family)) {
    const { exitCode, stdout } = machine.answers.get(listingOf(family, table))!;
    // No rule of ours accepts.
    const mayBeOurs = (line: string) =>
      /fishnet|skuid|owner/.test(line) && !line.endsWith(" accept");
    if (exitCode === 0 && !stdout.split("\n").some(mayBeOurs)) continue;
    throw new UnreadableError(
      `${
        commandOf(family, "nft")
      } cannot read the table '${table}', which may hold a lock, since nft has put rules ` +
        `there: take those out with nft delete rule (nft -a list table ${
          inNft(family)
        } ${table} has ` +
        "their handles), or, where nft loaded all of it from a file, restore it with iptables-restore",
    );
  }
}

/** @throws {UnreadableError} where the rules are not to be had: none printed is not none there. */
function textIn(answer: Answer, family: Family, variant: Variant): string {
  const { exitCode, stdout, stderr } = answer;
  const command = commandOf(family, variant);
  if (exitCode === 0) return stdout;
  if (exitCode === 127 || NOT_IN_KERNEL.test(stderr)) return "";
  throw unread(`${command}-save failed`, answer, stderr.trim().split("\n").at(-1)!);
}

/** What the plain name `iptables` stands for; undefined where there is none. */
export function plainVariant({ answers }: Pick<Machine, "answers">): Variant | undefined {
  const { exitCode, stdout } = answers.get("iptables") ?? { exitCode: 127, stdout: "" };
  return exitCode !== 0 ? undefined : stdout.includes("nf_tables") ? "nft" : "legacy";
}

/**
 * The rules that are there, of both variants of iptables and both families.
 *
 * @module
 */
import type { Known, Questions } from "../lock/piece.ts";
import type { Answer } from "../statements.ts";
import { UnreadableError } from "../root.ts";
import { parseIptablesSave, type Rule } from "./iptables_rules.ts";
import { commandOf } from "./iptables_changes.ts";
import { CHAIN } from "./iptables_layers.ts";
import { familiesOf, type Family, type Machine, unread, type Variant } from "./machine.ts";

/** What one of the `iptables-save` programs printed. */
export interface SavedRules {
  readonly family: Family;
  readonly variant: Variant;
  readonly rules: readonly Rule[];
  /** The chains of users, empty ones as well: `TABLE CHAIN` each. */
  readonly chains: ReadonlySet<string>;
}

/** The tables that iptables-legacy has made, by family: without one it holds no rule. */
export const LEGACY_TABLES = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] as const;

/** What root is asked: the rules of both variants, by the plain name where the other one is missing. */
export function savedQuestions({ files, answers }: Known): Questions {
  const plain = plainVariant({ answers });
  const isGone = (...names: readonly string[]) =>
    names.every((name) => answers.get(name)?.exitCode === 127);
  const questions = familiesOf(files).flatMap((family) => {
    const save = (variant?: Variant) => [`${commandOf(family, variant)}-save`];
    const hasLegacy = files.get(LEGACY_TABLES[family === 4 ? 0 : 1])?.text.trim();
    const variants: Variant[] = hasLegacy ? ["nft", "legacy"] : ["nft"];
    const isMissing = plain && isGone(`${family} ${plain}`);
    const isBlind = isGone(`${family} nft`, plain ? `${family} plain` : "iptables");
    return [
      ...variants.map((variant) => [`${family} ${variant}`, save(variant)]),
      ...(isMissing ? [[`${family} plain`, save()]] : []),
      ...(isBlind
        ? [[`${family} by nft`, ["nft", "list", "table", family === 4 ? "ip" : "ip6", "mangle"]]]
        : []),
    ];
  });
  return Object.fromEntries(questions);
}

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
  const saved = read.get(machine) ??
    families.flatMap((family) =>
      (["nft", "legacy"] as const).map((variant) => {
        const own = answers.get(`${family} ${variant}`);
        const plain = answers.get(`${family} plain`);
        const answer = plain !== undefined && variant === plainVariant(machine) ? plain : own;
        const text = answer === undefined ? "" : textIn(answer, family, variant);
        return { family, variant, ...parseIptablesSave(text) };
      })
    );
  read.set(machine, saved);
  return saved;
}

/** What the two variants say where the kernel has not got them: then they hold no rule. */
const NOT_IN_KERNEL = /do you need to insmod|not supported/;

/** @throws {UnreadableError} where the rules are not to be had: none printed is not none there. */
function textIn(answer: Answer, family: Family, variant: Variant): string {
  const { exitCode, stdout, stderr } = answer;
  const command = commandOf(family, variant);
  const incompatible = /table [`'](\S+)' is incompatible/i.exec(stdout + stderr);
  if (incompatible !== null) {
    throw new UnreadableError(
      `${command} cannot read the table '${incompatible[1]}', which nft made for it: ` +
        `restore it with iptables-restore, or remove it with nft delete table`,
    );
  }
  if (exitCode === 0) return stdout;
  if (exitCode === 127 || NOT_IN_KERNEL.test(stderr)) return "";
  throw unread(`${command}-save failed`, answer, stderr.trim().split("\n").at(-1)!);
}

/** What the plain name `iptables` stands for; undefined where there is none. */
export function plainVariant({ answers }: Pick<Machine, "answers">): Variant | undefined {
  const { exitCode, stdout } = answers.get("iptables") ?? { exitCode: 127, stdout: "" };
  return exitCode !== 0 ? undefined : stdout.includes("nf_tables") ? "nft" : "legacy";
}

/** Where each rule stands, while one after another is taken away. */
export class Positions {
  readonly #chains: ReadonlyMap<string, string[]>;
  readonly #plain: Variant | undefined;

  constructor(machine: Machine) {
    this.#plain = plainVariant(machine);
    this.#chains = new Map(
      savedRules(machine).flatMap(({ rules, family, variant }) =>
        [...Map.groupBy(rules, (layer) => keyOf({ family, variant, layer }))]
          .map(([key, chain]) => [key, chain.map(({ words }) => words)] as const)
      ),
    );
  }

  /** How a variant has to be named: not at all where the plain name stands for it. */
  named(variant: Variant | undefined): Variant | undefined {
    return variant === this.#plain ? undefined : variant;
  }

  /** A rule is put on top of a chain, by the plain name. */
  putFirst(rule: Omit<Place, "variant">): void {
    this.#chains.get(keyOf({ ...rule, variant: this.#plain }))?.unshift("");
  }

  /** The position, from 1, of the first such rule, which is gone from now on: `-D` takes that. */
  take(rule: Place & { readonly words: string }): number {
    const chain = this.#chains.get(keyOf(rule)) ?? [];
    const index = Math.max(0, chain.indexOf(rule.words));
    chain.splice(index, 1);
    return index + 1;
  }
}

/** A chain of a table, of one of the `iptables-save` programs. */
interface Place {
  readonly family: Family;
  readonly variant?: Variant | undefined;
  readonly layer: Pick<Rule, "table" | "chain">;
}
const keyOf = ({ family, variant, layer: { table, chain } }: Place) =>
  `${family} ${variant} ${table} ${chain}`;

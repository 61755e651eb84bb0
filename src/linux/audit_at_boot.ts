/**
 * `--log` with `--persist`: a file for each account in `/etc/audit/rules.d`, with the rules that
 * auditd's start brings back.
 *
 * @module
 */
import { removeFile, restoreFile, writeFile } from "../lock/file.ts";
import { sudo } from "../line.ts";
import type { Kind, Piece, Step, Uids } from "../lock/piece.ts";
import { printRange } from "../lock/uid_range.ts";
import { allUids } from "./accounts.ts";
import { KEY, readRule, RULES_FOLDER, rulesFor } from "./audit.ts";
import type { Machine } from "./machine.ts";

const WHY = "record after a reboot too: auditd loads them when it starts";
const WHY_NOT = "nothing is recorded after a reboot";

/** The rules for some uids of an account, which are lines of its file. */
interface LinesPiece extends Piece {
  readonly owner: string;
  readonly lines: readonly string[];
}

/** The files of `--log` with `--persist`. */
export const auditAtBoot: Kind<Machine> = {
  goesLast: true,

  files: [`${RULES_FOLDER}/${KEY}*.rules`],

  wanted: (lock) =>
    !lock.log || !lock.persist
      ? []
      : allUids(lock).map((uids) => linesPiece(lock.name, uids, linesOf(lock.name, uids))),

  /** A piece for all lines of the same uids: whole where all the rules for them are there. */
  found: (machine) =>
    [...filesOf(machine)].flatMap(([owner, lines]) => {
      const rules = lines.flatMap((line) => {
        const rule = readRule(line);
        return rule?.uids === undefined || rule.owner !== owner ? [] : [{ line, uids: rule.uids }];
      });
      return [...Map.groupBy(rules, ({ uids }) => printRange(uids)).values()].map((group) => {
        const { uids } = group[0]!;
        const there = group.map(({ line }) => line);
        const isWhole = linesOf(owner, uids).every((line) => there.includes(line));
        return {
          ...linesPiece(owner, uids, there),
          uids,
          says: { log: true, persist: true },
          ...(!isWhole && { fault: `${fileOf(owner)} was changed` }),
        };
      });
    }),

  make: (pieces, machine) =>
    machine === undefined
      ? pieces.map((piece) => stepByName(piece as LinesPiece))
      : edit(pieces, machine, (lines, mine) => [
        ...lines,
        ...mine.filter((line) => !lines.includes(line)),
      ]),

  unmake: (pieces, machine) =>
    machine === undefined
      ? pieces.filter(({ uids }) => uids !== "ranges").map(({ owner }) => ({
        line: sudo("rm", "-f", fileOf(owner!)),
        why: WHY_NOT,
        undo: [""],
      }))
      : edit(pieces, machine, (lines, mine) => lines.filter((line) => !mine.includes(line))),
};

const linesPiece = (owner: string, uids: Uids, lines: readonly string[]): LinesPiece => ({
  is: `audit rules in ${RULES_FOLDER}`,
  why: WHY,
  uids,
  owner,
  lines,
});

const linesOf = (owner: string, uids: Uids) => rulesFor(owner, uids).map(({ rule }) => rule);

const fileOf = (owner: string) => `${RULES_FOLDER}/${KEY}${owner}.rules`;

const headerOf = (owner: string) =>
  `# What ${owner} is refused is recorded: made by fishnet firewall enable --log.`;

/** The lines of each of our files, by the account that it is of. */
function filesOf({ files }: Machine): Map<string, string[]> {
  return new Map([...files].flatMap(([path, { text }]) => {
    const owner = /^\/etc\/audit\/rules\.d\/fishnet-([\w-]+)\.rules$/.exec(path)?.[1];
    return owner === undefined ? [] : [[owner, text.split("\n").slice(0, -1)] as const];
  }));
}

/** The command for each file that is to have other lines: it goes where no rule is left. */
function edit(
  pieces: readonly Piece[],
  machine: Machine,
  change: (lines: readonly string[], mine: readonly string[]) => readonly string[],
): Step[] {
  const byOwner = Map.groupBy(pieces as readonly LinesPiece[], ({ owner }) => owner);
  return [...byOwner].flatMap(([owner, group]) => {
    const before = filesOf(machine).get(owner);
    const lines = before?.[0]?.startsWith("#") ? before : [headerOf(owner), ...before ?? []];
    const after = change(lines, group.flatMap(({ lines }) => lines));
    const text = before?.map((line) => `${line}\n`).join("");
    if (after.some((line) => line.startsWith("-"))) {
      return writeFile(fileOf(owner), after.join("\n"), WHY, restoreFile(fileOf(owner), text));
    }
    return text === undefined ? [] : [removeFile(fileOf(owner), text, WHY_NOT)];
  });
}

/** A dry-run's: the shell puts the numbers in, since names may not be known at boot. */
function stepByName({ owner, uids, lines }: LinesPiece): Step {
  const file = fileOf(owner);
  const echo = (text: string, ...words: readonly string[]) => {
    const asked = text.replaceAll(`euid=${owner} `, `euid=$(id -u ${owner}) `);
    return `echo "${asked}" |\n  ${sudo(...words)} >/dev/null`;
  };
  // In the loop, where lines are indented, a text has to be one line.
  const line = uids === "ranges" ? lines.map((text) => echo(text, "tee", "-a", file)).join("\n") : [
    echo([headerOf(owner), ...lines].join("\n"), "tee", `${file}.new`),
    sudo("sync", `${file}.new`),
    sudo("mv", `${file}.new`, file),
  ].join(" &&\n  ");
  return { line, why: WHY, undo: [sudo("rm", "-f", file)] };
}

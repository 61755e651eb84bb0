/** `--log` with `--persist`: a file for each account, whose rules auditd loads when it starts. */
import { removeFile, writeFile } from "../lock/file.ts";
import { sudo } from "../line.ts";
import type { Kind, Piece, Step, Uids } from "../lock/piece.ts";
import { printRange, type UidRange } from "../lock/uid_range.ts";
import { allUids } from "./accounts.ts";
import { KEY, readRule, RULES_FOLDER, rulesFor } from "./audit.ts";
import type { Machine } from "./machine.ts";

const WHY_NOT = "nothing is recorded after a reboot";

/** The files of `--log` with `--persist`: a piece for all lines of the same uids. */
export const auditAtBoot: Kind<Machine> = {
  goesLast: true,

  files: [`${RULES_FOLDER}/${KEY}*.rules`],

  wanted: (lock) =>
    lock.log && lock.persist
      ? allUids(lock).map((uids) => ({ ...PIECE, uids, owner: lock.name }))
      : [],

  found: (machine) =>
    [...filesOf(machine)].flatMap(([owner, lines]) => {
      const byUids = Map.groupBy(lines.flatMap((line) => uidsIn(line, owner) ?? []), printRange);
      return [...byUids.values()].map(([uids]) => ({
        ...PIECE,
        uids: uids!,
        owner,
        says: { log: true, persist: true },
        ...(linesOf(owner, uids!).some((line) => !lines.includes(line)) &&
          { fault: `${fileOf(owner)} was changed` }),
      }));
    }),

  make: (pieces, machine) =>
    machine === undefined ? pieces.map(stepByName) : edit(pieces, machine, (lines, owner, uids) => [
      ...lines,
      ...linesOf(owner, uids).filter((line) => !lines.includes(line)),
    ]),

  unmake: (pieces, machine) =>
    machine === undefined
      ? pieces.filter(({ uids }) => uids !== "ranges").map(({ owner }) => ({
        line: sudo("rm", "-f", fileOf(owner!)),
        why: WHY_NOT,
        undo: [""],
      }))
      : edit(pieces, machine, (lines, owner, uids) =>
        lines.filter((line) => {
          const its = uidsIn(line, owner);
          return its === undefined || printRange(its) !== printRange(uids);
        })),
};

const PIECE = {
  is: `audit rules in ${RULES_FOLDER}`,
  why: "record after a reboot too: auditd loads them when it starts",
};

const linesOf = (owner: string, uids: Uids) => rulesFor(owner, uids).map(({ rule }) => rule);

/** The uids that a line is for; undefined for one that is none of the account's rules. */
function uidsIn(line: string, owner: string): UidRange | undefined {
  const rule = readRule(line);
  return rule?.owner === owner ? rule.uids : undefined;
}

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
  change: (lines: readonly string[], owner: string, uids: UidRange) => readonly string[],
): Step[] {
  return [...Map.groupBy(pieces, ({ owner }) => owner!)].flatMap(([owner, group]) => {
    const before = filesOf(machine).get(owner);
    const lines = before?.[0]?.startsWith("#") ? before : [headerOf(owner), ...before ?? []];
    const after = group.reduce<readonly string[]>(
      (lines, { uids }) => change(lines, owner, uids as UidRange),
      lines,
    );
    const text = before?.map((line) => `${line}\n`).join("");
    if (after.some((line) => line.startsWith("-"))) {
      return writeFile(fileOf(owner), after.join("\n"), PIECE.why, text);
    }
    return text === undefined ? [] : [removeFile(fileOf(owner), text, WHY_NOT)];
  });
}

/** A dry-run's: the shell puts the numbers in, since names may not be known at boot. */
function stepByName({ owner = "", uids = "name", why }: Piece): Step {
  const lines = linesOf(owner, uids);
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
  return { line, why, undo: [sudo("rm", "-f", file)] };
}

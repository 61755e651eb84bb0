/**
 * The kernel's audit, which records what a locked account was refused: a rule for each table of
 * calls and each answer of a lock, for the account's uid and each of its subordinate ranges. In
 * `/etc/audit/rules.d`, the same rules for the next boot.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import { removeFile, writeFile } from "../lock/file.ts";
import { sudo } from "../lock/line.ts";
import type { Found, Kind, Lock, Piece, Step } from "../lock/piece.ts";
import type { Machine } from "./machine.ts";

/** With the account's name behind it, what its rules and the records that they make are found by. */
export const KEY = "fishnet-";

/** The rules of each `*.rules` in here are loaded when auditd starts (augenrules(8)). */
const FOLDER = "/etc/audit/rules.d";

/**
 * What a lock answers: the routing rule EACCES, the packet filter EPERM (measured with both
 * backends). TCP that is refused on loopback ends as where nobody listens, and is not recorded.
 */
const ANSWERS = [
  { error: "EACCES", why: "record what the routing rule refuses: when, which program, where to" },
  { error: "EPERM", why: "record what the packet filter refuses: when, which program, where to" },
] as const;

const SENDING = "connect,sendto,sendmsg,sendmmsg";

/** On x86, 32-bit programs have all of them in one call besides (socketcall(2)). */
const TABLES = [
  { label: "64-bit calls", arch: "b64", calls: SENDING },
  { label: "32-bit calls", arch: "b32", calls: SENDING },
  ...(Deno.build.arch === "x86_64"
    ? [{ label: "32-bit socketcall", arch: "b32", calls: "socketcall" }]
    : []),
];

const RULES = TABLES.flatMap(({ label, arch, calls }) =>
  ANSWERS.map(({ error, why }) => ({ is: `audit of ${label}: ${error}`, why, arch, calls, error }))
);

/** A rule of the kernel's, or the line of a file that makes it at boot. */
interface AuditPiece extends Piece {
  readonly owner: string;
  /** What stands behind `-a always,exit`; what is listed so is taken away with the same words. */
  readonly words: readonly string[];
  readonly atBoot: boolean;
}

/** The audit rules of `--log`, and with `--persist` those of the next boot. */
export const audit: Kind<Machine> = {
  questions: {
    "audit rules": ["auditctl", "-l"],
    "audit status": ["auditctl", "-s"],
    // FILE:LINE for each line of our files.
    "audit files": ["grep", "-rsH", "", FOLDER, `--include=${KEY}*.rules`],
  },

  wanted(lock, machine) {
    if (!lock.log) return [];
    return (lock.persist ? [false, true] : [false]).flatMap((atBoot) =>
      uidsOf(lock, machine).flatMap((uids) =>
        RULES.map((rule): AuditPiece => ({
          is: rule.is + (atBoot ? " at boot" : ""),
          why: rule.why + (atBoot ? ", also after a reboot" : ""),
          uids,
          owner: lock.name,
          words: [
            ...["-F", `arch=${rule.arch}`, "-S", rule.calls, ...uidWords(uids, lock.name)],
            ...["-F", `exit=-${rule.error}`, "-k", KEY + lock.name],
          ],
          atBoot,
        }))
      )
    );
  },

  found(machine) {
    const trouble = troubleOf(machine);
    const state = {
      ...(trouble === undefined ? {} : { fault: trouble.reason }),
      ...(trouble?.mend === undefined ? {} : { mend: trouble.mend }),
      // What nobody can take away before the next boot is not ours to take away.
      ...(isLocked(machine) ? { foreign: true as const } : {}),
    };
    return [
      ...piecesIn(machine.answers.get("audit rules")!.stdout.split("\n"), false)
        .map((piece) => ({ ...state, ...piece })),
      ...[...filesOf(machine).values()].flatMap((lines) => piecesIn(lines, true)),
    ];
  },

  make(pieces, machine) {
    const { rules, files } = split(pieces);
    return [
      ...rules.map((piece) => ruleStep("-a", "-d", piece, piece.why)),
      ...files.flatMap(([owner, mine]) =>
        machine === undefined ? unreadFile(owner, mine) : fileStep(machine, owner, (lines) => {
          const added = mine.map(lineOf).filter((line) => !lines.includes(line));
          return [...lines, ...added];
        })
      ),
    ];
  },

  unmake(pieces, machine) {
    const { rules, files } = split(pieces);
    return [
      ...files.flatMap(([owner, mine]) => {
        if (machine === undefined) {
          const why = "nothing is recorded after a reboot";
          return [{ line: sudo("rm", "-f", fileOf(owner)), why, undo: [""] }];
        }
        const gone = mine.map(lineOf);
        return fileStep(machine, owner, (lines) => lines.filter((line) => !gone.includes(line)));
      }),
      ...rules.map((piece) => ruleStep("-d", "-a", piece, `remove it: ${piece.is}`)),
    ];
  },
};

/**
 * Refuses `--log` where nothing would be recorded, or no rule can be made.
 *
 * @throws {FishnetError} with the reason, and with what to do.
 */
export function refuseLog(machine: Machine): void {
  const trouble = isLocked(machine)
    ? {
      reason: "the audit rules are locked until the next boot (auditctl -e 2)",
      remedy: "leave --log out, or enable it before they are locked",
    }
    : troubleOf(machine);
  if (trouble !== undefined) {
    throw new FishnetError(`--log is not possible: ${trouble.reason}: ${trouble.remedy}`);
  }
}

/** A line of `auditctl -s`. */
function statusValue({ answers }: Machine, name: string): string | undefined {
  return new RegExp(`^${name} (\\d+)`, "m").exec(answers.get("audit status")!.stdout)?.[1];
}

/** Whether nobody can change a rule before the next boot (auditctl(8), -e). */
const isLocked = (machine: Machine) => statusValue(machine, "enabled") === "2";

/** Why rules have no effect here: with the command that ends it, where there is one. */
function troubleOf(
  machine: Machine,
): { readonly reason: string; readonly remedy: string; readonly mend?: string } | undefined {
  const { exitCode, stdout, stderr } = machine.answers.get("audit status")!;
  if (exitCode === 127) {
    return {
      reason: "auditctl is not installed",
      remedy: "install the package auditd (some systems call it audit)",
    };
  }
  const enabled = statusValue(machine, "enabled");
  if (exitCode !== 0 || enabled === undefined) {
    const said = (stderr + stdout).trim().split("\n").at(-1) || `it ended with ${exitCode}`;
    return { reason: `auditctl -s failed (${said})`, remedy: "leave --log out" };
  }
  const mendable = (reason: string, mend: string) => ({ reason, remedy: `run ${mend}`, mend });
  if (statusValue(machine, "pid") === "0") {
    return mendable("auditd is not running", "sudo systemctl start auditd");
  }
  if (enabled === "0") return mendable("the kernel's audit is off", "sudo auditctl -e 1");
  // With this rule no process has what its calls are recorded in (auditctl(8), list task).
  if (/^-a (?:never,task|task,never)\s*$/m.test(machine.answers.get("audit rules")!.stdout)) {
    return {
      reason: "a rule of this machine's own keeps all calls from being recorded (-a never,task)",
      remedy: `take it out of ${FOLDER}, run sudo augenrules --load, and start the agent anew`,
      mend: "sudo auditctl -d never,task",
    };
  }
  return undefined;
}

/** The uids of a lock, as its pieces hold them. */
function uidsOf(lock: Lock, machine: Machine | undefined): NonNullable<Piece["uids"]>[] {
  if (machine === undefined || lock.uid === undefined) return ["name", "ranges"];
  return [{ first: lock.uid, last: lock.uid }, ...lock.ranges ?? []];
}

/**
 * The effective uid: it is the one that a socket belongs to, which the layers of a lock go by
 * (verify's tries have the account's as their effective uid alone).
 */
function uidWords(uids: NonNullable<Piece["uids"]>, name: string): string[] {
  if (uids === "name") return ["-F", `euid=${name}`];
  // The loop of a dry-run over the ranges knows both.
  if (uids === "ranges") return ["-F", "euid>=$first", "-F", "euid<=$last"];
  const { first, last } = uids;
  return first === last ? ["-F", `euid=${first}`] : ["-F", `euid>=${first}`, "-F", `euid<=${last}`];
}

/** Those that are rules, and those that are lines of files, by the account that the file is of. */
function split(pieces: readonly Piece[]) {
  const all = pieces as readonly AuditPiece[];
  const files = Map.groupBy(all.filter(({ atBoot }) => atBoot), ({ owner }) => owner);
  return { rules: all.filter(({ atBoot }) => !atBoot), files: [...files] };
}

function ruleStep(option: string, inverse: string, piece: AuditPiece, why: string): Step {
  const line = (verb: string) => {
    const words = sudo("auditctl", verb, "always,exit", ...piece.words);
    // In the loop of a dry-run the shell has to see its variables.
    return piece.uids === "ranges" ? words.replaceAll("'", '"') : words;
  };
  return { line: line(option), why, undo: [line(inverse)] };
}

/** What stands in a file for a rule: what auditctl is given, in words that no shell reads. */
const lineOf = ({ words }: AuditPiece) => ["-a always,exit", ...words].join(" ");

const fileOf = (owner: string) => `${FOLDER}/${KEY}${owner}.rules`;

const headerOf = (owner: string) =>
  `# What ${owner} is refused is recorded: made by fishnet firewall enable --log.`;

/** The lines of each of our files, behind the first, by the account that it is of. */
function filesOf({ answers }: Machine): Map<string, string[]> {
  const files = new Map<string, string[]>();
  for (const line of answers.get("audit files")!.stdout.split("\n")) {
    const [, owner, text] = /^[^:]*\/fishnet-([\w-]+)\.rules:(.*)$/.exec(line) ?? [];
    if (owner !== undefined) files.set(owner, [...files.get(owner) ?? [], text!]);
  }
  return files;
}

/** The command that makes a file what it is to be; none where it is that already. */
function fileStep(
  machine: Machine,
  owner: string,
  edit: (lines: readonly string[]) => readonly string[],
): Step[] {
  const before = filesOf(machine).get(owner);
  const after = edit(before?.[0]?.startsWith("#") ? before : [headerOf(owner), ...before ?? []]);
  const text = before?.map((line) => `${line}\n`).join("");
  if (after.some((line) => line.startsWith("-"))) {
    return after.length === before?.length
      ? []
      : [writeFile(fileOf(owner), after.join("\n"), "the same rules when auditd starts", text)];
  }
  return text === undefined
    ? []
    : [removeFile(fileOf(owner), text, "nothing is recorded after a reboot")];
}

/** A dry-run's: the shell puts the numbers in, since names may not be known at boot. */
function unreadFile(owner: string, pieces: readonly AuditPiece[]): Step[] {
  const why = "the same rules when auditd starts";
  const file = fileOf(owner);
  const echo = (uids: Piece["uids"], ...before: readonly string[]) => {
    const lines = pieces.filter((piece) => piece.uids === uids).map(lineOf);
    return `echo "${[...before, ...lines].join("\n")}"`
      .replaceAll(`euid=${owner} `, `euid=$(id -u ${owner}) `);
  };
  return [
    {
      line: `${echo("name", headerOf(owner))} |\n  ${sudo("tee", `${file}.new`)} >/dev/null &&\n` +
        `  ${sudo("sync", `${file}.new`)} &&\n  ${sudo("mv", `${file}.new`, file)}`,
      why,
      undo: ["", "", sudo("rm", "-f", file)],
    },
    { line: `${echo("ranges")} |\n  ${sudo("tee", "-a", file)} >/dev/null`, why, undo: [""] },
  ];
}

/** The pieces that lines are, as `auditctl -l` prints them or a file has them. */
function piecesIn(lines: readonly string[], atBoot: boolean): (AuditPiece & Found)[] {
  return lines.flatMap((line) => {
    const [, rule, owner] = /^-a always,exit (.*(?:-k |-F key=)fishnet-([\w-]+))$/.exec(line) ?? [];
    if (rule === undefined || owner === undefined) return [];
    const [, arch, calls, uid, first, last, error] = new RegExp(
      "^-F arch=(\\w+) -S (\\S+) -F (?:euid=(\\d+)|euid>=(\\d+) -F euid<=(\\d+)) -F exit=-(\\w+) -\\S+ \\S+$",
    ).exec(rule) ?? [];
    const known = RULES.find((known) =>
      known.arch === arch && known.error === error && sorted(known.calls) === sorted(calls!)
    );
    const uids = { first: Number(uid ?? first), last: Number(uid ?? last) };
    return [{
      is: (known?.is ?? `audit rule ${rule}`) + (atBoot ? " at boot" : ""),
      why: known?.why ?? "its key says that it is ours",
      ...(known === undefined ? { fault: "it was changed" } : { uids }),
      owner,
      says: { log: true },
      words: rule.split(" "),
      atBoot,
    }];
  });
}

/** auditctl lists calls by their number. */
const sorted = (calls: string) => calls.split(",").sort().join(",");

/**
 * The kernel's audit, which records what a locked account was refused: a rule for each table of calls
 * and each answer of a lock, for its uid and each of its subordinate ranges.
 */
import { FishnetError } from "../errors.ts";
import { sudo } from "../line.ts";
import { InForce } from "../lock/difference.ts";
import type { Found, Kind, Lock, Piece, Uids } from "../lock/piece.ts";
import { single, type UidRange } from "../lock/uid_range.ts";
import { UnreadableError } from "../root.ts";
import { allUids } from "./accounts.ts";
import type { Machine } from "./machine.ts";

/** The rules of each `*.rules` in here are loaded when auditd starts (augenrules(8)). */
export const RULES_FOLDER = "/etc/audit/rules.d";

/** With the account's name behind it, what its rules and the records that they make are found by. */
export const KEY = "fishnet-";

/** Measured with both backends. TCP refused on loopback ends as if nobody listened: no record. */
const ANSWERS = { EACCES: "the routing rule", EPERM: "the packet filter" };

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
  Object.entries(ANSWERS).map(([error, layer]) => ({
    is: `audit of ${label}: ${error}`,
    why: `record what ${layer} refuses: when, which program, where to`,
    arch,
    calls,
    error,
  }))
);

/** A rule as a file of rules has it; one that is there has the words that auditctl lists. */
interface RulePiece extends Piece {
  readonly owner: string;
  readonly rule: string;
}

/** The audit rules of `--log`. */
export const audit: Kind<Machine> = {
  questions: ({ files, answers, asked }) => ({
    "audit rules": ["auditctl", "-l"],
    ...(asked.log || answers.get("audit rules")?.stdout.includes(KEY) ||
        [...files.keys()].some((path) => path.startsWith(`${RULES_FOLDER}/${KEY}`))
      ? { "audit status": ["auditctl", "-s"] }
      : {}),
  }),

  wanted: (lock) => lock.log ? allUids(lock).flatMap((uids) => rulesFor(lock.name, uids)) : [],

  found(machine) {
    const { reason: fault, mend } = troubleOf(machine) ?? {};
    return listedRules(machine).split("\n").flatMap((line) => {
      const rule = readRule(line);
      return rule === undefined ? [] : [{
        ...(fault && { fault }),
        ...(mend && { mend }),
        // What nobody can take away before the next boot is not ours to take away.
        ...(isLocked(machine) && { foreign: true as const }),
        ...rule,
      }];
    });
  },

  make: (pieces) =>
    (pieces as readonly RulePiece[]).map(({ rule, why }) => (
      { line: call("-a", rule), why, undo: [call("-d", rule)] }
    )),

  unmake: (pieces) =>
    (pieces as readonly RulePiece[]).map(({ rule, is }) => (
      { line: call("-d", rule), why: `remove it: ${is}`, undo: [call("-a", rule)] }
    )),
};

function call(verb: string, rule: string): string {
  const line = sudo("auditctl", ...rule.replace("-a", verb).split(" "));
  // In the loop of a dry-run the shell has to see its variables.
  return rule.includes("$first") ? line.replaceAll("'", '"') : line;
}

/** @throws {UnreadableError} where the rules are not to be had: none printed is not none there. */
function listedRules({ answers }: Machine): string {
  const { exitCode, stdout, stderr } = answers.get("audit rules")!;
  const said = `${stderr}${stdout}`.trim();
  // Where the kernel has no audit, or none for this container, auditctl says so.
  const hasNone = /not in kernel|netlink|not permitted|refused|must be root/i.test(said);
  if (exitCode === 0 || exitCode === 127 || hasNone) return stdout;
  throw new UnreadableError(
    `auditctl could not list its rules (exit status ${exitCode}): ${said.split("\n").at(-1)}`,
  );
}

/** The accounts of which is recorded now what they are refused. */
export function recordedAccounts(machine: Machine): Set<string> {
  const sound = audit.found(machine).filter(({ fault }) => fault === undefined);
  return new Set(sound.flatMap(({ owner }) => owner ?? []));
}

/** A sentence where what an account is refused is recorded for as long as the machine runs. */
export function staysRecorded(machine: Machine, name: string): string[] {
  return isLocked(machine) && recordedAccounts(machine).has(name)
    ? ["what it tries is recorded until the next boot: the audit rules are locked"]
    : [];
}

/** Every rule for these uids. */
export const rulesFor = (owner: string, uids: Uids): RulePiece[] =>
  RULES.map(({ is, why, arch, calls, error }) => {
    const what = `-F arch=${arch} -S ${calls} ${uidFilter(uids, owner)} -F exit=-${error}`;
    return { is, why, uids, owner, rule: `-a always,exit ${what} -k ${KEY}${owner}` };
  });

/** The effective uid: sockets belong to it, layers go by it, and verify's tries have it alone. */
function uidFilter(uids: Uids, name: string): string {
  if (uids === "name") return `-F euid=${name}`;
  if (uids === "ranges") return "-F euid>=$first -F euid<=$last"; // of the dry-run's loop
  const { first, last } = uids;
  return first === last ? `-F euid=${first}` : `-F euid>=${first} -F euid<=${last}`;
}

/** A rule of ours, as `auditctl -l` prints it or a file has it; undefined for anything else. */
export function readRule(text: string): (RulePiece & Found) | undefined {
  // auditctl 3.0 lists what is 2^31 and more as a negative number, and takes no such number itself.
  const rule = text.replace(/(euid[<>]?=)(-\d+)/g, (_, is, uid) => `${is}${Number(uid) >>> 0}`);
  const [, words, owner] = /^-a always,exit (.*(?:-k |-F key=)fishnet-([\w-]+))$/.exec(rule) ?? [];
  if (words === undefined || owner === undefined) return undefined;
  const uids = readUids(words);
  const [, arch, listed = "", error] = RULE.exec(words) ?? [];
  // One with our key that enable does not make goes with the others, and does not count.
  const known = RULES.find((one) =>
    one.arch === arch && one.error === error && sorted(one.calls) === sorted(listed)
  );
  return {
    is: known?.is ?? `audit rule ${words}`,
    why: known?.why ?? "its key says that it is ours",
    ...(uids && { uids }),
    ...((known === undefined || uids === undefined) && { fault: "it was changed" }),
    says: { log: true },
    owner,
    rule,
  };
}

const RULE =
  /^-F arch=(\w+) -S (\S+) -F (?:euid=\d+|euid>=\d+ -F euid<=\d+) -F exit=-(\w+) (?:-k |-F key=)\S+$/;

function readUids(rule: string): UidRange | undefined {
  const [, one, first, last] = /-F (?:euid=(\d+)|euid>=(\d+) -F euid<=(\d+)) /.exec(rule) ?? [];
  if (one !== undefined) return single(Number(one));
  return first === undefined ? undefined : { first: Number(first), last: Number(last) };
}

/** auditctl lists calls by their number. */
const sorted = (calls: string) => calls.split(",").sort().join();

/** @throws {FishnetError} for `--log` where nothing would be recorded, or a rule of it can't be made. */
export function refuseLog(machine: Machine, lock: Lock): void {
  if (!lock.log) return;
  const trouble = troubleOf(machine) ?? (isLocked(machine) && lacksRule(machine, lock) && LOCKED);
  if (!trouble) return;
  throw new FishnetError(`--log is not possible: ${trouble.reason}: ${trouble.remedy}`);
}

/** Why rules have no effect, what to do about it, and the command that does it, if one can. */
const trouble = (reason: string, remedy: string, mend?: string) => ({ reason, remedy, mend });

const LOCKED = trouble(
  "the audit rules are locked until the next boot (auditctl -e 2)",
  "leave --log out, or give it before they are locked",
);

/** Whether nobody can change a rule before the next boot (auditctl(8), -e). */
const isLocked = (machine: Machine) => statusValue(machine, "enabled") === "2";

function lacksRule(machine: Machine, lock: Lock): boolean {
  const inForce = new InForce(audit.found(machine));
  return audit.wanted(lock).some((piece) => inForce.judge(piece) !== "in force");
}

function troubleOf(machine: Machine): ReturnType<typeof trouble> | undefined {
  const answer = machine.answers.get("audit status");
  if (answer === undefined) return undefined;
  const { exitCode, stdout, stderr } = answer;
  if (exitCode === 127) {
    const install = "install the package auditd (some systems call it audit)";
    return trouble("auditctl is not installed", install);
  }
  const enabled = statusValue(machine, "enabled");
  if (exitCode !== 0 || enabled === undefined) {
    const said = (stderr + stdout).trim().split("\n").at(-1) || `it ended with ${exitCode}`;
    return trouble(`auditctl -s failed (${said})`, "leave --log out");
  }
  const mendable = (reason: string, mend: string) => trouble(reason, `run ${mend}`, mend);
  if (statusValue(machine, "pid") === "0") {
    return mendable("auditd is not running", "sudo systemctl start auditd");
  }
  if (enabled === "0") return mendable("the kernel's audit is off", "sudo auditctl -e 1");
  // With this rule no process has what its calls are recorded in (auditctl(8), list task).
  const { stdout: rules } = machine.answers.get("audit rules")!;
  if (!/^-a (?:never,task|task,never)\s*$/m.test(rules)) return undefined;
  return trouble(
    "a rule of this machine's own keeps all calls from being recorded (-a never,task)",
    "take it out of /etc/audit/rules.d, run sudo augenrules --load, and start the agent anew",
    "sudo auditctl -d never,task",
  );
}

function statusValue({ answers }: Machine, name: string): string | undefined {
  return new RegExp(`^${name} (\\d+)`, "m").exec(answers.get("audit status")?.stdout ?? "")?.[1];
}

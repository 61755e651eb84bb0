/** One reading of a Mac: what pfctl, launchctl and our files say, parsed and not yet judged. */
import type { Piece, Step } from "../lock/piece.ts";
import { type Ask, type Root, UnreadableError } from "../root.ts";
import { ANCHOR, RULES_FILE } from "./rules.ts";

/** The file that every start of macOS loads. */
export const PF_CONF = "/etc/pf.conf";

/** What `pfctl -E` printed: the token of our reference. Root alone may read it. */
export const TOKEN_FILE = "/var/db/fishnet.token";

/** What the LaunchDaemon runs. Root owns /var/db, and nobody else may write there. */
export const SCRIPT_FILE = "/var/db/fishnet.sh";

/** The LaunchDaemon's property list. */
export const PLIST_FILE = `/Library/LaunchDaemons/${ANCHOR}.plist`;

/** How launchctl calls the LaunchDaemon. */
export const JOB = `system/${ANCHOR}`;

/** An account that was asked for, or that a rule of ours names. */
export interface MacAccount {
  /** Undefined where there is none of that name. */
  readonly uid: number | undefined;
  /** What the directory calls that uid: macOS finds `Agent` for `agent`, pf does not. */
  readonly called: string | undefined;
}

/** The state of a Mac, as its own tools print it. */
export interface Machine {
  /** By the name that was asked for. */
  readonly accounts: ReadonlyMap<string, MacAccount>;
  /** Names of the uids that our rules hold; a uid of nobody's is missing. */
  readonly names: ReadonlyMap<number, string>;
  readonly enabled: boolean;
  /** The running main rules, a line each, as they are printed. */
  readonly rules: readonly string[];
  /** Translation and dummynet, as they are printed: a load of the rules must not touch them. */
  readonly beside: string;
  /** Of the anchors called, and those below com.apple (others load there); undefined: unknown. */
  readonly called: ReadonlyMap<string, readonly string[] | undefined>;
  /** What is loaded in our own anchor. */
  readonly loaded: readonly string[];
  /** The interfaces that pf looks at no packet of (`set skip`). */
  readonly skipped: readonly string[];
  /** The tokens of all references that pf knows. */
  readonly tokens: ReadonlySet<string>;
  /** The texts of files; undefined where there is none. */
  readonly pfConf: string | undefined;
  readonly rulesFile: string | undefined;
  readonly tokenFile: string | undefined;
  readonly scriptFile: string | undefined;
  readonly plistFile: string | undefined;
  readonly pfConfIsLink: boolean;
  readonly jobIsKnown: boolean;
}

/** What accounts share in pf: found whole, with a fault, or not; without a machine, nothing is. */
export interface Shared {
  readonly piece: Pick<Piece, "is" | "why">;
  found(machine: Machine): { readonly fault?: string } | undefined;
  make(machine?: Machine): Step[];
  unmake(machine?: Machine): Step[];
}

/**
 * pfctl ends with 0 whatever happened: a list is believed when it was read twice with one result
 * and no ioctl failed (`DIOC…` on stderr). @throws {UnreadableError} where sudo or pf refuses.
 */
export async function readMachine(
  { ask, look }: Root,
  accounts: readonly string[],
): Promise<Machine> {
  const list = (words: readonly string[], missing?: RegExp) => believed(ask, words, missing);
  /** `NAME/*` calls all that is below NAME: pfctl prints no rule of it where it is asked for that. */
  const rulesOf = async (call: string) => {
    if (!call.endsWith("/*")) return await list(["-a", call, "-s", "rules"]);
    const names = await list(["-a", call.slice(0, -2), "-v", "-s", "Anchors"], NO_ANCHOR);
    if (names === undefined) return undefined;
    const below = await Promise.all(
      names.map((name) => list(["-a", name.trim(), "-s", "rules"], NO_ANCHOR)),
    );
    return below.every((rules) => rules !== undefined) ? below.flat() : undefined;
  };
  const files = await look([PF_CONF, RULES_FILE, TOKEN_FILE, SCRIPT_FILE, PLIST_FILE]);
  // What does not depend on another answer is asked at once.
  const [main, nat, ours, apples, info, dummynet, interfaces, references, job] = await Promise.all([
    list(["-s", "rules"]),
    list(["-s", "nat"]),
    list(["-a", ANCHOR, "-s", "rules"], NO_ANCHOR),
    rulesOf(APPLES),
    ask(["pfctl", "-s", "info"]),
    ask(["pfctl", "-s", "dummynet"]), // only macOS knows these, and not in every version
    ask(["pfctl", "-v", "-s", "Interfaces"]),
    ask(["pfctl", "-s", "References"]),
    ask(["launchctl", "print", JOB]),
  ]);
  const status = /^Status: (Enabled|Disabled)\b/m.exec(info.stdout)?.[1];
  if (status === undefined) {
    unreadable(info.stderr.trim().split("\n").at(-1) || "pfctl said nothing");
  }
  const failed = [interfaces, references].find(({ stderr }) => stderr.includes("DIOC"));
  if (failed !== undefined) unreadable(failed.stderr.trim());
  const rules = main ?? unread("its rules");
  const loaded = ours ?? unread("the rules of our anchor");
  const beside = [...nat ?? unread("its translation rules"), dummynet.stdout].join("\n");
  const text = (path: string) => files.get(path)?.text;
  const [pfConf, rulesFile, plistFile] = [text(PF_CONF), text(RULES_FILE), text(PLIST_FILE)];
  if (pfConf?.includes("\ufffd")) throw new UnreadableError(`${PF_CONF} is not UTF-8: correct it`);
  const [called, people] = await Promise.all([
    Promise.all(calledIn(rules).map(async (name) => [name, await rulesOf(name)] as const)),
    readAccounts(ask, accounts, `${rulesFile ?? ""}\n${loaded.join("\n")}`),
  ]);
  return {
    ...people,
    enabled: status === "Enabled",
    rules,
    beside,
    called: new Map([...called, [APPLES, apples]]),
    loaded,
    skipped: [...interfaces.stdout.matchAll(/^(\S+) \(skip\)/gm)].map(([, name]) => name!),
    tokens: tokensIn(references.stdout),
    pfConf,
    rulesFile,
    tokenFile: text(TOKEN_FILE),
    scriptFile: text(SCRIPT_FILE),
    plistFile,
    pfConfIsLink: files.get(PF_CONF)?.type === "l",
    jobIsKnown: job.exitCode === 0 && (plistFile !== undefined || await staysKnown(ask)),
  };
}

/** What macOS's own pf.conf calls. */
export const APPLES = "com.apple/*";

/** The token that a file or a message of `pfctl -E` holds. */
export function tokenIn(text: string | undefined): string | undefined {
  return /^Token : (\d+)$/m.exec(text ?? "")?.[1];
}

/** The anchors that rules call, in their order, but for ours and those that macOS has. */
export function calledIn(rules: readonly string[]): string[] {
  return rules.flatMap((rule) => /^\s*anchor "([^"]+)"/.exec(rule)?.[1] ?? [])
    .filter((name) => !/^com\.apple[./]/.test(name) && name !== ANCHOR);
}

/** What pfctl prints twice without an error; what `missing` matches is said of an empty list. */
async function believed(
  ask: Ask,
  words: readonly string[],
  missing?: RegExp,
): Promise<string[] | undefined> {
  const once = async () => {
    const { exitCode, stdout, stderr } = await ask(["pfctl", ...words]);
    if (stdout === "" && missing?.test(stderr)) return "";
    return exitCode !== 0 || stderr.includes("DIOC") ? undefined : stdout;
  };
  for (let tries = 0; tries < 5; tries++) {
    const [first, second] = await Promise.all([once(), once()]);
    if (first !== undefined && first === second) return linesOf(first);
  }
  return undefined;
}

/** Before the first lock our anchor is not there: pfctl may say so in two ways, one of them with 0. */
const NO_ANCHOR = /DIOCGETRULES: Invalid argument|does not exist/;

/** `pfctl -s References`: PID, process name, token, and for how long. */
function tokensIn(text: string): Set<string> {
  return new Set([...text.matchAll(/^\d+ .* (\d+) +\d+ days /gm)].map(([, token]) => token!));
}

/** The accounts that were asked for, those that the file names, and the names of uids in rules. */
async function readAccounts(
  ask: Ask,
  asked: readonly string[],
  rules: string,
): Promise<Pick<Machine, "accounts" | "names">> {
  const accounts = new Map<string, MacAccount>();
  const names = new Map<number, string>();
  const nameOf = async (uid: number) => {
    const { exitCode, stdout } = await ask(["id", "-un", `${uid}`]);
    // id prints a uid of nobody's as it is, in some versions.
    const name = stdout.trim();
    if (exitCode !== 0 || name === `${uid}`) return undefined;
    names.set(uid, name);
    return name;
  };
  const owners = [...rules.matchAll(/^# ([A-Za-z_][\w-]*)$/gm)].map(([, name]) => name!);
  await Promise.all([...new Set([...asked, ...owners])].map(async (name) => {
    const { exitCode, stdout } = await ask(["id", "-u", name]);
    const uid = exitCode === 0 && /^\d+$/.test(stdout.trim()) ? Number(stdout) : undefined;
    accounts.set(name, { uid, called: uid === undefined ? undefined : await nameOf(uid) });
  }));
  const uids = [...rules.matchAll(/ user (?:= )?(\d+)\b/g)].map(([, uid]) => Number(uid));
  await Promise.all([...new Set(uids)].filter((uid) => !names.has(uid)).map(nameOf));
  return { accounts, names };
}

/**
 * Whether launchd goes on knowing the LaunchDaemon. `bootout` returns before the job is gone, and until
 * then `bootstrap` fails (`5: Input/output error`): without its file the job is on its way out.
 */
async function staysKnown(ask: Ask): Promise<boolean> {
  for (let tries = 0; tries < 30; tries++) {
    await ask(["sleep", "1"]);
    if ((await ask(["launchctl", "print", JOB])).exitCode !== 0) return false;
  }
  return true;
}

function linesOf(text: string): string[] {
  return text.split("\n").filter((line) => line.trim() !== "");
}

const unread = (what: string) => unreadable(`${what} changed at each look; run this again`);

function unreadable(why: string): never {
  throw new UnreadableError(`pf's state could not be read: ${why}`);
}

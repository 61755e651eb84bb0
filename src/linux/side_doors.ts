/**
 * What a locked account on Linux could still do through somebody else: root's rights, a service that
 * asks other machines for it, a socket that no rule for a uid holds, a connection from before.
 *
 * @module
 */
import type { Answer, Questions } from "../lock/piece.ts";
import type { AccountStatus, Warning } from "../lock/report.ts";
import { type Ask, UnreadableError } from "../sudo.ts";
import { subordinateRanges } from "./accounts.ts";
import { askAll, type Machine, textsIn } from "./machine.ts";
import { filePaths, fileWarnings } from "./side_doors/files.ts";
import {
  FAMILY_ALIASES,
  familyWarnings,
  lentUidsWarnings,
  mptcpWarnings,
} from "./side_doors/kernel.ts";
import type { Locked } from "./side_doors/locked.ts";
import MAY from "./side_doors/may.pl" with { type: "text" };
import { groupWarnings, requestKeyWarnings, sudoWarnings } from "./side_doors/rights.ts";
import { connectionWarnings, proxyWarnings, relayWarnings } from "./side_doors/sockets.ts";

/** Beyond this many, an account is asked about only by name: `sudo -l` takes a while for each. */
const MAX_ACCOUNTS = 20;

const QUESTIONS: Questions = {
  // A line for each socket, and an account may have many.
  sockets: ["timeout", "-s", "KILL", "5", "ss", "-HtunaeS"],
  addresses: ["ip", "-o", "addr", "show"],
  mptcp: ["ip", "mptcp", "endpoint", "show"],
  texts: [
    ...["grep", "-RasH", "--include=*.conf", "--include=mod*", "--include=protocols", ""],
    ...["/proc/net/protocols", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/modules_disabled"],
    ...["/etc/nsswitch.conf", "/etc/request-key.conf", "/etc/request-key.d"],
  ],
  // A name without a module is an error for modprobe, and the usual case; with --quiet it says nothing.
  autoload: ["modprobe", "--all", "--dry-run", "--verbose", "--", ...FAMILY_ALIASES],
  "request-key": ["test", "-x", "/sbin/request-key"],
  nsresourced: ["test", "-S", "/run/systemd/io.systemd.NamespaceResource"],
};

/** The warnings for accounts that anything of a lock is there for. */
export async function sideDoors(
  ask: Ask,
  machine: Machine,
  accounts: readonly AccountStatus[],
  enabling: boolean,
): Promise<Warning[]> {
  try {
    const locked = accounts.flatMap((account) => lockedOf(account, machine) ?? []);
    return await doorWarnings(ask, locked, enabling);
  } catch (error) {
    // What it is made of the accounts may have made long: that is no reason to doubt a lock.
    if (!(error instanceof UnreadableError)) throw error;
    return [{
      reason: "what the accounts could do through somebody else could not be read: " +
        error.message,
      remedy: "run status again",
    }];
  }
}

/** Undefined for an account that was deleted. */
function lockedOf(account: AccountStatus, machine: Machine): Locked | undefined {
  const { name, uid, onlyPorts, backend, pieces } = account;
  const entry = machine.passwd.find((known) => known.name === name && known.uid === uid);
  if (entry === undefined) return undefined;
  const mptcp = pieces.filter((piece) => piece.name.includes("MPTCP"));
  return {
    name,
    uid: entry.uid,
    onlyPorts,
    ranges: subordinateRanges(machine.subuid, entry),
    // With nftables, the table has it or is not there.
    mptcpHeld: mptcp.every(({ present }) => present) &&
      (backend === "nftables" || mptcp.length > 0),
  };
}

/**
 * The same for accounts as they are locked.
 *
 * @param enabling warns of a proxy that does not listen as well
 */
export async function doorWarnings(
  ask: Ask,
  accounts: readonly Locked[],
  enabling = false,
): Promise<Warning[]> {
  if (accounts.length === 0) return [];
  const asked = accounts.slice(0, MAX_ACCOUNTS);
  const answers = await askAll(ask, {
    ...QUESTIONS,
    may: [
      // `sudo -l` asks a directory service, where there is one.
      ...["timeout", "-s", "KILL", "20", "perl", "-e", MAY],
      ...asked.filter(({ name }) => /^[A-Za-z_][\w.-]*\$?$/.test(name))
        .map(({ name }) => `account ${name}`),
      ...asked.flatMap(({ ranges }) => ranges.map(({ first }) => `uid ${first}`)),
      ...filePaths(),
    ],
  });
  const said = (name: string) => answers.get(name)!;
  const text = (name: string) => said(name).exitCode === 0 ? said(name).stdout : "";
  const sockets = said("sockets").exitCode === 0 ? said("sockets").stdout : undefined;
  const texts = textsIn(said("texts"));
  const file = (path: string) => texts.get(path) ?? "";
  const may = said("may");
  const of = (word: string, name: string) =>
    may.stdout.split("\n").filter((line) => line.startsWith(`${word} ${name} `))
      .map((line) => line.slice(`${word} ${name} `.length)).join("\n");
  // Without the first, the kernel asks nobody for a module (proc_sys_kernel(5)); the second forbids it.
  const autoloads = file("/proc/sys/kernel/modprobe").trim() !== "" &&
    file("/proc/sys/kernel/modules_disabled").trim() === "0";
  return [
    ...(enabling && sockets !== undefined ? proxyWarnings(accounts, sockets) : []),
    ...asked.flatMap(({ name }) => [
      ...sudoWarnings(name, of("sudo", name)),
      ...groupWarnings(name, of("id", name)),
    ]),
    ...(may.exitCode === 0 ? fileWarnings(asked, may.stdout) : [couldNotTell(may)]),
    ...(said("sockets").exitCode === 137
      ? [{
        reason: "there are so many sockets that connections from before the lock cannot be told",
        remedy: "see ss -s, and end what holds them",
      }]
      : connectionWarnings(accounts, sockets, text("addresses"))),
    ...familyWarnings(file("/proc/net/protocols"), autoloads ? said("autoload").stdout : ""),
    ...mptcpWarnings(accounts, text("mptcp")),
    ...(said("request-key").exitCode === 0 ? requestKeyWarnings(requestKeyLines(texts)) : []),
    ...lentUidsWarnings(said("nsresourced").exitCode === 0, file("/etc/nsswitch.conf")),
    ...relayWarnings(accounts, sockets ?? ""),
    ...(accounts.length > asked.length
      ? [{
        reason: `only the first ${MAX_ACCOUNTS} accounts were asked about sudo, groups and files`,
        remedy: "name the others with --agent-user",
      }]
      : []),
  ];
}

function couldNotTell({ exitCode, stderr }: Answer): Warning {
  return stderr.includes("perl")
    ? {
      reason: "which sudo rules, groups, sockets and programs lead past the lock cannot be told " +
        "without perl",
      remedy: "install perl",
    }
    : {
      reason: "what the accounts could do through somebody else could not be read " +
        `(exit status ${exitCode})`,
      remedy: "run status again",
    };
}

/** In the order in which request-key(8) reads them. */
function requestKeyLines(texts: ReadonlyMap<string, string>): string {
  const paths = [...texts.keys()].filter((path) => path.startsWith("/etc/request-key.d/")).sort();
  return [...paths, "/etc/request-key.conf"].map((path) => texts.get(path) ?? "").join("");
}

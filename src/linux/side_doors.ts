/**
 * What a locked account on Linux could still do through somebody else: root's rights, a service that
 * asks other machines for it, a socket that no rule for a uid holds, a connection from before.
 */
import type { AccountStatus, Warning } from "../lock/report.ts";
import { type Files, type Root, unreadable } from "../root.ts";
import { subordinateRanges } from "./accounts.ts";
import { SHUTS } from "./iptables_layers.ts";
import type { Machine } from "./machine.ts";
import { filePaths, fileWarnings } from "./side_doors/files.ts";
import * as kernel from "./side_doors/kernel.ts";
import type { Locked } from "./side_doors/locked.ts";
import MAY from "./side_doors/may.pl" with { type: "text" };
import * as rights from "./side_doors/rights.ts";
import { connectionWarnings, proxyWarnings, relayWarnings } from "./side_doors/sockets.ts";
import { SETTINGS, SUDO_NAMES } from "./sudo_names.ts";

/** Beyond this many, an account is asked about only by name: `sudo -l` takes a while for each. */
const MAX_ACCOUNTS = 20;

const REQUEST_KEY = "/sbin/request-key";
const NSRESOURCED = "/run/systemd/io.systemd.NamespaceResource";

/** What is asked of packets' ways out of the kernel, of accounts' names, and of uids. */
const FILES = [
  ...["/proc/net/protocols", "/proc/modules"],
  ...["/proc/sys/kernel/modprobe", "/proc/sys/kernel/modules_disabled"],
  ...["/etc/nsswitch.conf", REQUEST_KEY, "/etc/request-key.conf", "/etc/request-key.d/*.conf"],
  ...[
    NSRESOURCED,
    kernel.QUEUES,
    ...kernel.DEVICE_FILES,
    ...rights.CALLED_FILES,
    rights.DROPBEAR,
    ...rights.FAIL2BAN,
  ],
];

/** The warnings for accounts that anything of a lock is there for. */
export async function sideDoors(
  root: Root,
  machine: Machine,
  accounts: readonly AccountStatus[],
  enabling: boolean,
): Promise<Warning[]> {
  try {
    const locked = accounts.flatMap((account) => lockedOf(account, machine) ?? []);
    return await doorWarnings(root, locked, enabling);
  } catch (error) {
    // What it is made of the accounts may have made long: that is no reason to doubt a lock.
    return [couldNotTell(`: ${unreadable(error)}`)];
  }
}

/** Undefined for an account that was deleted. */
function lockedOf(account: AccountStatus, machine: Machine): Locked | undefined {
  const { name, uid, backend, pieces } = account;
  const entry = machine.passwd.find((known) => known.name === name && known.uid === uid);
  if (entry === undefined) return undefined;
  const mptcp = pieces.filter((piece) => piece.name.includes(SHUTS));
  return {
    ...account,
    uid: entry.uid,
    ranges: subordinateRanges(machine.subuid, entry),
    // With nftables, the table has it or is not there.
    mptcpHeld: mptcp.every(({ present }) => present) &&
      (backend === "nftables" || mptcp.length > 0),
    sudoHeld: pieces.some(({ name, present }) => present && name.startsWith(SUDO_NAMES)),
  };
}

/** The same for accounts as they are locked; an enable is told of a proxy that does not listen, too. */
export async function doorWarnings(
  { ask, look }: Root,
  accounts: readonly Locked[],
  enabling = false,
): Promise<Warning[]> {
  if (accounts.length === 0) return [];
  const asked = accounts.slice(0, MAX_ACCOUNTS);
  const files = await look(FILES);
  const file = (path: string) => files.get(path)?.text ?? "";
  // Without the first, the kernel asks nobody for a module (proc_sys_kernel(5)); the second forbids it.
  const autoloads = file("/proc/sys/kernel/modprobe").trim() !== "" &&
    file("/proc/sys/kernel/modules_disabled").trim() === "0";
  const printed = async (isNeeded: boolean, ...words: readonly string[]) => {
    const answer = isNeeded ? await ask(words) : undefined;
    return answer?.exitCode === 0 ? answer.stdout : "";
  };
  const [socketList, may, modules, endpoints, settings] = await Promise.all([
    // A line for each socket, and an account may have many.
    ask(["ss", "-HtunaeS"], { seconds: 5 }),
    // `sudo -l` asks a directory service, where there is one.
    ask(["perl", "-e", MAY, ...whatMay(asked)], { seconds: 20 }),
    // A name without a module is an error for modprobe, and the usual case; with --quiet it says nothing.
    autoloads
      ? ask(["modprobe", "--all", "--dry-run", "--verbose", "--", ...kernel.FAMILY_ALIASES])
      : undefined,
    printed(accounts.some(({ mptcpHeld }) => !mptcpHeld), "ip", "mptcp", "endpoint", "show"),
    printed(accounts.some(({ sudoHeld }) => !sudoHeld), ...SETTINGS),
  ]);
  const sockets = socketList.exitCode === 0 ? socketList.stdout : undefined;
  // With nothing held, nobody needs to know this machine's own addresses.
  const isHeld = connectionWarnings(accounts, sockets ?? "", "").length > 0;
  const addresses = await printed(isHeld, "ip", "-o", "addr", "show");
  const said = (word: string, name: string) =>
    may.stdout.split("\n").filter((line) => line.startsWith(`${word} ${name} `)).join("\n");
  return [
    ...(sockets === undefined ? [] : proxyWarnings(
      accounts.filter(({ onlyPorts }) => enabling || onlyPorts.length > 0),
      sockets,
    )),
    ...asked.flatMap(({ name }) => [
      ...rights.sudoWarnings(name, said("sudo", name)),
      ...rights.groupWarnings(name, said("id", name)),
    ]),
    ...(may.exitCode === 0
      ? fileWarnings(asked, may.stdout)
      : may.exitCode === 137
      ? [couldNotTell(": sudo took too long", SLOW_SUDO)]
      : [couldNotTell(` (exit status ${may.exitCode})`)]),
    ...(socketList.exitCode === 137
      ? [{
        reason: "there are so many sockets that connections from before the lock cannot be told",
        remedy: "see ss -s, and end what holds them",
      }]
      : connectionWarnings(accounts, sockets, addresses, enabling)),
    ...rights.sudoNameWarnings(accounts, settings),
    ...rights.calledWarnings(accounts, files),
    ...rights.dropbearWarnings(accounts, files),
    ...rights.fail2banWarnings(files),
    ...kernel.familyWarnings(
      `${file("/proc/net/protocols")}\n${file("/proc/modules")}`,
      modules?.stdout ?? "",
    ),
    ...kernel.mptcpWarnings(accounts, endpoints),
    ...kernel.peerWarnings(may.stdout),
    ...kernel.queueWarnings(accounts, file(kernel.QUEUES)),
    ...kernel.deviceWarnings(accounts, files),
    ...kernel.tunnelWarnings(accounts, files),
    ...(files.has(REQUEST_KEY) ? rights.requestKeyWarnings(requestKeyLines(files)) : []),
    ...kernel.lentUidsWarnings(files.get(NSRESOURCED)?.type === "s", file("/etc/nsswitch.conf")),
    ...relayWarnings(accounts, sockets ?? ""),
    ...(accounts.length > asked.length
      ? [{
        reason: `only the first ${MAX_ACCOUNTS} accounts were asked about sudo, groups and files`,
        remedy: "name the others with --agent-user",
      }]
      : []),
  ];
}

const whatMay = (asked: readonly Locked[]): string[] => [
  ...asked.map(({ name }) => name).filter((name) => /^[A-Za-z_][\w.-]*\$?$/.test(name))
    .map((name) => `account ${name}`),
  ...asked.flatMap(({ ranges }) => ranges.map(({ first }) => `uid ${first}`)),
  ...filePaths(),
];

const couldNotTell = (why: string, remedy = "run status again"): Warning => ({
  reason: `what the accounts could do through somebody else could not be read${why}`,
  remedy,
});

/** Where this machine's name is in no hosts(5), each sudo waits for the DNS. */
const SLOW_SUDO = "see whether this machine's name is in /etc/hosts, and run status again";

/** In the order in which request-key(8) reads them. */
function requestKeyLines(files: Files): string {
  const paths = [...files.keys()].filter((path) => path.startsWith("/etc/request-key.d/")).sort();
  return [...paths, "/etc/request-key.conf"].map((path) => files.get(path)?.text ?? "").join("");
}

/**
 * The pieces of `--persist`: the folder, the files, the links that enable the units, and one file for
 * each account; and what is there of them, by the files and by what systemd makes of the units.
 */
import type { Backend } from "../../account.ts";
import { sudo } from "../../line.ts";
import type { Known, Lock, Piece, Questions } from "../../lock/piece.ts";
import type { Files } from "../../root.ts";
import { ownUids } from "../accounts.ts";
import type { Machine } from "../machine.ts";
import lockTable from "../table_fishnet.nft" with { type: "text" };
import loopbackTable from "../table_fishnet_loopback.nft" with { type: "text" };
import afterUnit from "./fishnet-after@.service" with { type: "text" };
import againUnit from "./fishnet-again.service" with { type: "text" };
import besideUnit from "./fishnet-beside@.service" with { type: "text" };
import lockUnit from "./fishnet-lock.service" with { type: "text" };
import watchUnit from "./fishnet-watch.service" with { type: "text" };
import lockScript from "./lock.sh" with { type: "text" };

/** Where the script and the accounts' files are. /etc is there before any other file system is. */
export const FOLDER = "/etc/fishnet-firewall";

/** Makes the folder, or makes it root's alone. */
export const ROOTS_ALONE = sudo("install", "-d", "-o", "root", "-g", "root", "-m", "700", FOLDER);

/** Where an administrator's units are, and those of packages (systemd.unit(5)). */
export const UNITS = "/etc/systemd/system";
export const PACKAGED_UNITS = "/usr/lib/systemd/system";

/** What locks at boot, and after what flushes then. */
export const LOCK = "fishnet-lock.service";
export const AGAIN = "fishnet-again.service";

/** What puts back what other firewalls flush, for a while. */
export const WATCH = "fishnet-watch.service";

/** The services that may flush what is ours, in Debian, Fedora and their kin. */
const OTHERS = ["nftables", "ufw", "firewalld", "netfilter-persistent", "iptables", "ip6tables"];

/** The units that hear of another firewall: before it starts, and before it stops. */
export const besideUnits = (other: string) =>
  ["beside", "after"].map((when) => `fishnet-${when}@${other}.service`);

/** The links that enable the units. */
export const LINKS = [
  ...[LOCK, AGAIN].map((name) => `${UNITS}/sysinit.target.wants/${name}`),
  ...OTHERS.flatMap((other) =>
    besideUnits(other).map((unit) => `${UNITS}/${other}.service.wants/${unit}`)
  ),
];

const SHOWN =
  "Id,ActiveState,LoadState,ConditionResult,ConditionTimestampMonotonic,DropInPaths,After," +
  "IPAddressDeny,IPAddressAllow";

const UNITS_QUESTION = {
  "boot: units": [
    ...["systemctl", "show", "-p", SHOWN],
    ...[LOCK, AGAIN, WATCH],
    ...OTHERS.flatMap((other) => [other, ...besideUnits(other)]),
    // Whose addresses --sessions sets.
    "user-*.slice",
  ],
};

/** What systemd makes of the units, where any file says that a lock outlasts a reboot, or is to. */
export function bootQuestions({ files, asked }: Known): Questions {
  const isOurs = (path: string) =>
    path.startsWith(FOLDER) || /\/fishnet-[^/]*\.(service|rules)$/.test(path);
  return asked.persist || [...files.keys()].some(isOurs) ? UNITS_QUESTION : {};
}

/** A folder that is there where systemd runs the system (sd_booted(3)). */
export const BOOTED = "/run/systemd/system";

/** Where our files are. */
export const FILES: readonly string[] = [
  BOOTED,
  FOLDER,
  `${FOLDER}/*`,
  ...[UNITS, `${UNITS}/*.wants`, PACKAGED_UNITS].map((folder) => `${folder}/fishnet-*.service`),
];

/** What is there. */
export type BootState = ReturnType<typeof readBoot>;

/** Reads what was seen and answered; without a machine, nothing is there. */
export function readBoot(machine: Pick<Machine, "answers" | "files"> | undefined) {
  const files: Files = machine?.files ?? new Map();
  const { exitCode = 0, stdout = "", stderr = "" } = machine?.answers.get("boot: units") ?? {};
  const units = new Map(
    stdout.split("\n\n").map((block) => {
      const lines = [...block.matchAll(/^(\w+)=(.*)$/gm)];
      const properties = new Map(lines.map(([, name, value]) => [name!, value!]));
      return [properties.get("Id"), properties];
    }),
  );
  /** What systemd says of a unit; undefined for one that it does not know. */
  const says = (unit: string, property: string) => units.get(unit)?.get(property);
  const ofOther = (other: string, property: string) => says(`${other}.service`, property) ?? "";
  /** What flushes at boot comes so late that waiting for it would be an ordering cycle. */
  const othersAreLate = ["nftables", "netfilter-persistent"].some((other) =>
    /\b(sysinit|basic)\.target\b/.test(ofOther(other, "After"))
  );
  return {
    files,
    says,
    /** Why it is not known what systemd says, where it runs the system. */
    silence: exitCode !== 0 && files.has(BOOTED)
      ? stderr.trim().split("\n").at(-1) || `exit status ${exitCode}`
      : undefined,
    /** Those of {@link OTHERS} that run. */
    othersActive: OTHERS.filter((other) => ofOther(other, "ActiveState") === "active"),
    othersAreLate,
    links: LINKS.filter((link) => !(othersAreLate && link.endsWith(AGAIN))),
  };
}

/** A file: of one account, or shared by all. */
export interface FilePiece extends Piece {
  readonly path: string;
  /** With its last newline. */
  readonly text: string;
}

/** The folder. */
export const FOLDER_PIECE = {
  is: `at boot: folder ${FOLDER}`,
  why: "what the lock at boot is made of; root alone may look",
};

/** All links at once. */
export const LINKS_PIECE = {
  is: "at boot: the units are enabled",
  why: "systemd starts them at boot, and with other firewalls",
};

/** @param needed what the name of an account's piece says where that account needs the file */
function sharedFile(folder: string, name: string, text: string, why: string, needed = /^/) {
  const path = `${folder}/${name}`;
  const unit = folder === UNITS ? name : "";
  const serves = (piece: Piece) => needed.test(piece.is);
  return { is: `at boot: ${unit || path}`, why, path, text, unit, serves };
}

const inFolder = sharedFile.bind(undefined, FOLDER);
const unit = sharedFile.bind(undefined, UNITS);

/** The script and the units, in the order in which they are written. */
export const SHARED_FILES = [
  inFolder(
    "lock.sh",
    lockScript,
    "puts the lock of every account in force that has a file beside it",
  ),
  inFolder("fishnet.nft", lockTable, "the table of the locks, as it is now", /backend nftables/),
  inFolder(
    "fishnet_loopback.nft",
    loopbackTable,
    "the table of the ports, as it is now",
    /backend nftables, ports \d/,
  ),
  unit("fishnet-lock.service", lockUnit, "locks at boot, before anything runs for an account"),
  unit("fishnet-again.service", againUnit, "the same after what flushes the rules at boot"),
  unit("fishnet-beside@.service", besideUnit, "keeps them locked while another firewall starts"),
  unit("fishnet-after@.service", afterUnit, "keeps them locked while another firewall stops"),
  unit("fishnet-watch.service", watchUnit, "puts back what another firewall flushes"),
];

/** What accounts share, in the order in which it is made. */
export const SHARED: readonly Piece[] = [FOLDER_PIECE, ...SHARED_FILES, LINKS_PIECE];

/** The piece tells all that the file says, so that a lock with other options is another piece. */
export function accountPiece(lock: Omit<Lock, "log" | "persist">): FilePiece {
  const { name, uid = `$(id -u ${name})`, backend, onlyPorts, sessions } = lock;
  const text = `name=${name}\nbackend=${backend}\nports=${onlyPorts.join(" ")}\n` +
    (sessions ? "sessions=yes\n" : "");
  return {
    is: `at boot: ${text.trim().split("\n").slice(1).join(", ").replaceAll("=", " ")}`.trimEnd(),
    why: "what its lock at boot is like, with its uid, since no name may be known yet",
    uids: ownUids(lock),
    owner: name,
    path: `${FOLDER}/${uid}.account`,
    text,
  };
}

type BootFile = Pick<Lock, "name" | "backend" | "onlyPorts" | "sessions">;

/** The accounts' files, with what each says: undefined where it is not as {@link accountPiece} has it. */
export const accountFiles = (files: Files) =>
  [...files].flatMap(([path, { text }]) => {
    const [, uid] = ACCOUNT_PATH.exec(path) ?? [];
    return uid === undefined ? [] : [{ path, uid: Number(uid), text, said: parseBootFile(text) }];
  });

const ACCOUNT_PATH = new RegExp(`^${FOLDER}/(\\d{1,10})\\.account$`);
const ACCOUNT =
  /^name=([\w-]+)\nbackend=(iptables|nftables)\nports=((?:\d{1,5}(?: \d{1,5})*)?)\n(sessions=yes\n)?$/;

function parseBootFile(text: string): BootFile | undefined {
  const [whole, name = "", backend, ports = "", sessions] = ACCOUNT.exec(text) ?? [];
  if (whole === undefined) return undefined;
  const onlyPorts = ports === "" ? [] : ports.split(" ").map(Number);
  return { name, backend: backend as Backend, onlyPorts, sessions: sessions !== undefined };
}

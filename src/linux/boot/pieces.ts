/**
 * The pieces of `--persist`: the folder, the files, the links, and one file for each account; which are
 * there, and what would keep each from locking at the next boot.
 *
 * @module
 */
import { sudo } from "../../line.ts";
import type { Found, Lock, Piece } from "../../lock/piece.ts";
import { single } from "../../lock/uid_range.ts";
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
import {
  accountFiles,
  type BootState,
  FOLDER,
  PACKAGED_UNITS,
  printBootFile,
  readBoot,
  ROOTS_ALONE,
  UNITS,
} from "./read_boot.ts";

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

type SharedFile = ReturnType<typeof sharedFile>;

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
const SHARED_FILES = [
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
  const { name, uid = `$(id -u ${name})` } = lock;
  const text = printBootFile(lock);
  return {
    is: `at boot: ${text.trim().split("\n").slice(1).join(", ").replaceAll("=", " ")}`.trimEnd(),
    why: "what its lock at boot is like, with its uid, since no name may be known yet",
    uids: ownUids(lock),
    owner: name,
    path: `${FOLDER}/${uid}.account`,
    text,
  };
}

/** All that is there, of every account. */
export function foundAtBoot(machine: Machine): Found[] {
  const state = readBoot(machine);
  return [
    ...folderFound(state),
    ...filesFound(state),
    ...linksFound(state),
    ...accountsFound(state),
  ];
}

function folderFound({ files }: BootState): Found[] {
  const place = files.get(FOLDER);
  if (place === undefined) return [];
  const isSound = place.type === "d" && place.mode === "700" && place.uid === 0;
  const fault = { fault: `${FOLDER} is not root's alone`, mend: ROOTS_ALONE };
  return [{ ...FOLDER_PIECE, ...(!isSound && fault) }];
}

/** A file of an administrator's hides a package's of the same name, which stays. */
function filesFound(state: BootState): Found[] {
  return SHARED_FILES.flatMap((file) => {
    const own = state.files.get(file.path);
    const place = own ?? state.files.get(`${PACKAGED_UNITS}/${file.unit}`);
    if (place === undefined) return [];
    return [{ ...file, ...(own === undefined && FOREIGN), ...faultOf(file, place.text, state) }];
  });
}

const FOREIGN = { foreign: true } as const;

function faultOf(
  { path, text, unit }: SharedFile,
  there: string,
  { files, says }: BootState,
): Pick<Found, "fault" | "mend"> {
  const name = unit.replace("@.", "@nftables.");
  const isMasked = unit !== "" && files.get(path)?.target === "/dev/null";
  if (isMasked || says(name, "LoadState") === "masked") {
    const mend = isMasked
      ? sudo("systemctl", "unmask", unit)
      : sudo("systemctl", "unmask", "--runtime", name);
    return { fault: `${unit} is masked`, mend };
  }
  if (there !== text) return { fault: `${path} was changed` };
  // Those for all services (service.d) are the distribution's.
  const dropIn = says(name, "DropInPaths")?.split(" ").find((one) => one.includes("/fishnet-"));
  if (dropIn !== undefined) {
    return {
      fault: `${unit} is changed by ${dropIn}`,
      mend: `${sudo("rm", dropIn)} && ${sudo("systemctl", "daemon-reload")}`,
    };
  }
  const wasAsked = (says(name, "ConditionTimestampMonotonic") ?? "0") !== "0";
  return wasAsked && says(name, "ConditionResult") === "no"
    ? { fault: `a condition of ${unit} was not met` }
    : {};
}

function linksFound({ files, links, silence }: BootState): Found[] {
  const missing = links.filter((link) => files.get(link)?.type !== "l");
  if (missing.length === links.length) return [];
  const fault = missing.length > 0
    ? `missing: ${missing.join(", ")}`
    : silence && `systemctl does not say what becomes of the units: ${silence}`;
  return [{ ...LINKS_PIECE, ...(fault && { fault }) }];
}

function accountsFound({ files }: BootState): Found[] {
  return accountFiles(files).map(({ path, uid, text, said }) => {
    const account = said ?? { ...UNREADABLE, name: /^name=([\w-]+)$/m.exec(text)?.[1] ?? "" };
    const { backend, onlyPorts, sessions } = account;
    return {
      ...accountPiece({ ...account, uid }),
      uids: single(uid),
      text,
      says: { persist: true, backend, onlyPorts, ...(sessions && { sessions }) },
      ...(said === undefined && { fault: `${path} was changed` }),
    };
  });
}

const UNREADABLE = { backend: "iptables", onlyPorts: [], sessions: false } as const;

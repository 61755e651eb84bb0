/**
 * The pieces of `--persist`: the folder, the files, the links, and one file for each account.
 *
 * @module
 */
import type { Lock, Piece } from "../../lock/piece.ts";
import { ownUids } from "../accounts.ts";
import lockTable from "../table_fishnet.nft" with { type: "text" };
import loopbackTable from "../table_fishnet_loopback.nft" with { type: "text" };
import afterUnit from "./fishnet-after@.service" with { type: "text" };
import againUnit from "./fishnet-again.service" with { type: "text" };
import besideUnit from "./fishnet-beside@.service" with { type: "text" };
import lockUnit from "./fishnet-lock.service" with { type: "text" };
import watchUnit from "./fishnet-watch.service" with { type: "text" };
import lockScript from "./lock.sh" with { type: "text" };
import { AGAIN, type BootState, FOLDER, LINKS, printBootFile, UNITS } from "./read_boot.ts";

/** One of the pieces, with what it takes to make it. */
export type BootPiece = SharedPiece | FilePiece;
type SharedPiece = (FilePiece | (Piece & { readonly part: "folder" | "links" })) & Shared;

/** A file: of one account, or shared by all. */
interface FilePiece extends Piece {
  readonly part: "file";
  readonly path: string;
  /** With its last newline. */
  readonly text: string;
  /** The unit's name, where it is one. */
  readonly unit?: string;
}
/** A file that all accounts share. */
export type SharedFile = FilePiece & Shared;
interface Shared {
  readonly uids?: never;
}

/** The folder. */
export const FOLDER_PIECE: SharedPiece = {
  part: "folder",
  is: `at boot: folder ${FOLDER}`,
  why: "what the lock at boot is made of; root alone may look",
};

/** @param needed what the name of an account's piece says where that account needs the file */
function inFolder(name: string, text: string, why: string, needed = /^/): SharedFile {
  const path = `${FOLDER}/${name}`;
  return {
    part: "file",
    is: `at boot: ${path}`,
    why,
    path,
    text,
    serves: ({ is }) => needed.test(is),
  };
}

function unit(name: string, text: string, why: string): SharedFile {
  return { part: "file", is: `at boot: ${name}`, why, path: `${UNITS}/${name}`, text, unit: name };
}

/** The script and the units, in the order in which they are written. */
export const SHARED_FILES: readonly SharedFile[] = [
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

/** All links at once. */
export const LINKS_PIECE: SharedPiece = {
  part: "links",
  is: "at boot: the units are enabled",
  why: "systemd starts them at boot, and with other firewalls",
};

/** What accounts share, in the order in which it is made. */
export const SHARED: readonly SharedPiece[] = [FOLDER_PIECE, ...SHARED_FILES, LINKS_PIECE];

/** The piece tells all that the file says, so that a lock with other options is another piece. */
export function accountPiece({ name, uid, ...options }: Omit<Lock, "ranges">): FilePiece {
  const text = printBootFile({ name, ...options });
  return {
    part: "file",
    is: `at boot: ${text.trim().split("\n").slice(1).join(", ").replaceAll("=", " ")}`.trimEnd(),
    why: "what its lock at boot is like, with its uid, since no name may be known yet",
    uids: ownUids({ name, uid, ...options } as Lock),
    owner: name,
    path: `${FOLDER}/${uid ?? `$(id -u ${name})`}.account`,
    text,
  };
}

/** Waiting for a firewall that itself waits for sysinit.target would be a cycle. */
export function wantedLinks({ othersAreLate }: BootState): readonly string[] {
  return othersAreLate ? LINKS.filter((link) => !link.endsWith(AGAIN)) : LINKS;
}

/**
 * The pieces of `--persist`: the folder, the files, the links, and one file for each account.
 *
 * @module
 */
import type { Lock, Piece } from "../../lock/piece.ts";
import { ownUids } from "../accounts.ts";
import { SHARED_FILES, type SharedFile } from "./files.ts";
import { AGAIN, type BootState, FOLDER, LINKS, printBootFile } from "./read_boot.ts";

/** One of the pieces, with what it takes to make it. */
export type BootPiece = SharedPiece | AccountPiece;
export type SharedPiece =
  & Piece
  & { readonly uids?: never }
  & ({ readonly part: "folder" | "links" } | { readonly part: "file"; readonly file: SharedFile });
interface AccountPiece extends Piece {
  readonly part: "account";
  readonly path: string;
  readonly text: string;
}

/** The folder. */
export const FOLDER_PIECE: SharedPiece = {
  part: "folder",
  is: `at boot: folder ${FOLDER}`,
  why: "what the lock at boot is made of; root alone may look",
};
/** A file that accounts share. */
export const filePiece = (file: SharedFile): SharedPiece => ({
  part: "file",
  is: `at boot: ${file.unit ?? file.path}`,
  why: file.why,
  file,
  ...(file.needed === undefined ? {} : { serves: ({ is }: Piece) => file.needed!.test(is) }),
});
/** All links at once. */
export const LINKS_PIECE: SharedPiece = {
  part: "links",
  is: "at boot: the units are enabled",
  why: "systemd starts them at boot, and with other firewalls",
};
/** What accounts share, in the order in which it is made. */
export const SHARED: readonly SharedPiece[] = [
  FOLDER_PIECE,
  ...SHARED_FILES.map(filePiece),
  LINKS_PIECE,
];

/** The piece tells all that the file says, so that a lock with other options is another piece. */
export function accountPiece({ name, uid, ...options }: Omit<Lock, "ranges">): AccountPiece {
  const text = printBootFile({ name, ...options });
  return {
    part: "account",
    is: `at boot: ${text.split("\n").slice(1).join(", ").replaceAll("=", " ")}`.trimEnd(),
    why: "what its lock at boot is like, with its uid, since no name may be known yet",
    uids: ownUids({ name, uid, ...options } as Lock),
    owner: name,
    path: `${FOLDER}/${uid ?? `$(id -u ${name})`}.account`,
    text,
  };
}

/** Whether a piece is of this kind. */
export const isBoot = (piece: Piece): piece is BootPiece => "part" in piece;

/** Waiting for a firewall that itself waits for sysinit.target would be a cycle. */
export function wantedLinks({ othersAreLate }: BootState): readonly string[] {
  return othersAreLate ? LINKS.filter((link) => !link.endsWith(AGAIN)) : LINKS;
}

/**
 * `--persist`: the same lock again at boot, and after another firewall has flushed it. What is there
 * then, for an account with uid 1001:
 *
 *     /etc/fishnet-firewall/               root alone may look (0700)
 *     /etc/fishnet-firewall/lock.sh        puts every account's lock in force
 *     /etc/fishnet-firewall/1001.account   its name, backend and ports
 *     /etc/systemd/system/fishnet-*.service, and the links that enable them
 *
 * The script reads the account's ranges from /etc/subuid when it runs, because a frozen range may
 * belong to somebody else by then, and a new one of the account would be open.
 *
 * @module
 */
import { FishnetError } from "../../errors.ts";
import { sudo } from "../../lock/line.ts";
import type { Found, Kind, Lock, Piece, Step } from "../../lock/piece.ts";
import { ownRange, ownUids } from "../accounts.ts";
import type { Machine } from "../machine.ts";
import { asked, restoring, SHARED_FILES, type SharedFile, writeSteps } from "./files.ts";
import {
  type BootFile,
  type BootState,
  FOLDER,
  LINKS,
  PACKAGED_UNITS,
  parseBootFile,
  printBootFile,
  QUESTIONS,
  readBoot,
  UNIT_NAMES,
} from "./read_boot.ts";

/** One of the pieces, with what it takes to make it. */
type BootPiece = SharedPiece | AccountPiece;
type SharedPiece =
  & Piece
  & { readonly uids?: never }
  & ({ readonly part: "folder" | "links" } | { readonly part: "file"; readonly file: SharedFile });
interface AccountPiece extends Piece {
  readonly part: "account";
  readonly path: string;
  readonly text: string;
}

/** What keeps a lock over a reboot. */
export const boot: Kind<Machine> = {
  goesLast: true,
  questions: QUESTIONS,

  wanted(lock) {
    return lock.persist ? [...SHARED, accountPiece(lock)] : [];
  },

  found(machine) {
    const state = readBoot(machine.answers);
    return [
      ...folderFound(state),
      ...filesFound(state),
      ...linksFound(state),
      ...accountsFound(state),
    ];
  },

  make(pieces, machine) {
    const state = readBoot(machine?.answers);
    const writes = pieces.some((piece) => isBoot(piece) && piece.part === "file");
    const links = hasLinks(pieces);
    const steps = pieces.filter(isBoot).flatMap((piece) => {
      switch (piece.part) {
        case "folder":
          return makeFolder(state);
        case "file":
          return writeShared(piece.file, state);
        case "links":
          return enableSteps(state);
        case "account": {
          const before = state.texts.get(piece.path);
          const back = before === undefined
            ? asked(sudo("rm", "-f", piece.path))
            : restoring(piece.path, before);
          return writeSteps(piece.path, piece.text, piece.why, `${back} && ${RESTART}`);
        }
      }
    });
    const accounts = pieces.some((piece) => isBoot(piece) && piece.part === "account");
    return [
      ...steps,
      // The links bring the units that they are of.
      ...(writes && !links && machine !== undefined ? [RELOAD] : []),
      ...(writes && machine !== undefined || accounts ? [WATCH] : []),
    ];
  },

  unmake(pieces, machine) {
    const state = readBoot(machine?.answers);
    const order = (piece: BootPiece) => SHARED.findIndex(({ is }) => is === piece.is);
    const sorted = pieces.filter(isBoot).toSorted((a, b) =>
      (order(b) < 0 ? SHARED.length : order(b)) - (order(a) < 0 ? SHARED.length : order(a))
    );
    const steps = sorted.flatMap((piece): Step[] => {
      switch (piece.part) {
        case "folder":
          return [{
            line: sudo("rmdir", FOLDER),
            why: "the last lock of this machine that is kept over a reboot is gone",
            undo: [sudo("mkdir", "-p", "-m", "700", FOLDER)],
          }];
        case "file":
          return [
            removeStep(
              piece.file.path,
              piece.why,
              state.texts.get(piece.file.path) ?? piece.file.text,
            ),
            ...(piece.file.unit === SHARED_FILES[1]!.unit ? [RELOAD] : []),
          ];
        case "links":
          return DISABLE;
        case "account":
          return [{
            line: asked(sudo("rm", piece.path)),
            why: "it is not locked at boot any more",
            undo: [`${asked(restoring(piece.path, piece.text))} && ${RESTART}`],
          }];
      }
    });
    return sorted.length > 0 && !hasLinks(pieces) ? [...steps, WATCH] : steps;
  },
};

/**
 * A system that systemd does not run, the inside of a chroot for one, would never see the lock again
 * (sd_booted(3)).
 *
 * @throws {FishnetError} there
 */
export function refusePersist({ answers }: Machine): void {
  if (answers.get("boot: systemd")!.exitCode === 0) return;
  throw new FishnetError("--persist needs systemd, which does not run here: leave it out");
}

const isBoot = (piece: Piece): piece is BootPiece => "part" in piece;

const FOLDER_PIECE: SharedPiece = {
  part: "folder",
  is: `at boot: folder ${FOLDER}`,
  why: "what the lock at boot is made of; root alone may look",
};
const filePiece = (file: SharedFile): SharedPiece => ({
  part: "file",
  is: `at boot: ${file.unit ?? file.path}`,
  why: file.why,
  file,
});
const LINKS_PIECE: SharedPiece = {
  part: "links",
  is: "at boot: the units are enabled",
  why: "systemd starts them at boot, and with other firewalls",
};
const SHARED: readonly SharedPiece[] = [FOLDER_PIECE, ...SHARED_FILES.map(filePiece), LINKS_PIECE];

/** The piece tells all that the file says, so that a lock with other options is another piece. */
function accountPiece({ name, uid, ...options }: Omit<Lock, "ranges">): AccountPiece {
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

function folderFound({ places }: BootState): Found[] {
  const place = places.get(FOLDER);
  if (place?.type !== "d") return [];
  const sound = place.mode === "700" && place.uid === 0;
  return [{
    ...FOLDER_PIECE,
    ...(sound ? {} : { fault: `${FOLDER} is not root's alone`, mend: MEND_FOLDER }),
  }];
}

const MEND_FOLDER = `sudo chown root:root ${FOLDER} && sudo chmod 700 ${FOLDER}`;

/** A file of an administrator's hides a package's of the same name. */
function filesFound(state: BootState): Found[] {
  return SHARED_FILES.flatMap((file) => {
    const own = state.places.get(file.path);
    const packaged = file.unit !== undefined && own === undefined
      ? state.texts.get(`${PACKAGED_UNITS}/${file.unit}`)
      : undefined;
    if (own === undefined && packaged === undefined) return [];
    const fault = faultOf(file, packaged ?? state.texts.get(file.path), state);
    // What is the package's stays; what is not ours there, a file in /etc hides.
    const foreign = packaged === undefined ? {} : { foreign: true as const };
    return [{ ...filePiece(file), ...foreign, ...fault }];
  });
}

function faultOf(
  { path, text, unit }: SharedFile,
  there: string | undefined,
  state: BootState,
): Pick<Found, "fault" | "mend"> {
  const properties = state.units.get(unit ?? "");
  const masked = state.places.get(path)?.target === "/dev/null";
  if (masked || properties?.get("LoadState") === "masked") {
    const runtime = masked ? [] : ["--runtime"];
    return {
      fault: `${unit} is masked`,
      mend: sudo("systemctl", "unmask", ...runtime, unit!),
    };
  }
  if (there !== text) return { fault: `${path} was changed` };
  // Those for all services (service.d) are the distribution's.
  const dropIn = properties?.get("DropInPaths")?.split(" ").find((one) =>
    one.includes("/fishnet-")
  );
  if (dropIn !== undefined) {
    return {
      fault: `${unit} is changed by ${dropIn}`,
      mend: `${sudo("rm", dropIn)} && ${sudo("systemctl", "daemon-reload")}`,
    };
  }
  const asked = (properties?.get("ConditionTimestampMonotonic") ?? "0") !== "0";
  if (asked && properties?.get("ConditionResult") === "no") {
    return { fault: `a condition of ${unit} was not met` };
  }
  return {};
}

function linksFound(state: BootState): Found[] {
  const missing = wantedLinks(state).filter((link) => state.places.get(link)?.type !== "l");
  if (missing.length === LINKS.length) return [];
  return [{
    ...LINKS_PIECE,
    ...(missing.length === 0 ? {} : { fault: `missing: ${missing.join(", ")}` }),
  }];
}

/** Waiting for a firewall that itself waits for sysinit.target would be a cycle. */
function wantedLinks({ othersAreLate }: BootState): readonly string[] {
  return othersAreLate ? LINKS.filter((link) => !link.includes(AGAIN)) : LINKS;
}

const AGAIN = "fishnet-again.service";

function accountsFound({ texts }: BootState): Found[] {
  return [...texts].flatMap(([path, text]) => {
    const uid = new RegExp(`^${FOLDER}/(\\d{1,10})\\.account$`).exec(path)?.[1];
    if (uid === undefined) return [];
    const said = parseBootFile(text);
    const account = said ?? { ...UNREADABLE, name: /^name=([\w-]+)$/m.exec(text)?.[1] ?? "" };
    const { backend, onlyPorts, sessions } = account;
    return [{
      ...accountPiece({ ...account, uid: Number(uid), persist: true, log: false }),
      uids: ownRange(Number(uid)),
      text,
      says: { persist: true, backend, onlyPorts, ...(sessions ? { sessions } : {}) },
      ...(said === undefined ? { fault: `${path} was changed` } : {}),
    }];
  });
}

const UNREADABLE: Omit<BootFile, "name"> = { backend: "iptables", onlyPorts: [], sessions: false };

function makeFolder({ places }: BootState): Step[] {
  const place = places.get(FOLDER);
  if (place?.type === "d") {
    const back = `${sudo("chmod", place.mode, FOLDER)} && ${sudo("chown", `${place.uid}`, FOLDER)}`;
    return [
      { line: sudo("chown", "root:root", FOLDER), why: FOLDER_PIECE.why, undo: [back] },
      { line: sudo("chmod", "700", FOLDER), why: FOLDER_PIECE.why, undo: [back] },
    ];
  }
  return [{
    line: sudo("mkdir", "-p", "-m", "700", FOLDER),
    why: FOLDER_PIECE.why,
    undo: [sudo("rmdir", FOLDER)],
    counts: { is: FOLDER_PIECE.is },
  }];
}

function writeShared({ path, text, why }: SharedFile, { places, texts }: BootState): Step[] {
  const place = places.get(path);
  const back = place === undefined
    ? undefined
    : place.type === "l"
    ? sudo("ln", "-sfT", place.target, path)
    : restoring(path, texts.get(path) ?? "");
  return writeSteps(path, text.trimEnd(), why, back);
}

function removeStep(path: string, why: string, text: string): Step {
  return { line: asked(sudo("rm", path)), why, undo: [asked(restoring(path, text))] };
}

const RELOAD: Step = {
  line: sudo("systemctl", "daemon-reload"),
  why: "systemd reads its units again",
  undo: [sudo("systemctl", "daemon-reload")],
};

const ENABLE = sudo("systemctl", "enable", ...UNIT_NAMES);
const RESTART = sudo("systemctl", "restart", "fishnet-watch.service");
const STOP = sudo("systemctl", "stop", ...UNIT_NAMES);

/** It reads the accounts' files when it starts. It does not wait for the end of this run, it says that it is ready. */
const WATCH: Step = {
  line: RESTART,
  why: "put back what other firewalls flush, of these accounts, from now on",
  undo: [""],
};

const hasLinks = (pieces: readonly Piece[]) =>
  pieces.some((piece) => isBoot(piece) && piece.part === "links");

function enableSteps(state: BootState): Step[] {
  const links = wantedLinks(state);
  const missing = links.filter((link) => !state.places.has(link));
  const names = links.map((link) => link.slice(link.lastIndexOf("/") + 1));
  const isNew = missing.length === links.length;
  return [{
    line: sudo("systemctl", "enable", ...names),
    why: LINKS_PIECE.why,
    undo: [isNew ? `${STOP} && ${DISABLE[1]!.line}` : sudo("rm", "-f", ...missing)],
  }];
}

const DISABLE: readonly Step[] & Step[] = [
  { line: STOP, why: "what still puts it back", undo: [RESTART] },
  {
    line: sudo("systemctl", "disable", ...UNIT_NAMES),
    why: "systemd no longer starts the units",
    undo: [ENABLE],
  },
];

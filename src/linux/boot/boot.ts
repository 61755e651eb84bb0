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
import { removeFile, restoreFile, writeFile } from "../../lock/file.ts";
import { sudo } from "../../line.ts";
import type { Kind, Piece, Step } from "../../lock/piece.ts";
import type { Machine } from "../machine.ts";
import {
  accountPiece,
  type FilePiece,
  FOLDER_PIECE,
  foundAtBoot,
  LINKS_PIECE,
  SHARED,
} from "./pieces.ts";
import {
  AGAIN,
  besideUnits,
  bootQuestions,
  type BootState,
  FILES,
  FOLDER,
  LOCK,
  readBoot,
  ROOTS_ALONE,
  UNITS,
  WATCH,
} from "./read_boot.ts";

/** What keeps a lock over a reboot. */
export const boot: Kind<Machine> = {
  goesLast: true,
  questions: bootQuestions,
  files: FILES,

  wanted(lock) {
    if (!lock.persist) return [];
    const own = accountPiece(lock);
    return [...SHARED.filter(({ serves }) => serves?.(own) ?? true), own];
  },

  found: foundAtBoot,

  make(pieces, machine) {
    const state = readBoot(machine);
    const writes = pieces.some((piece) => isFile(piece) && piece.uids === undefined);
    const start = pieces.some(isLinks)
      ? startSteps(state, STOP)
      : [...(writes ? [RELOAD] : []), ...renewSteps(state, writes)];
    return [...pieces.flatMap((piece) => makeSteps(piece, state)), SYNC, ...start];
  },

  unmake(pieces, machine) {
    const state = readBoot(machine);
    const shared = SHARED.filter(({ is }) => pieces.some((piece) => piece.is === is)).toReversed();
    const steps = [...pieces.filter(({ uids }) => uids !== undefined), ...shared]
      .flatMap((piece) => unmakeSteps(piece, state));
    return shared.some(isLinks) || steps.length === 0 ? steps : [...steps, ...renewSteps(state)];
  },
};

const isFile = (piece: Piece): piece is FilePiece => "path" in piece;
const isLinks = ({ is }: Piece) => is === LINKS_PIECE.is;

function makeSteps(piece: Piece, state: BootState): Step[] {
  if (!isFile(piece)) return [isLinks(piece) ? enableStep(state) : folderStep(state)];
  const { path, text, why } = piece;
  const place = state.files.get(path);
  const back = place?.type === "l"
    ? sudo("ln", "-sfT", place.target, path)
    : restoreFile(path, place?.text);
  return writeFile(path, text.trimEnd(), why, back);
}

function unmakeSteps(piece: Piece, state: BootState): Step[] {
  if (isLinks(piece)) return disableSteps(state);
  if (!isFile(piece)) {
    const why = "the last lock of this machine that is kept over a reboot is gone";
    return [{ line: sudo("rmdir", FOLDER), why, undo: [ROOTS_ALONE] }];
  }
  const { path, text, uids } = piece;
  const why = uids === undefined ? piece.why : "it is not locked at boot any more";
  const step = removeFile(path, state.files.get(path)?.text ?? text, why);
  return path === `${UNITS}/${LOCK}` ? [step, RELOAD] : [step];
}

function folderStep({ files }: BootState): Step {
  const place = files.get(FOLDER);
  const back = place?.type === "d"
    ? `${sudo("chmod", place.mode, FOLDER)} && ${sudo("chown", `${place.uid}`, FOLDER)}`
    : sudo("rmdir", FOLDER);
  return { line: ROOTS_ALONE, why: FOLDER_PIECE.why, undo: [back] };
}

const RELOAD: Step = {
  line: sudo("systemctl", "daemon-reload"),
  why: "systemd reads its units again",
  undo: [sudo("systemctl", "daemon-reload")],
};

/** A name that was changed is in its folder, not in the file. */
const SYNC: Step = {
  line: sudo("sync", FOLDER, UNITS, `${UNITS}/sysinit.target.wants`),
  why: "so that a power cut leaves the names there, too",
  undo: [""],
};

const ENABLE = sudo("systemctl", "enable", LOCK, AGAIN);
const DISABLE = sudo("systemctl", "disable", LOCK, AGAIN);
const STOP = sudo("systemctl", "stop", "--no-block", "fishnet-*.service");

/** Not waited for: they wait themselves until this run has committed. */
const startLines = ({ othersActive }: BootState): string[] =>
  [[WATCH], ...othersActive.map(besideUnits)].map((units) =>
    sudo("systemctl", "restart", "--no-block", ...units)
  );

const startSteps = (state: BootState, undo: string): Step[] =>
  startLines(state).map((line) => ({
    line,
    why: "look after the firewalls that run already, from now on",
    undo: [undo],
  }));

/** What holds the accounts is waited for: it goes on until then. */
const stopStep = (state: BootState, ...more: readonly string[]): Step => ({
  line: [sudo("systemctl", "stop", WATCH), ...more].join(" && "),
  why: "end what holds the accounts while another firewall starts or stops",
  undo: [startLines(state).join(" && "), ...more.map(() => "")],
});

/** What holds the accounts as they were is to hold them as they are. */
function renewSteps(state: BootState, always = false): Step[] {
  const isActive = (state.says(WATCH, "ActiveState") ?? "inactive") !== "inactive";
  return isActive || always ? [stopStep(state), ...startSteps(state, "")] : [];
}

/** The unit of the lock names those beside it, which are enabled with it. */
function enableStep({ files, links, othersAreLate }: BootState): Step {
  const missing = links.filter((link) => !files.has(link));
  return {
    line: othersAreLate ? sudo("systemctl", "enable", LOCK) : ENABLE,
    why: LINKS_PIECE.why,
    undo: [missing.length === links.length ? DISABLE : sudo("rm", "-f", ...missing)],
  };
}

const disableSteps = (state: BootState): Step[] => [
  { line: DISABLE, why: "systemd no longer starts the units", undo: [ENABLE] },
  // Waited for as well: what it runs at its end has to be over when its file goes, or systemd lists it
  // as failed. By now no account is left, so that starts nothing.
  stopStep(state, sudo("systemctl", "stop", "fishnet-after@*.service"), STOP),
];

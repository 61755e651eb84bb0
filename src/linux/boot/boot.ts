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
import type { Kind, Step } from "../../lock/piece.ts";
import type { Machine } from "../machine.ts";
import { restoreFile } from "../../lock/file.ts";
import { asked, type SharedFile, writeSteps } from "./files.ts";
import { foundAtBoot } from "./found.ts";
import {
  accountPiece,
  type BootPiece,
  FOLDER_PIECE,
  isBoot,
  LINKS_PIECE,
  SHARED,
  wantedLinks,
} from "./pieces.ts";
import {
  AGAIN,
  besideUnits,
  type BootState,
  FILES,
  FOLDER,
  LOCK,
  QUESTIONS,
  readBoot,
  UNITS,
  WATCH,
} from "./read_boot.ts";

/** What keeps a lock over a reboot. */
export const boot: Kind<Machine> = {
  goesLast: true,
  questions: QUESTIONS,
  files: FILES,

  wanted(lock) {
    if (!lock.persist) return [];
    const own = accountPiece(lock);
    return [...SHARED.filter(({ serves }) => serves?.(own) ?? true), own];
  },

  found: foundAtBoot,

  make(pieces, machine) {
    const state = readBoot(machine);
    const writes = pieces.some((piece) => isBoot(piece) && piece.part === "file");
    const links = pieces.some((piece) => isBoot(piece) && piece.part === "links");
    const steps = pieces.filter(isBoot).flatMap((piece) => {
      switch (piece.part) {
        case "folder":
          return makeFolder(state);
        case "file":
          return writeShared(piece.file, state);
        case "links":
          return [enableStep(state)];
        case "account": {
          const before = state.texts.get(piece.path);
          const back = before === undefined ? [] : [restoreFile(piece.path, before)] as const;
          return writeSteps(piece.path, piece.text, piece.why, ...back);
        }
      }
    });
    if (steps.length === 0) return [];
    const start = links
      ? startSteps(state, STOP)
      : [...(writes ? [RELOAD] : []), ...renewSteps(state, writes)];
    return [...steps, SYNC, ...start];
  },

  unmake(pieces, machine) {
    const state = readBoot(machine);
    const order = (piece: BootPiece) => SHARED.findIndex(({ is }) => is === piece.is);
    const sorted = pieces.filter(isBoot).toSorted((a, b) =>
      (order(b) < 0 ? SHARED.length : order(b)) - (order(a) < 0 ? SHARED.length : order(a))
    );
    const links = sorted.some(({ part }) => part === "links");
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
            ...(piece.file.unit === LOCK ? [RELOAD] : []),
          ];
        case "links":
          return disableSteps(state);
        case "account":
          return [removeStep(piece.path, "it is not locked at boot any more", piece.text)];
      }
    });
    return links || steps.length === 0 ? steps : [...steps, ...renewSteps(state)];
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
  }];
}

function writeShared({ path, text, why }: SharedFile, { places, texts }: BootState): Step[] {
  const place = places.get(path);
  const back = place === undefined
    ? undefined
    : place.type === "l"
    ? sudo("ln", "-sfT", place.target, path)
    : restoreFile(path, texts.get(path) ?? "");
  return writeSteps(path, text.trimEnd(), why, back);
}

function removeStep(path: string, why: string, text: string): Step {
  return { line: asked(sudo("rm", path)), why, undo: [asked(restoreFile(path, text))] };
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

/** Not waited for: they wait themselves until this run ends. */
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

/** Waited for: what it holds, it holds until then. */
const stopWatch = (state: BootState): Step => ({
  line: sudo("systemctl", "stop", WATCH),
  why: "end what holds the accounts while another firewall starts or stops",
  undo: [startLines(state).join(" && ")],
});

/** What holds the accounts as they were is to hold them as they are. */
function renewSteps(state: BootState, always = false): Step[] {
  const active = state.units.get(WATCH)?.get("ActiveState") ?? "inactive";
  return active === "inactive" && !always ? [] : [stopWatch(state), ...startSteps(state, "")];
}

/** The unit of the lock names those beside it, which are enabled with it. */
function enableStep(state: BootState): Step {
  const links = wantedLinks(state);
  const missing = links.filter((link) => !state.places.has(link));
  return {
    line: state.othersAreLate ? sudo("systemctl", "enable", LOCK) : ENABLE,
    why: LINKS_PIECE.why,
    undo: [missing.length === links.length ? DISABLE : sudo("rm", "-f", ...missing)],
  };
}

const disableSteps = (state: BootState): Step[] => [
  { line: DISABLE, why: "systemd no longer starts the units", undo: [ENABLE] },
  stopWatch(state),
  {
    line: STOP,
    why: "what still looks after other firewalls",
    undo: [startLines(state).join(" && ")],
  },
];

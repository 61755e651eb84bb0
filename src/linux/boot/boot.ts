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
 */
import { removeFile, writeFile } from "../../lock/file.ts";
import { sudo } from "../../line.ts";
import type { Found, Kind, Piece, Step } from "../../lock/piece.ts";
import { single } from "../../lock/uid_range.ts";
import type { Machine } from "../machine.ts";
import {
  accountFiles,
  accountPiece,
  AGAIN,
  besideUnits,
  bootQuestions,
  type BootState,
  type FilePiece,
  FILES,
  FOLDER,
  FOLDER_PIECE,
  LINKS,
  LINKS_PIECE,
  LOCK,
  PACKAGED_UNITS,
  readBoot,
  ROOTS_ALONE,
  SHARED,
  SHARED_FILES,
  UNITS,
  WATCH,
} from "./pieces.ts";

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

  found(machine) {
    const state = readBoot(machine);
    return [folderFound, filesFound, linksFound, accountsFound].flatMap((find) => find(state));
  },

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
  { path, text, unit }: typeof SHARED_FILES[number],
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
  const wasAsked = says(name, "ConditionTimestampMonotonic") !== "0";
  return wasAsked && says(name, "ConditionResult") === "no"
    ? { fault: `a condition of ${unit} was not met` }
    : {};
}

function linksFound({ files, links, silence }: BootState): Found[] {
  const isThere = (link: string) => files.get(link)?.type === "l";
  if (!LINKS.some(isThere)) return [];
  const missing = links.filter((link) => !isThere(link));
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
      says: { persist: true, backend, onlyPorts, ...(sessions && { sessions }) },
      ...(said === undefined && { fault: `${path} was changed` }),
    };
  });
}

const UNREADABLE = { backend: "iptables", onlyPorts: [], sessions: false } as const;

const isFile = (piece: Piece): piece is FilePiece => "path" in piece;
const isLinks = ({ is }: Piece) => is === LINKS_PIECE.is;

function makeSteps(piece: Piece, { files, links, othersAreLate }: BootState): Step[] {
  const { why } = piece;
  if (isLinks(piece)) {
    const missing = links.filter((link) => !files.has(link));
    const back = missing.length === links.length ? DISABLE : sudo("rm", "-f", ...missing);
    // The unit of the lock names those beside it, which are enabled with it.
    const line = othersAreLate ? sudo("systemctl", "enable", LOCK) : ENABLE;
    return [{ line, why, undo: [back] }];
  }
  if (!isFile(piece)) {
    const place = files.get(FOLDER);
    const back = place?.type === "d"
      ? `${sudo("chmod", place.mode, FOLDER)} && ${sudo("chown", `${place.uid}`, FOLDER)}`
      : sudo("rmdir", FOLDER);
    return [{ line: ROOTS_ALONE, why, undo: [back] }];
  }
  const { path, text } = piece;
  const place = files.get(path);
  const link = place?.type === "l" ? { back: sudo("ln", "-sfT", place.target, path) } : {};
  return writeFile(path, text.trimEnd(), why, place?.text, link);
}

function unmakeSteps(piece: Piece, state: BootState): Step[] {
  if (isLinks(piece)) {
    return [
      { line: DISABLE, why: "systemd no longer starts the units", undo: [ENABLE] },
      // Waited for as well: what it runs at its end has to be over when its file goes, or systemd lists
      // it as failed. By now no account is left, so that starts nothing.
      stopStep(state, sudo("systemctl", "stop", "fishnet-after@*.service"), STOP),
    ];
  }
  if (!isFile(piece)) {
    const why = "the last lock of this machine that is kept over a reboot is gone";
    return [{ line: sudo("rmdir", FOLDER), why, undo: [ROOTS_ALONE] }];
  }
  const { path, text, uids } = piece;
  const why = uids === undefined ? piece.why : "it is not locked at boot any more";
  const step = removeFile(path, state.files.get(path)?.text ?? text, why);
  return path === `${UNITS}/${LOCK}` ? [step, RELOAD] : [step];
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

/**
 * Which pieces of `--persist` are there, and what would keep each from locking at the next boot.
 *
 * @module
 */
import { sudo } from "../../line.ts";
import type { Found } from "../../lock/piece.ts";
import { single } from "../../lock/uid_range.ts";
import type { Machine } from "../machine.ts";
import {
  accountPiece,
  FOLDER_PIECE,
  LINKS_PIECE,
  SHARED_FILES,
  type SharedFile,
  wantedLinks,
} from "./pieces.ts";
import {
  type BootState,
  FOLDER,
  LINKS,
  PACKAGED_UNITS,
  parseBootFile,
  readBoot,
  ROOTS_ALONE,
} from "./read_boot.ts";

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
  const sound = place.type === "d" && place.mode === "700" && place.uid === 0;
  return [{
    ...FOLDER_PIECE,
    ...(sound ? {} : { fault: `${FOLDER} is not root's alone`, mend: ROOTS_ALONE }),
  }];
}

/** A file of an administrator's hides a package's of the same name. */
function filesFound(state: BootState): Found[] {
  return SHARED_FILES.flatMap((file) => {
    const own = state.files.get(file.path);
    const packaged = file.unit !== undefined && own === undefined
      ? state.files.get(`${PACKAGED_UNITS}/${file.unit}`)
      : undefined;
    if (own === undefined && packaged === undefined) return [];
    const fault = faultOf(file, (packaged ?? own)?.text, state);
    // What is the package's stays; what is not ours there, a file in /etc hides.
    const foreign = packaged === undefined ? {} : { foreign: true as const };
    return [{ ...file, ...foreign, ...fault }];
  });
}

function faultOf(
  { path, text, unit }: SharedFile,
  there: string | undefined,
  state: BootState,
): Pick<Found, "fault" | "mend"> {
  const name = unit?.replace("@.", "@nftables.") ?? "";
  const properties = state.units.get(name);
  const masked = state.files.get(path)?.target === "/dev/null";
  if (masked || properties?.get("LoadState") === "masked") {
    const runtime = masked ? [] : ["--runtime"];
    return {
      fault: `${unit} is masked`,
      mend: sudo("systemctl", "unmask", ...runtime, masked ? unit! : name),
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
  const missing = wantedLinks(state).filter((link) => state.files.get(link)?.type !== "l");
  if (missing.length === LINKS.length) return [];
  const fault = missing.length > 0
    ? `missing: ${missing.join(", ")}`
    : state.silence && `systemctl does not say what becomes of the units: ${state.silence}`;
  return [{ ...LINKS_PIECE, ...(fault === undefined ? {} : { fault }) }];
}

function accountsFound({ files }: BootState): Found[] {
  return [...files].flatMap(([path, { text }]) => {
    const uid = new RegExp(`^${FOLDER}/(\\d{1,10})\\.account$`).exec(path)?.[1];
    if (uid === undefined) return [];
    const said = parseBootFile(text);
    const account = said ?? { ...UNREADABLE, name: /^name=([\w-]+)$/m.exec(text)?.[1] ?? "" };
    const { backend, onlyPorts, sessions } = account;
    return [{
      ...accountPiece({ ...account, uid: Number(uid), persist: true, log: false }),
      uids: single(Number(uid)),
      text,
      says: { persist: true, backend, onlyPorts, ...(sessions ? { sessions } : {}) },
      ...(said === undefined ? { fault: `${path} was changed` } : {}),
    }];
  });
}

const UNREADABLE = { backend: "iptables", onlyPorts: [], sessions: false } as const;

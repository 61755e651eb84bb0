/**
 * What makes the locks outlast a restart: one LaunchDaemon for all accounts, which also looks again
 * each minute. Its script and its property list are the files in `boot`.
 */
import { removeFile, writeFile } from "../lock/file.ts";
import { sudo } from "../line.ts";
import type { Found, Kind } from "../lock/piece.ts";
import propertyList from "./boot/com.fishnet.localonly.plist" with { type: "text" };
import script from "./boot/lock.sh" with { type: "text" };
import { accountsOf } from "./anchor.ts";
import { JOB, type Machine, PLIST_FILE, SCRIPT_FILE } from "./machine.ts";

const SHARED: Found = {
  is: "the LaunchDaemon that locks at boot",
  why: "macOS starts with pf off, and other programs replace its rules",
};

/** Shared by all accounts: with one of them, every lock outlasts a restart. */
export const daemon: Kind<Machine> = {
  goesLast: true,
  wanted: (lock) => lock.persist ? [SHARED] : [],
  found(machine): Found[] {
    if (machine.plistFile === undefined && machine.scriptFile === undefined) return [];
    const fault = machine.scriptFile !== script
      ? `${SCRIPT_FILE} is not the one of this version`
      : machine.plistFile !== propertyList
      ? `${PLIST_FILE} is not the one of this version`
      : machine.jobIsKnown
      ? undefined
      : "launchd does not run it: was it switched off under Login Items?";
    return [
      ...accountsOf(machine).accounts.values().map(({ uid, owner }): Found => ({
        is: "what the LaunchDaemon locks at boot",
        why: SHARED.why,
        uids: { first: Number(uid), last: Number(uid) },
        ...(owner === undefined ? {} : { owner }),
        says: { persist: true },
      })),
      fault === undefined ? SHARED : { ...SHARED, fault },
    ];
  },
  make(_pieces, machine) {
    const steps = filesOf(machine).filter(({ text, there }) => text !== there)
      .flatMap(({ path, text, there, why }) => writeFile(path, text.trimEnd(), why, there));
    if (machine?.jobIsKnown) return steps; // launchd reads the files again by itself
    return [...steps, {
      line: sudo("launchctl", "bootstrap", "system", PLIST_FILE),
      why: "launchd runs it from now on",
      undo: [`if sudo launchctl bootout ${JOB}; then ${UNTIL_GONE}; fi`],
    }];
  },
  unmake(pieces, machine) {
    if (!pieces.some(({ is }) => is === SHARED.is)) return []; // others still need it
    const why = "launchd no longer locks at boot";
    const undo = machine?.plistFile === undefined
      ? ""
      : `${UNTIL_GONE}; sudo launchctl print ${JOB} >/dev/null 2>&1 || ` +
        `sudo launchctl bootstrap system ${PLIST_FILE}`;
    return [
      ...(machine?.jobIsKnown === false
        ? []
        : [{ line: sudo("launchctl", "bootout", JOB), why, undo: [undo] }]),
      ...filesOf(machine).toReversed().flatMap(({ path, text, there }) =>
        machine !== undefined && there === undefined ? [] : removeFile(path, there ?? text, why)
      ),
    ];
  },
};

/** `bootout` returns before the job is gone, and `bootstrap` fails until it is. */
const UNTIL_GONE = `for i in 1 2 3 4 5 6 7 8 9 10; do ` +
  `sudo launchctl print ${JOB} >/dev/null 2>&1 || break; sleep 1; done`;

function filesOf(machine: Machine | undefined) {
  return [{
    path: SCRIPT_FILE,
    text: script,
    there: machine?.scriptFile,
    why: "what the LaunchDaemon runs",
  }, {
    path: PLIST_FILE,
    text: propertyList,
    there: machine?.plistFile,
    why: "the LaunchDaemon: at boot, and each minute",
  }];
}

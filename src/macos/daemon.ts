/**
 * What makes the locks outlast a restart: one LaunchDaemon for all accounts, which also looks again
 * each minute. Its script and its property list are the files in `boot`.
 *
 * @module
 */
import { removeFile, restoreFile, writeFile } from "../lock/file.ts";
import { feed, sudo } from "../lock/line.ts";
import type { Found, Kind, Step } from "../lock/piece.ts";
import propertyList from "./boot/com.fishnet.localonly.plist" with { type: "text" };
import script from "./boot/lock.sh" with { type: "text" };
import { accountsOf } from "./draft.ts";
import { JOB, type Machine, PLIST_FILE, SCRIPT_FILE } from "./machine.ts";

const SHARED: Found = {
  is: "the LaunchDaemon that locks at boot",
  why: "macOS starts with pf off, and other programs replace its rules",
};

/** Shared by all accounts: with one of them, every lock outlasts a restart. */
export const daemon: Kind<Machine> = {
  goesLast: true,
  questions: {},
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
      ...accountsOf(machine).accounts.map((account): Found => {
        const uid = Number(account.uid);
        return {
          is: "what the LaunchDaemon locks at boot",
          why: SHARED.why,
          uids: { first: uid, last: uid },
          ...(account.owner === undefined ? {} : { owner: account.owner }),
          says: { persist: true },
        };
      }),
      fault === undefined ? SHARED : { ...SHARED, fault },
    ];
  },
  make(_pieces, machine) {
    const steps: Step[] = [];
    if (machine?.scriptFile !== script) {
      const why = "what the LaunchDaemon runs";
      steps.push(writeFile(SCRIPT_FILE, script.trimEnd(), why, machine?.scriptFile));
    }
    if (machine?.plistFile !== propertyList) {
      const why = "the LaunchDaemon: at boot, and each minute";
      const before = machine?.plistFile;
      steps.push({
        line: `${feed(propertyList.trimEnd(), "tee", PLIST_FILE)} >/dev/null`,
        why,
        undo: [
          before === undefined ? sudo("rm", "-f", PLIST_FILE) : restoreFile(PLIST_FILE, before),
        ],
      });
    }
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
    const steps: Step[] = [];
    if (machine === undefined || machine.jobIsKnown) {
      const undo = machine?.plistFile === undefined
        ? ""
        : `${UNTIL_GONE}; sudo launchctl print ${JOB} >/dev/null 2>&1 || ` +
          `sudo launchctl bootstrap system ${PLIST_FILE}`;
      steps.push({ line: sudo("launchctl", "bootout", JOB), why, undo: [undo] });
    }
    for (const [path, text] of filesOf(machine)) steps.push(removeFile(path, text, why));
    return steps;
  },
};

/** `bootout` returns before the job is gone, and `bootstrap` fails until it is. */
const UNTIL_GONE = `for i in 1 2 3 4 5 6 7 8 9 10; do ` +
  `sudo launchctl print ${JOB} >/dev/null 2>&1 || break; sleep 1; done`;

function filesOf(machine: Machine | undefined): (readonly [string, string])[] {
  if (machine === undefined) return [[PLIST_FILE, propertyList], [SCRIPT_FILE, script]];
  const { plistFile, scriptFile } = machine;
  return [
    ...(plistFile === undefined ? [] : [[PLIST_FILE, plistFile] as const]),
    ...(scriptFile === undefined ? [] : [[SCRIPT_FILE, scriptFile] as const]),
  ];
}

/**
 * `--only-port`: `sudo -h NAME -l` looks the name up, as root, whoever runs it and whatever he may,
 * where sudo's setting `fqdn` is on (sudoers(5)): so Debian compiles it. A file of sudoers turns that off
 * for the account.
 */
import { removeFile, writeFile } from "../lock/file.ts";
import { sudo } from "../line.ts";
import type { Kind } from "../lock/piece.ts";
import { single, type UidRange } from "../lock/uid_range.ts";
import type { Files } from "../root.ts";
import type { Machine } from "./machine.ts";

const SUDOERS = "/etc/sudoers";
const FOLDER = "/etc/sudoers.d";

/** What `visudo -c` wants a file there to be. */
const MODE = "440";

/** The piece's name. */
export const SUDO_NAMES = "sudoers setting against name look-ups";
const WHY = "it may not have sudo look a host name up, as root (sudo -h NAME -l)";

const pathOf = (uid: number) => `${FOLDER}/fishnet-${uid}`;
const textOf = (name: string, uid: number) => `# fishnet:${name}\nDefaults:#${uid} !fqdn`;

/** What root is asked for sudo's settings, and whether it then looks names up for others. */
export const SETTINGS = ["sudo", "-V"] as const;
export const looksNamesUp = (printed: string) =>
  /^Require fully-qualified hostnames/m.test(printed);

/** The setting of sudo's for each account. */
export const sudoNames: Kind<Machine> = {
  files: [SUDOERS, `${FOLDER}/*`],

  // Only a lock with ports needs it, and sudo takes as long as three other questions.
  questions({ asked, answers }) {
    const isLimited = [...answers.values()].some(({ stdout }) => LIMITED.test(stdout));
    return asked.onlyPorts?.length || isLimited ? { "sudo settings": SETTINGS } : {};
  },

  // A dry-run shows none of it: how sudo is set, only the machine tells.
  wanted({ name: owner, uid, onlyPorts }, machine) {
    if (machine === undefined || uid === undefined || onlyPorts.length === 0) return [];
    const { answers, files } = machine;
    return looksNamesUp(answers.get("sudo settings")?.stdout ?? "") &&
        READS.test(files.get(SUDOERS)?.text ?? "")
      ? [{ is: SUDO_NAMES, why: WHY, uids: single(uid), owner }]
      : [];
  },

  found: ({ files }) =>
    [...files].flatMap(([path, { text, mode, uid: user }]) => {
      const uid = Number(/^\/etc\/sudoers\.d\/fishnet-(\d{1,10})$/.exec(path)?.[1]);
      const owner = /^# fishnet:([\w-]+)$/m.exec(text)?.[1];
      if (Number.isNaN(uid) || owner === undefined) return [];
      const isWhole = text === `${textOf(owner, uid)}\n` && mode === MODE && user === 0;
      const undone = undoneBy(path, files);
      const state = !isWhole
        ? { fault: `${path} says something else, or is not root's with mode ${MODE}` }
        : undone === undefined
        ? {}
        : { fault: `${undone} sets fqdn behind it`, mend: sudo("visudo", "-f", undone) };
      const says = { onlyPorts: [] }; // it had some
      return [{ is: SUDO_NAMES, why: WHY, uids: single(uid), owner, says, ...state }];
    }),

  make: (pieces, machine) =>
    pieces.flatMap(({ uids, owner }) => {
      const { first: uid } = uids as UidRange;
      const path = pathOf(uid);
      const there = machine?.files.get(path)?.text;
      return writeFile(path, textOf(owner!, uid), WHY, there, { mode: MODE });
    }),

  unmake: (pieces, machine) =>
    machine === undefined ? [] : pieces.map(({ uids }) => {
      const path = pathOf((uids as UidRange).first);
      const { text } = machine.files.get(path)!;
      return removeFile(path, text, "sudo is set for it as for others", MODE);
    }),
};

/** The line by which sudoers has the folder read. */
const READS = /^[@#]includedir\s+"?(?:\/etc\/)?sudoers\.d\/?"?\s*(?:#.*)?$/m;

/** What turns it on again; a backslash continues a line. */
const SETS = /^\s*Defaults\S*[ \t](?:.*[ \t,])?fqdn\b/m;

/** The file, read after another in the folder, in which it is set again: of settings the last counts. */
function undoneBy(path: string, files: Files): string | undefined {
  const sets = (text: string) => SETS.test(text.replace(/\\\n/g, " "));
  const [, ...rest] = (files.get(SUDOERS)?.text ?? "").split(READS);
  const [later] =
    [...files].find(([other, { text }]) => other > path && IS_READ.test(other) && sets(text)) ?? [];
  return later ?? (sets(rest.join("\n")) ? SUDOERS : undefined);
}

/** A file of the folder with a dot in its name, or a tilde at its end, is not read (sudoers(5)). */
const IS_READ = /^\/etc\/sudoers\.d\/[^.]*[^.~]$/;

/** What is printed of a lock with ports, by either backend. */
const LIMITED = /! --dports|^table inet fishnet_loopback /m;

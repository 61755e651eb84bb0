/**
 * `--sessions`: the account's login sessions are shut as a whole, whatever uid runs in them. It closes
 * what no rule by uid can: setuid programs, sudo in the session, inbound data. It does not see cron,
 * at, and services with `User=`.
 *
 * systemd keeps the setting, for a uid of 1001, in two files of its own below
 * /etc/systemd/system.control/user-1001.slice.d. That they are this program's is told by the line
 * `sessions=yes` of the account's file for the lock at boot.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import { feed, sudo } from "../line.ts";
import type { Found, Kind, Lock, Piece, Step } from "../lock/piece.ts";
import { single } from "../lock/uid_range.ts";
import { ownUids } from "./accounts.ts";
import { bootQuestions, FOLDER, parseBootFile, readBoot } from "./boot/read_boot.ts";
import type { Machine } from "./machine.ts";
import probe from "./sessions_probe.sh" with { type: "text" };

/** Where systemctl set-property puts what is to stay (systemd.unit(5)). */
const CONTROL = "/etc/systemd/system.control";

/** What is set, and how systemd prints it. */
const PROPERTIES = {
  IPAddressDeny: { word: "any", shown: ["0.0.0.0/0", "::/0"] },
  IPAddressAllow: { word: "localhost", shown: ["127.0.0.0/8", "::1/128"] },
} as const;
const NAMES = Object.keys(PROPERTIES) as (keyof typeof PROPERTIES)[];

interface SlicePiece extends Piece {
  readonly slice: string;
}

/** The setting of the account's slice. */
export const sessions: Kind<Machine> = {
  questions: bootQuestions,
  files: [`${CONTROL}/user-*.slice.d/50-IPAddress*.conf`],

  wanted(lock) {
    return lock.sessions ? [slicePiece(lock)] : [];
  },

  found(machine) {
    const { files, units } = readBoot(machine);
    return [...files].flatMap(([path, { text }]): Found[] => {
      const uid = new RegExp(`^${FOLDER}/(\\d+)\\.account$`).exec(path)?.[1];
      const account = parseBootFile(text);
      if (uid === undefined || !account?.sessions) return [];
      const slice = sliceOf(uid);
      if (!isSet(slice, machine)) return [];
      const properties = units.get(slice);
      const whole = NAMES.every((name) => {
        const lines = PROPERTIES[name].shown.map((address) => `${name}=${address}`);
        const file = files.get(fileOf(slice, name))?.text ?? "";
        // What is not loaded is read from the files when the account logs in.
        const words = properties?.get(name)?.split(" ").toSorted().join(" ");
        return lines.every((line) => file.includes(line)) &&
          (words === undefined || words === PROPERTIES[name].shown.join(" "));
      });
      return [{
        ...slicePiece({ name: account.name, uid: Number(uid) }),
        uids: single(Number(uid)),
        says: { sessions: true },
        ...(whole ? {} : { fault: `the addresses of ${slice} are set otherwise` }),
      }];
    });
  },

  make(pieces, machine) {
    return (pieces as readonly SlicePiece[]).flatMap((piece) => {
      if (machine !== undefined) refuseForeign(piece, machine);
      return [
        {
          line: setLine(piece.slice, true),
          why: piece.why,
          undo: [openLines(piece.slice).join(" && ")],
        },
        {
          line: feed(probe.trimEnd(), "bash", "-s", piece.slice),
          why:
            "check that a packet from inside such a session is refused, and one from elsewhere not",
          undo: [""],
        },
      ];
    });
  },

  /**
   * Not `systemctl revert`: that removes an administrator's own files for the slice, too, and left a
   * session blocked (systemd 252).
   */
  unmake(pieces) {
    return (pieces as readonly SlicePiece[]).flatMap(({ slice }): Step[] => {
      const shut = setLine(slice, true);
      return openLines(slice).map((line, i) => ({
        line,
        why: i === 0
          ? "open the account's login sessions"
          : "and what systemd leaves of the setting",
        // Each is taken back by shutting them again, which also writes the files.
        undo: [shut],
      }));
    });
  },
};

const fileOf = (slice: string, name: string) => `${CONTROL}/${slice}.d/50-${name}.conf`;

const isSet = (slice: string, { files }: Machine) =>
  NAMES.some((name) => files.has(fileOf(slice, name)));

const sliceOf = (uid: number | string) => `user-${uid}.slice`;

function slicePiece(lock: Pick<Lock, "name" | "uid">): SlicePiece {
  return {
    is: "login sessions are shut",
    why: "nothing that runs in the account's login sessions reaches another machine",
    uids: ownUids(lock as Lock),
    owner: lock.name,
    slice: sliceOf(lock.uid ?? `$(id -u ${lock.name})`),
  };
}

function setLine(slice: string, isShut: boolean): string {
  const words = NAMES.map((name) => `${name}=${isShut ? PROPERTIES[name].word : ""}`);
  return sudo("systemctl", "set-property", slice, ...words);
}

/** The files and their folder go by themselves when their settings are empty, or not: by version. */
function openLines(slice: string): string[] {
  return [
    setLine(slice, false),
    sudo("rm", "-f", ...NAMES.map((name) => fileOf(slice, name))),
    sudo("rmdir", "-p", "--ignore-fail-on-non-empty", `${CONTROL}/${slice}.d`),
    sudo("systemctl", "daemon-reload"),
  ];
}

/** @throws {FishnetError} where somebody else has set the addresses: the undo would lose that. */
function refuseForeign({ slice, owner }: SlicePiece, machine: Machine): void {
  const ours = sessions.found(machine).some((piece) => piece.owner === owner);
  if (ours || !isSet(slice, machine)) return;
  throw new FishnetError(
    `somebody else has set the addresses of ${slice}: see systemctl cat ${slice}`,
  );
}

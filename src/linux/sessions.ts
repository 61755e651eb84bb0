/**
 * `--sessions`: the account's login sessions are shut as a whole, whatever uid runs in them. It closes
 * what no rule by uid can: setuid programs, sudo in the session, inbound data. It does not see cron,
 * at, and services with `User=`.
 *
 * systemd keeps the setting, for a uid of 1001, in two files of its own below
 * /etc/systemd/system.control/user-1001.slice.d. That they are this program's is told by the line
 * `sessions=yes` of the account's file for the lock at boot.
 */
import { FishnetError } from "../errors.ts";
import { feed, sudo } from "../line.ts";
import type { Found, Kind, Piece } from "../lock/piece.ts";
import { single } from "../lock/uid_range.ts";
import { ownUids } from "./accounts.ts";
import { accountFiles, bootQuestions, readBoot } from "./boot/pieces.ts";
import type { Machine } from "./machine.ts";
import probe from "./sessions_probe.sh" with { type: "text" };

/** Where systemctl set-property puts what is to stay (systemd.unit(5)). */
const CONTROL = "/etc/systemd/system.control";

/** What is set, and how systemd prints it. */
const PROPERTIES = [
  { name: "IPAddressDeny", word: "any", shown: "0.0.0.0/0 ::/0" },
  { name: "IPAddressAllow", word: "localhost", shown: "127.0.0.0/8 ::1/128" },
];

/** The setting of the account's slice. */
export const sessions: Kind<Machine> = {
  questions: bootQuestions,
  files: [`${CONTROL}/user-*.slice.d/50-IPAddress*.conf`],

  wanted: (lock) => lock.sessions ? [{ ...PIECE, uids: ownUids(lock), owner: lock.name }] : [],

  found(machine) {
    const { files, says } = readBoot(machine);
    return accountFiles(files).flatMap(({ uid, said }): Found[] => {
      const piece = { ...PIECE, uids: single(uid), says: { sessions: true } };
      const slice = sliceOf(piece);
      if (!said?.sessions || !isSet(slice, machine)) return [];
      const isWhole = PROPERTIES.every(({ name, shown }) => {
        const file = files.get(fileOf(slice, name))?.text ?? "";
        // What is not loaded is read from the files when the account logs in.
        const loaded = says(slice, name)?.split(" ").toSorted().join(" ") ?? shown;
        return loaded === shown &&
          shown.split(" ").every((address) => file.includes(`${name}=${address}`));
      });
      const fault = `the addresses of ${slice} are set otherwise`;
      return [{ ...piece, owner: said.name, ...(!isWhole && { fault }) }];
    });
  },

  make: (pieces, machine) =>
    pieces.flatMap((piece) => {
      const slice = sliceOf(piece);
      const isOurs = ({ owner }: Piece) => owner === piece.owner;
      if (machine && isSet(slice, machine) && !sessions.found(machine).some(isOurs)) {
        // The undo would lose what somebody else has set.
        throw new FishnetError(
          `somebody else has set the addresses of ${slice}: see systemctl cat ${slice}`,
        );
      }
      return [
        { line: setLine(slice, true), why: piece.why, undo: [openLines(slice).join(" && ")] },
        {
          line: feed(probe.trimEnd(), "bash", "-s", slice),
          why:
            "check that a packet from inside such a session is refused, and one from elsewhere not",
          undo: [""],
        },
      ];
    }),

  /** Not `systemctl revert`: it removes others' files, and left a session blocked (systemd 252). */
  unmake: (pieces) =>
    pieces.map(sliceOf).flatMap((slice) =>
      openLines(slice).map((line, i) => ({
        line,
        why: i === 0
          ? "open the account's login sessions"
          : "and what systemd leaves of the setting",
        // Each is taken back by shutting them again, which also writes the files.
        undo: [setLine(slice, true)],
      }))
    ),
};

const PIECE = {
  is: "login sessions are shut",
  why: "nothing that runs in the account's login sessions reaches another machine",
};

const sliceOf = ({ uids, owner }: Piece) =>
  `user-${typeof uids === "object" ? uids.first : `$(id -u ${owner})`}.slice`;

const fileOf = (slice: string, name: string) => `${CONTROL}/${slice}.d/50-${name}.conf`;

const isSet = (slice: string, { files }: Machine) =>
  PROPERTIES.some(({ name }) => files.has(fileOf(slice, name)));

function setLine(slice: string, isShut: boolean): string {
  const words = PROPERTIES.map(({ name, word }) => `${name}=${isShut ? word : ""}`);
  return sudo("systemctl", "set-property", slice, ...words);
}

/** The files and their folder go by themselves when their settings are empty, or not: by version. */
const openLines = (slice: string): string[] => [
  setLine(slice, false),
  sudo("rm", "-f", ...PROPERTIES.map(({ name }) => fileOf(slice, name))),
  sudo("rmdir", "-p", "--ignore-fail-on-non-empty", `${CONTROL}/${slice}.d`),
  sudo("systemctl", "daemon-reload"),
];

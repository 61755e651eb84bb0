/**
 * `--only-port`: the doors to services that look names up for whoever asks, print, or pass things on. No packet
 * of the account is needed for them, so no packet filter sees them: systemd-resolved and avahi answer over
 * D-Bus and over sockets of the file system, nscd, CUPS and Tor over one.
 *
 * A policy denies the uid all calls on the system bus; it is in /etc, so it is there after a reboot too. An
 * access list denies the uid the folder that a service's sockets are in. The folder stays when the
 * service starts anew and makes its sockets anew, so there is no moment in between; /run is empty
 * after a reboot, and then tmpfiles.d(5) makes the folder and the list before any account may log in.
 */
import { restoreFile, writeFile } from "../lock/file.ts";
import { sudo } from "../line.ts";
import type { Found, Kind, Piece, Step } from "../lock/piece.ts";
import { single, type UidRange } from "../lock/uid_range.ts";
import type { Resolver } from "../lock/verify.ts";
import { BOOTED } from "./boot/pieces.ts";
import type { Machine } from "./machine.ts";

const BUS = "/run/dbus/system_bus_socket";

/** What `verify` tries: systemd-resolved.service(8), nscd(8), avahi-daemon(8), cupsd(8), tor(1). */
export const RESOLVERS: readonly Resolver[] = [
  {
    socket: "/run/systemd/resolve/io.systemd.Resolve",
    call: { name: "org.freedesktop.resolve1", bus: BUS },
  },
  { socket: "/run/systemd/resolve/io.systemd.Resolve.Monitor" },
  { socket: "/run/nscd/socket" },
  { socket: "/run/avahi-daemon/socket", call: { name: "org.freedesktop.Avahi", bus: BUS } },
  { socket: "/run/cups/cups.sock" },
  { socket: "/run/tor/socks" },
];

const FOLDERS = [
  ...new Set(RESOLVERS.map(({ socket }) => socket.slice(0, socket.lastIndexOf("/")))),
];

/** A file of ours for each uid. */
interface OwnFile {
  readonly is: string;
  readonly why: string;
  readonly whyNot: string;
  readonly pathOf: (uid: number | "*") => string;
  readonly textOf: (uid: number, name: string, folders: readonly Folder[]) => string;
}

const POLICIES = "/etc/dbus-1/system.d";

/**
 * Services reach other machines for whoever calls them: some ask nobody (realmd, PackageKit), others polkit, to
 * whom what `sudo -u` starts in a session at the screen is that session's. Of several rules that match, the bus
 * takes the last, and a user's come last.
 */
const POLICY: OwnFile = {
  is: "D-Bus policy",
  why: "it may call no service on the system bus",
  whyNot: "let it call services on the system bus again",
  pathOf: (uid) => `${POLICIES}/fishnet-${uid}.conf`,
  textOf: (uid) =>
    `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <policy user="${uid}">
    <deny send_type="method_call"/>
    <allow send_destination="org.freedesktop.DBus" send_type="method_call"/>
  </policy>
</busconfig>`,
};

const AT_BOOT: OwnFile = {
  is: "access lists at boot",
  why: "the folders and their lists are there again at boot",
  whyNot: "no access lists at boot",
  pathOf: (uid) => `/etc/tmpfiles.d/fishnet-${uid}.conf`,
  textOf: (uid, name, folders) =>
    [
      `# fishnet:${name}`,
      ...folders.flatMap(({ path, mode, owner, group }) => [
        `d ${path} ${mode} ${owner} ${group}`,
        `a+ ${path} - - - - u:${uid}:---`,
      ]),
    ].join("\n"),
};

/** The doors to the services that look names up. */
export const resolver: Kind<Machine> = {
  questions({ files }) {
    const folders = FOLDERS.filter((path) => files.has(path));
    return folders.length === 0
      ? {}
      : { "resolver lists": ["getfacl", "--numeric", "--absolute-names", ...folders] };
  },
  files: [BUS, BOOTED, POLICIES, ...FOLDERS, POLICY.pathOf("*"), AT_BOOT.pathOf("*")],

  // A dry-run shows none of it: which of these services there are, only the machine tells.
  wanted({ name: owner, uid, onlyPorts, persist }, machine) {
    if (machine === undefined || uid === undefined || onlyPorts.length === 0) return [];
    const folders = foldersOf(machine);
    // One that systemd reloads, and whose policies are where they are looked for.
    const hasBus = [BUS, BOOTED, POLICIES].every((path) => machine.files.has(path));
    return [
      ...(hasBus ? [POLICY] : []),
      ...folders,
      ...(persist && folders.length > 0 ? [AT_BOOT] : []),
    ].map(({ is, why }) => ({ is, why, uids: single(uid), owner }));
  },

  found(machine) {
    const folders = foldersOf(machine);
    return [
      ...[...machine.files].flatMap(([path, { text }]): Found[] => {
        const uid = Number(/\/fishnet-(\d{1,10})\.conf$/.exec(path)?.[1]);
        const file = [POLICY, AT_BOOT].find(({ pathOf }) => pathOf(uid) === path);
        if (file === undefined) return [];
        const owner = /^# fishnet:([\w-]+)$/m.exec(text)?.[1];
        const isWhole = text === `${file.textOf(uid, owner ?? "", folders)}\n`;
        return [{
          is: file.is,
          why: "",
          uids: single(uid),
          ...(owner === undefined ? {} : { owner }),
          ...(isWhole ? {} : { fault: `${path} says something else` }),
          says: { onlyPorts: [] }, // it had some
        }];
      }),
      ...folders.flatMap(({ is, named }) =>
        [...named].filter(([, rights]) => rights === "---").map(([uid]): Found => (
          { is, why: "", uids: single(uid), weak: true }
        ))
      ),
    ];
  },

  make: (pieces, machine) => stepsOf(pieces, machine, true),
  unmake: (pieces, machine) => stepsOf(pieces, machine, false),
};

/** dbus-daemon or dbus-broker: open connections are judged anew; one that starts later reads them. */
const RELOAD_BUS = sudo("systemctl", "try-reload-or-restart", "dbus.service");

/** Its undo is that of each file: what is undone last is the file. */
const RELOAD: Step = { line: RELOAD_BUS, why: "the bus reads its policies", undo: [""] };

/** The policies, the list of each folder, the files for the next boot; backwards where they go. */
function stepsOf(
  pieces: readonly Piece[],
  machine: Machine | undefined,
  isDenied: boolean,
): Step[] {
  const folders = foldersOf(machine);
  const parts = [POLICY, ...folders, AT_BOOT];
  return (isDenied ? parts : parts.toReversed()).flatMap((part) => {
    const mine = pieces.filter(({ is }) => is === part.is)
      .map(({ uids, owner = "" }) => ({ uid: (uids as UidRange).first, owner }));
    if (mine.length === 0) return [];
    if (!("pathOf" in part)) return [listStep(part, mine.map(({ uid }) => uid), isDenied)];
    const steps = mine.flatMap(({ uid, owner }) => {
      const path = part.pathOf(uid);
      const there = machine?.files.get(path)?.text;
      const file = restoreFile(path, there);
      const back = part === POLICY ? `${file} && ${RELOAD_BUS}` : file;
      return isDenied
        ? writeFile(path, part.textOf(uid, owner, folders), part.why, there, { back })
        : [{ line: sudo("rm", path), why: part.whyNot, undo: [back] }];
    });
    return part === POLICY ? [...steps, RELOAD] : steps;
  });
}

/** Denies uids a folder, or takes that away, and with the last entry the list: it is then as it was. */
function listStep(folder: Folder, uids: readonly number[], isDenied: boolean): Step {
  const { path, why, named, hasMask, isPlain } = folder;
  const isLast = isPlain && named.keys().every((uid) => uids.includes(uid));
  const staysList = isDenied ? hasMask : !isLast;
  // A mask that is there stays.
  const setfacl = ["setfacl", ...(staysList ? ["--no-mask"] : [])];
  const option = (name: string, entries: readonly string[]) =>
    entries.length === 0 ? [] : [name, entries.join()];
  const names = (some: readonly number[]) => some.map((uid) => `u:${uid}`);
  const deny = sudo(...setfacl, ...option("--modify", uids.map((uid) => `u:${uid}:---`)), path);
  const before = isDenied ? uids.filter((uid) => named.has(uid)) : [];
  // What a folder passes on to new files (default:) stays.
  const allow = staysList
    ? [
      ...option("--modify", before.map((uid) => `u:${uid}:${named.get(uid)}`)),
      ...option("--remove", names(uids.filter((uid) => !before.includes(uid)))),
    ]
    : option("--remove", [...names(uids), "m"]);
  const undeny = sudo(...setfacl, ...allow, path);
  return isDenied
    ? { line: deny, why, undo: [undeny] }
    : { line: undeny, why: `let it into ${path} again`, undo: [deny] };
}

type Folder = ReturnType<typeof foldersOf>[number];

/** What getfacl printed, a folder a part. */
function foldersOf(machine: Machine | undefined) {
  const listed = machine?.answers.get("resolver lists")?.stdout ?? "";
  return `\n${listed}`.split("\n# file: ").slice(1).flatMap((text) => {
    const path = text.split("\n")[0]!;
    if (!FOLDERS.includes(path)) return [];
    const match = (pattern: RegExp) => pattern.exec(text)?.[1] ?? "";
    const rights = (whose: string) => match(new RegExp(`^${whose}::(...)`, "m"));
    const digit = (whose: string) =>
      [..."rwx"].reduce((sum, right) => 2 * sum + (rights(whose).includes(right) ? 1 : 0), 0);
    const users = text.matchAll(/^user:(\d+):([rwx-]{3})/gm);
    return [{
      is: `access list on ${path}`,
      why: "it may ask none of the sockets in there: who answers reaches other machines",
      path,
      // As numbers: a name need not be known early at boot.
      owner: match(/^# owner: (\d+)$/m),
      group: match(/^# group: (\d+)$/m),
      mode: `0${digit("user")}${digit("group")}${digit("other")}`,
      /** The rights of the users that the list names, by uid. */
      named: new Map(users.map(([, uid, rights]) => [Number(uid), rights!])),
      /** Whether it has a list at all, and so a mask. */
      hasMask: /^mask::/m.test(text),
      /** It names no group, and its mask is what setfacl makes of denials: without it, nothing changes. */
      isPlain: rights("mask") === rights("group") && !/^group:\d+:/m.test(text),
    }];
  });
}

/**
 * `--only-port`: the doors to services that look names up for whoever asks, print, or pass things on. No packet
 * of the account is needed for them, so no packet filter sees them: systemd-resolved and avahi answer over
 * D-Bus and over sockets of the file system, nscd, CUPS and Tor over one.
 *
 * A policy denies the uid all calls on the system bus; it is in /etc, so it is there after a reboot too. An
 * access list denies the uid the folder that a service's sockets are in. The folder stays when the
 * service starts anew and makes its sockets anew, so there is no moment in between; /run is empty
 * after a reboot, and then tmpfiles.d(5) makes the folder and the list before any account may log in.
 *
 * @module
 */
import { removeFile, restoreFile, writeFile } from "../lock/file.ts";
import { sudo } from "../line.ts";
import type { Found, Kind, Lock, Piece, Step } from "../lock/piece.ts";
import { single } from "../lock/uid_range.ts";
import type { Resolver } from "../lock/verify.ts";
import { BOOTED } from "./boot/pieces.ts";
import type { Machine } from "./machine.ts";

const BUS = "/run/dbus/system_bus_socket";

/**
 * What `verify` tries: the account may write to none of these sockets, and call none of the names
 * (systemd-resolved.service(8), nscd(8), avahi-daemon(8), cupsd(8), tor(1)).
 */
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

/** The folders of the sockets. */
const FOLDERS = [
  ...new Set(RESOLVERS.map(({ socket }) => socket.slice(0, socket.lastIndexOf("/")))),
];

const POLICY = "D-Bus policy";
const AT_BOOT = "access lists at boot";
const listName = (folder: string) => `access list on ${folder}`;

const POLICIES = "/etc/dbus-1/system.d";
const policyPath = (uid: number) => `${POLICIES}/fishnet-${uid}.conf`;
const bootPath = (uid: number) => `/etc/tmpfiles.d/fishnet-${uid}.conf`;

/**
 * Services reach other machines for whoever calls them: some ask nobody (realmd, PackageKit), others polkit, to
 * whom what `sudo -u` starts in a session at the screen is that session's. Of several rules that match, the bus
 * takes the last, and a user's come last.
 */
function policyText(uid: number): string {
  return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <policy user="${uid}">
    <deny send_type="method_call"/>
    <allow send_destination="org.freedesktop.DBus" send_type="method_call"/>
  </policy>
</busconfig>`;
}

function bootText(name: string, uid: number, folders: readonly Folder[]): string {
  return [
    `# fishnet:${name}`,
    ...folders.flatMap(({ path, mode, owner, group }) => [
      `d ${path} ${mode} ${owner} ${group}`,
      `a+ ${path} - - - - u:${uid}:---`,
    ]),
  ].join("\n");
}

/** The doors to the services that look names up. */
export const resolver: Kind<Machine> = {
  questions({ files }) {
    const folders = FOLDERS.filter((path) => files.has(path));
    return folders.length === 0
      ? {}
      : { "resolver lists": ["getfacl", "--numeric", "--absolute-names", ...folders] };
  },
  files: [
    BUS,
    BOOTED,
    POLICIES,
    ...FOLDERS,
    `${POLICIES}/fishnet-*.conf`,
    "/etc/tmpfiles.d/fishnet-*.conf",
  ],

  // A dry-run shows none of it: which of these services there are, only the machine tells.
  wanted({ name: owner, uid, onlyPorts, persist }: Lock, machine?: Machine): Piece[] {
    if (machine === undefined || uid === undefined || onlyPorts.length === 0) return [];
    const folders = foldersOf(machine);
    const piece = (is: string, why: string): Piece => ({ is, why, uids: single(uid), owner });
    return [
      ...(hasBus(machine) ? [piece(POLICY, "it may call no service on the system bus")] : []),
      ...folders.map(({ path }) => piece(listName(path), WHY_LIST)),
      ...(persist && folders.length > 0
        ? [piece(AT_BOOT, "the folders and their lists are there again at boot")]
        : []),
    ];
  },

  found(machine: Machine): Found[] {
    const folders = foldersOf(machine);
    return [
      ...[...machine.files].flatMap(([path, { text }]): Found[] => {
        const uid = Number(/\/fishnet-(\d{1,10})\.conf$/.exec(path)?.[1]);
        const owner = /^# fishnet:([\w-]+)$/m.exec(text)?.[1];
        const isPolicy = path === policyPath(uid);
        if (!isPolicy && path !== bootPath(uid)) return [];
        const whole = isPolicy ? policyText(uid) : bootText(owner ?? "", uid, folders);
        return [{
          is: isPolicy ? POLICY : AT_BOOT,
          why: "",
          uids: single(uid),
          ...(owner === undefined ? {} : { owner }),
          ...(text === `${whole}\n` ? {} : { fault: `${path} says something else` }),
          says: { onlyPorts: [] }, // it had some
        }];
      }),
      ...folders.flatMap(({ path, named }) =>
        [...named].filter(([, rights]) => rights === "---").map(([uid]): Found => ({
          is: listName(path),
          why: "",
          uids: single(uid),
          weak: true,
        }))
      ),
    ];
  },

  make(pieces: readonly Piece[], machine?: Machine): Step[] {
    if (machine === undefined) return [];
    const folders = foldersOf(machine);
    const policies = of(POLICY, pieces).flatMap(({ uid, why }) =>
      writeFile(policyPath(uid), policyText(uid), why, policyBack(uid, machine))
    );
    return [
      ...policies,
      ...(policies.length > 0 ? [RELOAD] : []),
      ...folders.flatMap((folder) => {
        const uids = of(listName(folder.path), pieces).map(({ uid }) => uid);
        return uids.length === 0 ? [] : [denyStep(folder, uids)];
      }),
      ...of(AT_BOOT, pieces).flatMap(({ uid, owner, why }) =>
        writeFile(bootPath(uid), bootText(owner, uid, folders), why, back(bootPath(uid), machine))
      ),
    ];
  },

  unmake(pieces: readonly Piece[], machine?: Machine): Step[] {
    if (machine === undefined) return [];
    const policies = of(POLICY, pieces).map(({ uid }): Step => ({
      line: sudo("rm", policyPath(uid)),
      why: "let it call services on the system bus again",
      undo: [policyBack(uid, machine)],
    }));
    return [
      ...of(AT_BOOT, pieces).map(({ uid }) =>
        removeFile(bootPath(uid), textOf(bootPath(uid), machine)!, "no access lists at boot")
      ),
      ...foldersOf(machine).toReversed().flatMap((folder) => {
        const uids = of(listName(folder.path), pieces).map(({ uid }) => uid);
        return uids.length === 0 ? [] : [allowStep(folder, uids)];
      }),
      ...policies,
      ...(policies.length > 0 ? [RELOAD] : []),
    ];
  },
};

const WHY_LIST = "it may ask none of the sockets in there: who answers reaches other machines";

/** The pieces of a name, with the uid that each is for. */
function of(is: string, pieces: readonly Piece[]): { uid: number; owner: string; why: string }[] {
  return pieces.flatMap((piece) =>
    piece.is === is && typeof piece.uids === "object"
      ? [{ uid: piece.uids.first, owner: piece.owner ?? "", why: piece.why }]
      : []
  );
}

/**
 * Both dbus-daemon and dbus-broker answer to this name, and reload; open connections are judged anew, too. One
 * that does not run yet reads its policies when it starts.
 */
const RELOAD_BUS = sudo("systemctl", "try-reload-or-restart", "dbus.service");

/** Its undo is that of each file: what is undone last is the file. */
const RELOAD: Step = { line: RELOAD_BUS, why: "the bus reads its policies", undo: [""] };

const policyBack = (uid: number, machine: Machine) =>
  `${back(policyPath(uid), machine)} && ${RELOAD_BUS}`;

const textOf = (path: string, { files }: Machine) => files.get(path)?.text;
const back = (path: string, machine: Machine) => restoreFile(path, textOf(path, machine));

/** A folder of a service, and its access list. */
interface Folder {
  readonly path: string;
  /** As numbers: a name need not be known early at boot. */
  readonly owner: string;
  readonly group: string;
  readonly mode: string;
  /** The rights of the users that the list names, by uid. */
  readonly named: ReadonlyMap<number, string>;
  /** Whether it has a list at all, and so a mask, which is then left as it is. */
  readonly hasMask: boolean;
  /** The mask is what setfacl makes of entries that deny everything: without it, nothing changes. */
  readonly isPlain: boolean;
  /** How many groups it names. */
  readonly groups: number;
}

function denyStep({ path, named, hasMask }: Folder, uids: readonly number[]): Step {
  const before = uids.filter((uid) => named.has(uid)).map((uid) => `${uid}:${named.get(uid)}`);
  const fresh = uids.filter((uid) => !named.has(uid));
  return {
    line: setfacl(path, hasMask, uids.map(denied)),
    why: WHY_LIST,
    undo: [hasMask ? setfacl(path, true, before, fresh) : withoutMask(path, uids)],
  };
}

/** Takes the entries away, and with the last one the list: the folder is then as it was. */
function allowStep({ path, named, groups, isPlain }: Folder, uids: readonly number[]): Step {
  const last = isPlain && groups === 0 && [...named.keys()].every((uid) => uids.includes(uid));
  return {
    line: last ? withoutMask(path, uids) : setfacl(path, true, [], uids),
    why: `let it into ${path} again`,
    undo: [setfacl(path, !last, uids.map(denied))],
  };
}

/** What a folder passes on to new files (default:) stays. */
const withoutMask = (path: string, uids: readonly number[]) =>
  sudo("setfacl", "--remove", [...uids.map((uid) => `u:${uid}`), "m"].join(), path);

const denied = (uid: number) => `${uid}:---`;

/** Sets rights, `UID:---`, and removes those of other uids; a mask that is there stays. */
function setfacl(
  path: string,
  hasMask: boolean,
  set: readonly string[],
  remove: readonly number[] = [],
): string {
  return sudo(
    ...["setfacl", ...(hasMask ? ["--no-mask"] : [])],
    ...(set.length === 0 ? [] : ["--modify", set.map((entry) => `u:${entry}`).join()]),
    ...(remove.length === 0 ? [] : ["--remove", remove.map((uid) => `u:${uid}`).join()]),
    path,
  );
}

/** One that systemd reloads, and whose policies are where they are looked for. */
const hasBus = ({ files }: Machine) => [BUS, BOOTED, POLICIES].every((path) => files.has(path));

/** What getfacl printed, a folder a part. */
function foldersOf({ answers }: Machine): Folder[] {
  const listed = `\n${answers.get("resolver lists")?.stdout ?? ""}`.split("\n# file: ").slice(1);
  return listed.flatMap((text) => {
    const path = text.split("\n")[0]!;
    if (!FOLDERS.includes(path)) return [];
    const match = (pattern: RegExp) => pattern.exec(text)?.[1] ?? "";
    const digit = (entry: string) =>
      ["r", "w", "x"].reduce(
        (sum, right, i) =>
          match(new RegExp(`^${entry}::(...)`, "m")).includes(right) ? sum + (4 >> i) : sum,
        0,
      );
    return [{
      path,
      owner: match(/^# owner: (\d+)$/m),
      group: match(/^# group: (\d+)$/m),
      mode: `0${digit("user")}${digit("group")}${digit("other")}`,
      named: new Map(
        [...text.matchAll(/^user:(\d+):([rwx-]{3})/gm)].map(([, uid, rights]) =>
          [Number(uid), rights!] as const
        ),
      ),
      hasMask: /^mask::/m.test(text),
      isPlain: match(/^mask::(...)/m) === match(/^group::(...)/m),
      groups: [...text.matchAll(/^group:\d+:/gm)].length,
    }];
  });
}

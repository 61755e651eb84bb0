/**
 * What is there of `--persist`: the files, their links, and what systemd makes of the units.
 *
 * @module
 */
import type { Backend } from "../../account.ts";
import { sudo } from "../../lock/line.ts";
import type { Lock, Questions } from "../../lock/piece.ts";
import type { Machine } from "../machine.ts";

/** Where the script and the accounts' files are. /etc is there before any other file system is. */
export const FOLDER = "/etc/fishnet-firewall";

/** Makes the folder, or makes it root's alone. */
export const ROOTS_ALONE = sudo(
  ...["install", "-d", "-o", "root", "-g", "root", "-m", "700", FOLDER],
);

/** Where an administrator's units are, and those of packages (systemd.unit(5)). */
export const UNITS = "/etc/systemd/system";
export const PACKAGED_UNITS = "/usr/lib/systemd/system";

/** What locks at boot, and after what flushes then. */
export const LOCK = "fishnet-lock.service";
export const AGAIN = "fishnet-again.service";

/** What puts back what other firewalls flush, for a while. */
export const WATCH = "fishnet-watch.service";

/** The units, in the order in which they start. */
export const UNIT_NAMES = [
  LOCK,
  AGAIN,
  "fishnet-beside@.service",
  "fishnet-after@.service",
  WATCH,
] as const;

/** The services that may flush what is ours, in Debian, Fedora and their kin. */
export const OTHERS = [
  "nftables",
  "ufw",
  "firewalld",
  "netfilter-persistent",
  "iptables",
  "ip6tables",
] as const;

/** The units that hear of another firewall: before it starts, and before it stops. */
export const besideUnits = (other: string) =>
  ["beside", "after"].map((when) => `fishnet-${when}@${other}.service`);

/** The links that enable the units, and what each points to the unit of. */
export const LINKS: readonly string[] = [
  ...[LOCK, AGAIN].map((name) => `${UNITS}/sysinit.target.wants/${name}`),
  ...OTHERS.flatMap((other) =>
    besideUnits(other).map((unit) => `${UNITS}/${other}.service.wants/${unit}`)
  ),
];

const SHOWN =
  "Id,ActiveState,LoadState,ConditionResult,ConditionTimestampMonotonic,DropInPaths,After," +
  "IPAddressDeny,IPAddressAllow";

/** What root is asked. */
export const QUESTIONS: Questions = {
  "boot: systemd": ["test", "-d", "/run/systemd/system"],
  "boot: places": [
    ...["find", FOLDER, UNITS, "-maxdepth", "2", "(", "-path", `${FOLDER}*`, "-o"],
    ...["-name", "fishnet-*", ")", "-printf", "%y %m %U %p %l\\n"],
  ],
  "boot: units": [
    ...["systemctl", "show", "-p", SHOWN],
    ...UNIT_NAMES.filter((name) => !name.includes("@")),
    ...OTHERS.flatMap((other) => [other, ...besideUnits(other)]),
    // Whose addresses --sessions sets.
    "user-*.slice",
  ],
};

/** Where our files are. */
export const FILES: readonly string[] = [
  ...["*.account", "lock.sh", "*.nft"].map((name) => `${FOLDER}/${name}`),
  ...[UNITS, PACKAGED_UNITS].map((folder) => `${folder}/fishnet-*.service`),
];

/** A file, a folder or a link. */
interface Place {
  /** As find(1) prints it: `f`, `d`, `l`. */
  readonly type: string;
  readonly mode: string;
  readonly uid: number;
  /** What a link points to. */
  readonly target: string;
}

/** What is there. */
export interface BootState {
  readonly texts: ReadonlyMap<string, string>;
  readonly places: ReadonlyMap<string, Place>;
  /** What systemd says of each unit, by the names of its properties. */
  readonly units: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** Those of {@link OTHERS} that run. */
  readonly othersActive: readonly string[];
  /** What flushes at boot comes so late that waiting for it would be an ordering cycle. */
  readonly othersAreLate: boolean;
}

/** Reads the answers to {@link QUESTIONS}; without any, nothing is there. */
export function readBoot(machine: Pick<Machine, "answers" | "files"> | undefined): BootState {
  const said = (name: string) => machine?.answers.get(`boot: ${name}`)?.stdout ?? "";
  const places = new Map<string, Place>();
  for (const line of said("places").split("\n")) {
    const [, type, mode, uid, path, target] = /^(\S) (\d+) (\d+) (\S+) (.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    places.set(path, { type: type!, mode: mode!, uid: Number(uid), target: target! });
  }
  const units = unitsShown(said("units"));
  const saysOf = (other: string, property: string) =>
    units.get(`${other}.service`)?.get(property) ?? "";
  return {
    texts: machine?.files ?? new Map(),
    places,
    units,
    othersActive: OTHERS.filter((other) => saysOf(other, "ActiveState") === "active"),
    othersAreLate: ["nftables", "netfilter-persistent"].some((other) =>
      /\b(sysinit|basic)\.target\b/.test(saysOf(other, "After"))
    ),
  };
}

/** Parses what `systemctl show` prints, with `Id`: the properties by the names of their units. */
function unitsShown(shown: string): Map<string, Map<string, string>> {
  return new Map(
    shown.trim().split("\n\n").map((block) => {
      const properties = new Map(
        block.split("\n").map((line): [string, string] => {
          const at = line.indexOf("=");
          return [line.slice(0, at), line.slice(at + 1)];
        }),
      );
      return [properties.get("Id") ?? "", properties];
    }),
  );
}

/** What an account's file says. */
export type BootFile = Pick<Lock, "name" | "backend" | "onlyPorts" | "sessions">;

/** The text of an account's file. */
export function printBootFile({ name, backend, onlyPorts, sessions }: BootFile): string {
  const lines = [`name=${name}`, `backend=${backend}`, `ports=${onlyPorts.join(" ")}`];
  return [...lines, ...(sessions ? ["sessions=yes"] : []), ""].join("\n");
}

/** Reads an account's file; undefined where it is not as {@link printBootFile} writes it. */
export function parseBootFile(text: string): BootFile | undefined {
  const match =
    /^name=([\w-]+)\nbackend=(iptables|nftables)\nports=((?:\d{1,5}(?: \d{1,5})*)?)\n(sessions=yes\n)?$/
      .exec(text);
  if (match === null) return undefined;
  return {
    name: match[1]!,
    backend: match[2] as Backend,
    onlyPorts: match[3] === "" ? [] : match[3]!.split(" ").map(Number),
    sessions: match[4] !== undefined,
  };
}

/**
 * What is there of `--persist`: the files, their links, and what systemd makes of the units.
 *
 * @module
 */
import type { Backend } from "../../account.ts";
import { sudo } from "../../line.ts";
import type { Known, Lock, Questions } from "../../lock/piece.ts";
import type { Files } from "../../statements.ts";
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

/**
 * What root is asked where a lock is kept over a reboot, or is to be: what systemd makes of it. Any file
 * that says so is enough.
 */
export function bootQuestions({ files, asked }: Known): Questions {
  const isOurs = (path: string) =>
    path.startsWith(FOLDER) || /\/fishnet-[^/]*\.(service|rules)$/.test(path);
  return asked.persist || [...files.keys()].some(isOurs) ? UNITS_QUESTION : {};
}

const UNITS_QUESTION: Questions = {
  "boot: units": [
    ...["systemctl", "show", "-p", SHOWN],
    ...[LOCK, AGAIN, WATCH],
    ...OTHERS.flatMap((other) => [other, ...besideUnits(other)]),
    // Whose addresses --sessions sets.
    "user-*.slice",
  ],
};

/** A folder that is there where systemd runs the system (sd_booted(3)). */
export const BOOTED = "/run/systemd/system";

/** Where our files are. */
export const FILES: readonly string[] = [
  BOOTED,
  FOLDER,
  `${FOLDER}/*`,
  ...[UNITS, `${UNITS}/*.wants`, PACKAGED_UNITS].map((folder) => `${folder}/fishnet-*.service`),
];

/** What is there. */
export interface BootState {
  readonly files: Files;
  /** Why it is not known what systemd says, where it runs the system. */
  readonly silence?: string;
  /** What systemd says of each unit, by the names of its properties. */
  readonly units: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** Those of {@link OTHERS} that run. */
  readonly othersActive: readonly string[];
  /** What flushes at boot comes so late that waiting for it would be an ordering cycle. */
  readonly othersAreLate: boolean;
}

/** Reads what was seen and answered; without a machine, nothing is there. */
export function readBoot(machine: Pick<Machine, "answers" | "files"> | undefined): BootState {
  const { exitCode, stdout = "", stderr = "" } = machine?.answers.get("boot: units") ?? {};
  const units = unitsShown(stdout);
  const isSilent = exitCode !== undefined && exitCode !== 0 && machine!.files.has(BOOTED);
  const saysOf = (other: string, property: string) =>
    units.get(`${other}.service`)?.get(property) ?? "";
  return {
    files: machine?.files ?? new Map(),
    units,
    ...(isSilent ? { silence: stderr.trim().split("\n").at(-1) || `exit status ${exitCode}` } : {}),
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

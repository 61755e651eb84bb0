/**
 * Reads all that `status` judges, in one call of `sudo`: the rules of both
 * iptables variants and both families, the routing rules, our nft tables, and
 * the accounts with their subordinate ranges as they are now.
 *
 * @module
 */
import { UnreadableError } from "../status.ts";
import { readSections, type Section } from "../sections.ts";
import {
  BOOT_DIRECTORY,
  type BootMark,
  LOCK_UNIT,
  LOCK_WANTED_BY,
  parseBootMark,
  UNIT_DIRECTORY,
} from "./persist.ts";
import { parsePasswd, parseSubuid, type PasswdEntry, type Subuid } from "./read_accounts.ts";
import { parseIptablesSave, type Rule } from "./read_iptables.ts";
import { parseTable, type Table } from "./read_nftables.ts";
import { parseRoutingRules, type RoutingRule } from "./read_routing.ts";

/** IPv4 or IPv6. */
export type Family = 4 | 6;

/** Both of them. */
export const FAMILIES: readonly Family[] = [4, 6];

/** One of the two programs that the plain name `iptables` may stand for. */
export type Variant = "nft" | "legacy";

/** What one of the `iptables-save` programs printed. */
export interface SavedRules {
  readonly family: Family;
  readonly variant: Variant;
  readonly rules: readonly Rule[];
}

/** The machine's state, as its own tools print it, parsed and not yet judged. */
export interface Machine {
  readonly passwd: readonly PasswdEntry[];
  readonly subuid: Subuid;
  /** False for a kernel without IPv6: it has none to lock. */
  readonly hasIpv6: boolean;
  readonly saved: readonly SavedRules[];
  /** What the plain name `iptables` stands for; undefined where there is none. */
  readonly plainVariant: Variant | undefined;
  readonly routing: Readonly<Record<Family, readonly RoutingRule[]>>;
  /** Undefined where the table is not there. */
  readonly lockTable: Table | undefined;
  readonly loopbackTable: Table | undefined;
  /** The uids with a script that would lock them at boot. */
  readonly bootScripts: ReadonlyMap<number, BootMark>;
  /** The uids with a unit that runs such a script at boot. */
  readonly bootUnits: ReadonlySet<number>;
  /** The uids whose login sessions were shut, and whether systemd still says so. */
  readonly sessions: ReadonlyMap<number, boolean>;
}

/** The families that there is something to lock of. */
export function familiesOf({ hasIpv6 }: Machine): Family[] {
  return FAMILIES.filter((family) => family === 4 || hasIpv6);
}

/**
 * Reads the machine. Names that the account list need not enumerate (LDAP, say) are looked up
 * one by one.
 *
 * @throws {UnreadableError} where sudo is refused, or the kernel's rules cannot be read.
 */
export async function readMachine(names: readonly string[]): Promise<Machine> {
  return machineOf(await readSections(SCRIPT, names));
}

const SCRIPT = `
scripts() {
  for file in ${BOOT_DIRECTORY}/*.sh; do
    test ! -s "$file" || { IFS= read -r line <"$file"; echo "$file:$line"; }
  done
}
units() {
  for file in ${UNIT_DIRECTORY}/${LOCK_WANTED_BY}.wants/${LOCK_UNIT}*.service; do
    test ! -f "$file" || test ! -s "$file" || echo "$file"
  done
}
marks() {
  for file in ${BOOT_DIRECTORY}/*.sessions; do
    test ! -e "$file" || echo "$file"
  done
}
slices() {
  units=
  for file in $(marks); do
    file=\${file##*/}
    units="$units user-\${file%.sessions}.slice"
  done
  test -z "$units" || systemctl show -p Id -p IPAddressDeny -p IPAddressAllow -- $units
}
section passwd getent passwd
test $# -eq 0 || section named getent passwd -- "$@"
section subuid cat /etc/subuid
section ipv6 test -e /proc/net/if_inet6
section plain iptables --version
for command in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do
  section $command $command-save
done
# Some systems have the plain names alone.
variant=legacy
case $(iptables --version 2>&1) in *nf_tables*) variant=nft ;; esac
command -v iptables-$variant-save >/dev/null || for command in iptables ip6tables; do
  section $command-$variant $command-save
done
section rule4 ip -4 rule show
section rule6 ip -6 rule show
section nft nft list table inet fishnet
section nft-loopback nft list table inet fishnet_loopback
section boot-scripts scripts
section boot-units units
section session-marks marks
section session-slices slices
`;

/**
 * Parses every section.
 *
 * @throws {UnreadableError} where the routing rules are missing: `ip` is there wherever a lock is,
 * and without it nothing can be told.
 */
export function machineOf(sections: ReadonlyMap<string, Section>): Machine {
  const text = (name: string) => sections.get(name)?.text ?? "";
  const succeeded = (name: string) => sections.get(name)?.code === 0;
  const hasIpv6 = succeeded("ipv6");
  for (const name of ["rule4", ...(hasIpv6 ? ["rule6"] : [])]) {
    if (!succeeded(name)) {
      throw new UnreadableError(`the routing rules could not be read: ${text(name).trim()}`);
    }
  }
  return {
    passwd: parsePasswd(`${text("passwd")}\n${text("named")}`),
    subuid: parseSubuid(text("subuid")),
    hasIpv6,
    saved: FAMILIES.flatMap((family) =>
      (["nft", "legacy"] as const).map((variant) => ({
        family,
        variant,
        rules: parseIptablesSave(text(`${family === 4 ? "iptables" : "ip6tables"}-${variant}`)),
      }))
    ),
    plainVariant: succeeded("plain")
      ? (text("plain").includes("nf_tables") ? "nft" : "legacy")
      : undefined,
    routing: { 4: parseRoutingRules(text("rule4")), 6: parseRoutingRules(text("rule6")) },
    lockTable: succeeded("nft") ? parseTable(text("nft")) : undefined,
    loopbackTable: succeeded("nft-loopback") ? parseTable(text("nft-loopback")) : undefined,
    bootScripts: new Map(
      text("boot-scripts").split("\n").flatMap((line) => {
        const mark = parseBootMark(line);
        return mark === undefined ? [] : [[mark.uid, mark] as const];
      }),
    ),
    bootUnits: uidsIn(text("boot-units"), new RegExp(`/${LOCK_UNIT}(\\d+)\\.service$`)),
    sessions: parseSessions(text("session-marks"), text("session-slices")),
  };
}

/** Reads what `systemctl show` says of each slice: everything is denied, and loopback allowed. */
function parseSessions(marks: string, slices: string): Map<number, boolean> {
  const shut = new Set(
    slices.split("\n\n").flatMap((slice) => {
      const value = (property: string) =>
        new RegExp(`^${property}=(.*)$`, "m").exec(slice)?.[1]?.split(" ").sort().join(" ");
      const uid = /^user-(\d+)\.slice$/.exec(value("Id") ?? "")?.[1];
      return uid !== undefined && value("IPAddressDeny") === "0.0.0.0/0 ::/0" &&
          value("IPAddressAllow") === "127.0.0.0/8 ::1/128"
        ? [Number(uid)]
        : [];
    }),
  );
  const marked = uidsIn(marks, /\/(\d+)\.sessions$/);
  return new Map([...marked].map((uid) => [uid, shut.has(uid)]));
}

function uidsIn(text: string, pattern: RegExp): Set<number> {
  return new Set(
    text.split("\n").flatMap((line) => {
      const uid = pattern.exec(line)?.[1];
      return uid === undefined ? [] : [Number(uid)];
    }),
  );
}

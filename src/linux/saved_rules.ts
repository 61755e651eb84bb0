/**
 * Rules of ours in the files that other firewalls load at boot: `netfilter-persistent save` while an
 * account is locked keeps its rules, and they would be back after a reboot although it was unlocked.
 */
import type { Holder } from "../lock/holder.ts";
import { sudo } from "../line.ts";
import { printRange } from "../lock/uid_range.ts";
import type { Seen } from "../root.ts";
import type { Machine } from "./machine.ts";

/** Where Debian, Arch, Fedora and their kin keep them. */
export const SAVED_FILES = [
  ...["/etc/iptables/rules.v4", "/etc/iptables/rules.v6", "/etc/nftables.conf"],
  ...["/etc/iptables/iptables.rules", "/etc/iptables/ip6tables.rules"],
  ...["/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables", "/etc/sysconfig/nftables.conf"],
];

/** What stands before the uids; the multicast of subordinate ones has a rule of its own. */
const BEFORE = [
  "! -o lo -m owner --uid-owner",
  ...["", "ip daddr 224.0.0.0.4 "].flatMap((to) =>
    ["", "meta "].map((meta) => `oifname != "lo" ${to}${meta}skuid`)
  ),
].join("|");

/**
 * The rules of uids, as iptables-save and nft print them, for sed as well: an administrator may have
 * others for the same uid, to mark its packets or to log them, and those are his.
 */
const refusing = (uids: string) =>
  `(${BEFORE}) (${uids}) +` +
  "(-m comment --comment .?fishnet:|-j REJECT |(xt match .?comment.? +)?counter " +
  "(packets [0-9]+ bytes [0-9]+ )?(drop|reject|xt ))";
/** Those that lead to a chain of ours. */
const leading = (uids: string) => `(--uid-owner|skuid) (${uids}) (.* )?(-j|jump) fishnet$`;

const REFUSING = new RegExp(refusing("[0-9-]+"), "gm");
const LEADING = new RegExp(leading("[0-9-]+"), "gm");

/** Our tables, and the elements of their sets. */
const TABLE = /^table inet fishnet|comment "[^"\n]*"/gm;

/** What accounts share, for sed: as iptables-save prints it, and nft. */
const SHARED = [
  "/! --uid-owner 0-65535 /d",
  "/-A POSTROUTING ! -o lo -p ipv6-icmp -m icmp6 --icmpv6-type 3.1 -m addrtype /d",
  "/-A INPUT ! -i lo ! -p tcp -m addrtype /d",
  "/^(:|(\\[[0-9:]+\\] )?-A )fishnet /d",
  "/^[[:space:]]chain fishnet [{]/,/^[[:space:]][}]/d",
  "/ skuid != 0-65535 /d",
  "/ xt match .?icmp6.? fib saddr type local /d",
  '/iifname != "lo" meta l4proto != tcp fib saddr type local /d',
];

/** What was found in each file, of whatever account: every account asks for it. */
const found = new WeakMap<Seen, ReturnType<typeof savedIn>>();

function savedIn({ text }: Seen) {
  const ownersIn = (pattern: RegExp) => [...text.matchAll(pattern)].map(([, , owner]) => owner!);
  const leading = ownersIn(LEADING);
  return {
    leading,
    owners: new Set([...leading, ...ownersIn(REFUSING)]),
    table: [...text.matchAll(TABLE)].map(([match]) => match),
  };
}

/** Which files hold rules of the account, each with the command that clears it. */
export function savedNotes(machine: Machine, { names, uid, ranges, formerUids }: Holder): string[] {
  const owners = [...[uid, ...formerUids].map(String), ...ranges.map(printRange)];
  return SAVED_FILES.flatMap((file): string[] => {
    const seen = machine.files.get(file);
    if (seen === undefined) return [];
    const there = found.get(seen) ?? savedIn(seen);
    found.set(seen, there);
    const saved = owners.filter((owner) => there.owners.has(owner));
    const hasTable = there.table.some((match) => match.startsWith("table inet fishnet")) &&
      names.some((name) => there.table.includes(`comment "${name}"`));
    // What accounts share goes with the last of them.
    const isLast = there.leading.every((owner) => saved.includes(owner));
    const uids = saved.join("|");
    const parts = [
      ...(saved.length === 0 ? [] : [`/${refusing(uids)}/d`, `/${leading(uids)}/d`]),
      ...(saved.length > 0 && isLast ? SHARED : []),
      ...(hasTable ? ["/^table inet fishnet/,/^}/d"] : []),
    ];
    if (parts.length === 0) return [];
    const clear = sudo("sed", "-i", "-E", parts.join(";"), file);
    return [`${file} holds rules of it, which are back after a reboot: ${clear} removes them`];
  });
}

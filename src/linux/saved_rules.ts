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

/** The rules of uids, as iptables-save and nft print them, and the elements of our tables. */
const PATTERN = /(--uid-owner|skuid) [0-9-]+ |^table inet fishnet|comment "[^"\n]*"/gm;

/** The uids whose rules lead to a chain of ours. */
const LEADING = /(?:--uid-owner|skuid) (\S+) (?:.* )?(?:-j|jump) fishnet$/gm;

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

const savedIn = ({ text }: Seen) => ({
  matches: [...text.matchAll(PATTERN)].map(([match]) => match),
  leading: [...text.matchAll(LEADING)].map(([, owner]) => owner!),
});

/** Which files hold rules of the account, each with the command that clears it. */
export function savedNotes(machine: Machine, { names, uid, ranges, formerUids }: Holder): string[] {
  const owners = [...[uid, ...formerUids].map(String), ...ranges.map(printRange)];
  return SAVED_FILES.flatMap((file): string[] => {
    const seen = machine.files.get(file);
    if (seen === undefined) return [];
    const { matches, leading } = found.get(seen) ?? savedIn(seen);
    found.set(seen, { matches, leading });
    const saved = owners.filter((owner) =>
      matches.some((match) => match.trimEnd().endsWith(` ${owner}`))
    );
    const hasTable = matches.some((match) => match.startsWith("table inet fishnet")) &&
      names.some((name) => matches.includes(`comment "${name}"`));
    // What accounts share goes with the last of them.
    const isLast = leading.every((owner) => saved.includes(owner));
    const parts = [
      ...(saved.length === 0 ? [] : [`/(--uid-owner|skuid) (${saved.join("|")}) /d`]),
      ...(saved.length > 0 && isLast ? SHARED : []),
      ...(hasTable ? ["/^table inet fishnet/,/^}/d"] : []),
    ];
    if (parts.length === 0) return [];
    const clear = sudo("sed", "-i", "-E", parts.join(";"), file);
    return [`${file} holds rules of it, which are back after a reboot: ${clear} removes them`];
  });
}

/**
 * The routing layer: `ip rule … uidrange … prohibit`. It goes by the uid of the
 * socket, which outlives the process, so it also stops what the kernel still
 * sends for a connection whose process is gone; and no firewall tool flushes it.
 *
 * @module
 */
import type { Account } from "../account.ts";
import type { Hold } from "../plan.ts";
import { forEachRange, rangesStep, subordinateEntries, uidOf } from "./accounts.ts";

/**
 * Any preference after the `local` table's 0 keeps loopback and the machine's
 * own addresses reachable; 77 is early enough to come before a VPN's rules.
 */
export const ROUTING_PREFERENCE = 77;

/** What the other layers tell of ranges, as shell: a routing rule cannot carry a name. */
export interface Ranges {
  /**
   * Prints the ranges that the account holds there, a line each: those are released too, also when
   * /etc/subuid no longer has them.
   */
  readonly recorded: string;
  /** Succeeds when another account holds `$r` there: then its routing rule stays. */
  readonly heldByOthers: string;
}

/** The routing rules of one account: its uid and its subordinate ranges, IPv4 and IPv6. */
export function routingHolds(account: Account, ranges: Ranges): Hold[] {
  return [4, 6].flatMap((family): Hold[] => {
    const present = (range: string) =>
      `ip -${family} rule show pref ${ROUTING_PREFERENCE} uidrange ${range} | ` +
      `grep -q "all uidrange ${range} prohibit"`;
    // "protocol kernel" keeps systemd-networkd from removing the rule as foreign when it
    // restarts (seen on systemd 252 and 257).
    const add = (range: string) =>
      `ip -${family} rule add pref ${ROUTING_PREFERENCE} uidrange ${range} ` +
      `prohibit protocol kernel`;
    const remove = (range: string) =>
      `ip -${family} rule del pref ${ROUTING_PREFERENCE} uidrange ${range} prohibit`;
    const release = `${present("$r")} || continue; ${ranges.heldByOthers} && continue; ` +
      `echo $r; ${remove("$r")} || exit 1`;
    const withUid = (command: string) => `sudo sh -c 'u=${uidOf(account)}; ${command}'`;
    return [
      {
        take: {
          check: withUid(present("$u-$u")),
          run: withUid(add("$u-$u")),
          why: `IPv${family}: the kernel finds no route off this machine for the account's sockets`,
          undo: [withUid(remove("$u-$u"))],
        },
        release: {
          run: `sudo sh -c '{ ${ranges.recorded}; u=${uidOf(account)} && echo $u && ` +
            `${subordinateEntries(account)} | cut -d: -f2,3; } | ` +
            `while IFS=: read a c; do r=$a\${c:+-$((a+c-1))}; r=\${r%-*}-\${r#*-}; ` +
            `${release}; done'`,
          undoEach: `sudo sh -ec 'for r; do ${present("$r")} || ${add("$r")}; done' undo`,
          why: `IPv${family}: remove the routing rules of the account and its subordinate uids`,
        },
      },
      {
        take: rangesStep(
          { present: present("$r"), add: add("$r"), remove: remove("$r") },
          `IPv${family}: the same for each range of subordinate uids that the account may use`,
          (body) => forEachRange(account, body),
        ),
      },
    ];
  });
}

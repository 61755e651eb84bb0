/**
 * The routing layer: `ip rule … uidrange … prohibit`. It goes by the uid of the
 * socket, which outlives the process, so it also stops what the kernel still
 * sends for a connection whose process is gone; and no firewall tool flushes it.
 *
 * The kernel asks the rules one after another whenever anybody looks up a
 * route. So uids that adjoin share a rule, whosever they are: a thousand accounts
 * that were made in a row take two rules, one for them and one for their ranges.
 *
 * @module
 */
import type { Account } from "../account.ts";
import type { Hold } from "../plan.ts";
import { NO_IPV6, subordinateEntries, uidOf } from "./accounts.ts";
import type { UidRange } from "./uid_range.ts";

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
  /** Prints those of all other accounts: uids that one of them holds stay in their rule. */
  readonly others: string;
}

/** The routing rules of one account: its uid and its subordinate ranges, IPv4 and IPv6. */
export function routingHolds(account: Account, ranges: Ranges): Hold[] {
  const entries = `${subordinateEntries(account, "$u")} | cut -d: -f2,3`;
  const undoEach = `${shell(UNDO)} undo`;
  return [{
    take: {
      run: shell(
        `u=${uidOf(account)}; { echo $u:1; ${entries}; } | ` +
          `while IFS=: read a c; do b=$((a+c-1)); for v in ${FAMILIES}; do ${TAKE}; done; done`,
      ),
      why: "IPv4 and IPv6: the kernel finds no route off this machine for the account's sockets, " +
        "nor for those of its subordinate uids; uids that adjoin share a rule",
      undoEach,
    },
    release: {
      run: shell(
        `u=${uidOf(account)}; o=$(${ranges.others}); ` +
          `{ ${ranges.recorded}; echo $u; ${entries}; } | ` +
          "while IFS=: read a c; do r=$a${c:+-$((a+c-1))}; echo ${r%-*} ${r#*-}; done | " +
          "sort -u | while read a b; do " +
          "for x in $o; do [ ${x#*-} -lt $a ] || [ ${x%-*} -gt $b ] || continue 2; done; " +
          `for v in ${FAMILIES}; do ${RELEASE}; done; done`,
      ),
      why: "IPv4 and IPv6: take the account and its subordinate uids out of the routing rules",
      undoEach,
    },
  }];
}

/** The line that takes uids out of the routing rules, whosever they are. */
export function cutLine(family: 4 | 6, { first, last }: UidRange): string {
  return shell(`v=${family}; a=${first}; b=${last}; ${RELEASE}`);
}

function shell(command: string): string {
  return `sudo sh -ec '${FUNCTIONS}; ${command}'`;
}

const FAMILIES = `4 $(${NO_IPV6} || echo 6)`;

const rule = (verb: string) => `ip -$v rule ${verb} pref ${ROUTING_PREFERENCE}`;

/**
 * All of it is for one family, `$v`. `rules` prints the ranges that the rules hold, a line each.
 * "protocol kernel" keeps systemd-networkd from removing a rule as foreign when it restarts (seen
 * on systemd 252 and 257).
 */
const FUNCTIONS = `rules() { ${rule("show")} | ` +
  `sed -n "s/^[0-9]*:.from all uidrange \\([0-9-]*\\) prohibit.*/\\1/p"; }; ` +
  `has() { rules | grep -qx $1; }; ` +
  `add() { ${rule("add")} uidrange $1 prohibit protocol kernel; }; ` +
  `del() { ${rule("del")} uidrange $1 prohibit; }`;

/** For each rule, its range as `$f` to `$t`. */
const forEachRule = (body: string) => `for x in $(rules); do f=\${x%-*}; t=\${x#*-}; ${body}; done`;

/**
 * Makes one rule of the uids `$a` to `$b` and of all that adjoin, where none holds them already.
 * Like RELEASE, it prints `FAMILY NEW/OLD` first, for the undo, and makes the new rules before it
 * removes the old ones, so that what both hold is never open.
 */
const TAKE = `l=$a; h=$b; o=; ${
  forEachRule(
    "[ $f -gt $a ] || [ $t -lt $b ] || continue 2; " +
      "[ $f -le $((b+1)) ] && [ $t -ge $((a-1)) ] || continue; " +
      'o="$o $x"; [ $f -ge $l ] || l=$f; [ $t -le $h ] || h=$t',
  )
}; echo "$v $l-$h/$o"; add $l-$h; for x in $o; do del $x; done`;

/** Cuts the uids `$a` to `$b` out of every rule. A run that was killed may have left the rest. */
const RELEASE = forEachRule(
  "[ $t -ge $a ] && [ $f -le $b ] || continue; " +
    'n=; [ $f -ge $a ] || n=$f-$((a-1)); [ $t -le $b ] || n="$n $((b+1))-$t"; ' +
    'echo "$v $n/$x"; for y in $n; do add $y || has $y; done; del $x',
);

/** Takes back what was printed, of which the last may not have been done. */
const UNDO = "for c; do v=${c%% *}; c=${c#* }; " +
  "for x in ${c#*/}; do add $x || has $x; done; " +
  "for x in ${c%/*}; do ! has $x || del $x; done; done";

/**
 * `--sessions`: the account's login sessions are shut as a whole, whatever uid
 * runs in them. It closes what no rule by uid can: setuid programs, sudo in the
 * session, inbound data. It does not see cron, at, and services with `User=`.
 *
 * systemd keeps the setting, for a uid of 1001, in two files of its own below
 * /etc/systemd/system.control/user-1001.slice.d. That they are this program's
 * is told by /etc/fishnet-firewall/1001.sessions, which is empty.
 *
 * @module
 */
import type { Account } from "../account.ts";
import type { Hold } from "../plan.ts";
import { NO_IPV6, uidOf } from "./accounts.ts";
import { BOOT_DIRECTORY } from "./persist.ts";

/** Where systemctl set-property puts what is to stay (systemd.unit(5)). */
export const CONTROL_DIRECTORY = "/etc/systemd/system.control";

/** Reserved for documentation (RFC 5737, RFC 3849): nobody's, so nothing is lost in between. */
const ADDRESSES = `192.0.2.1 $(${NO_IPV6} || echo 2001:db8::1)`;

/** Says which slice, which mark and which two files are the account's: `$u`, `$s`, `$m`, `$d`, `$a`. */
const namesOf = (account: Account) =>
  `u=${uidOf(account)}; s=user-$u.slice; m=${BOOT_DIRECTORY}/$u.sessions; ` +
  `d=${CONTROL_DIRECTORY}/$s.d/50-IPAddressDeny.conf; ` +
  `a=${CONTROL_DIRECTORY}/$s.d/50-IPAddressAllow.conf`;

/** The value of a property of the slice, as sorted words. */
const property = (name: string) =>
  `$(echo $(systemctl show --value -p ${name} $s | tr " " "\\n" | sort))`;

/** Removes an empty folder. */
const REMOVE_FOLDER = "rmdir --ignore-fail-on-non-empty";

/**
 * Everything that `--sessions` takes, or what is released where it is not given.
 *
 * Not `systemctl revert` to release it: that removes an administrator's own
 * files for the slice, too, and left a session blocked (systemd 252).
 */
export function sessionsHolds(account: Account, wanted: boolean): Hold[] {
  const release = `sudo sh -ec '${namesOf(account)}; test -e $m || exit 0; echo $s; ` +
    `test ! -d /run/systemd/system || systemctl set-property $s IPAddressDeny= IPAddressAllow=; ` +
    `rm -f $d $a; test ! -d \${d%/*} || ${REMOVE_FOLDER} \${d%/*}; ` +
    `test ! -d ${CONTROL_DIRECTORY} || ${REMOVE_FOLDER} ${CONTROL_DIRECTORY}; ` +
    `test ! -d /run/systemd/system || systemctl daemon-reload; ` +
    `rm $m; ${REMOVE_FOLDER} ${BOOT_DIRECTORY}'`;
  const released = { release: { run: release, why: "open the account's login sessions" } };
  if (!wanted) return [released];
  return [
    {
      take: {
        check: `sudo sh -c '${namesOf(account)}; test -e $m && test -e $d && test -e $a && ` +
          `test "${property("IPAddressDeny")}" = "0.0.0.0/0 ::/0" && ` +
          `test "${property("IPAddressAllow")}" = "127.0.0.0/8 ::1/128"'`,
        run: `sudo sh -c '${namesOf(account)}; umask 077; ` +
          `if test ! -e $m && { test -e $d || test -e $a; }; then ` +
          `echo "somebody else has set the addresses of $s: see systemctl cat $s" >&2; exit 1; fi; ` +
          `mkdir -p ${BOOT_DIRECTORY} && : >$m && ` +
          `systemctl set-property $s IPAddressDeny=any IPAddressAllow=localhost || ` +
          `{ rm -f $m; exit 1; }'`,
        why: "nothing that runs in the account's login sessions reaches another machine",
        undo: [release],
      },
      ...released,
    },
    { take: probeStep(account) },
  ];
}

/**
 * systemd takes the setting, and answers 0, also where it has no effect (without
 * the right to load BPF programs, in many containers). So a packet is sent from
 * inside the slice, to an address of a network namespace of its own, which no
 * packet leaves: from another slice it goes, from this one it has to be refused.
 */
function probeStep(account: Account): NonNullable<Hold["take"]> {
  const fail = (message: string) => `{ echo "${message}" >&2; exit 1; }`;
  return {
    run: `sudo sh -c '${namesOf(account)}; ` +
      `send() { systemd-run -q --wait --collect -p PrivateNetwork=yes --slice=$1 ` +
      `bash -c "ip addr add $2 dev lo && echo >/dev/udp/$2/9"; }; ` +
      `for x in ${ADDRESSES}; do ` +
      `send system.slice $x || ${fail("cannot tell whether --sessions has an effect here")}; ` +
      `! send $s $x || ${fail("--sessions has no effect on this system: leave it out")}; done'`,
    why: "a packet from inside such a session is refused, one from elsewhere is not",
  };
}

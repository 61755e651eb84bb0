/**
 * `--persist`: the same lock again at boot, and after another firewall was
 * restarted. What is there then, for an account with uid 1001:
 *
 *     /etc/fishnet-firewall/              root alone may look (0700)
 *     /etc/fishnet-firewall/1001.sh       the plan's own lines, without sudo, with numbers
 *     /etc/fishnet-firewall/1001.sh.old   what the last change of it replaced
 *     /etc/systemd/system/fishnet@.service          runs UID.sh at boot; one for all accounts
 *     /etc/systemd/system/fishnet-repair.service    runs them all when another firewall starts
 *     /etc/systemd/system/fishnet-reload.service    runs them all when another firewall reloads
 *     …/sysinit.target.wants/fishnet@1001.service   the link that enables it
 *     …/*.wants/fishnet-repair.service, …/multi-user.target.wants/fishnet-reload.service
 *
 * A script runs with sh alone: it needs neither this program nor a name
 * look-up. It reads the account's ranges from /etc/subuid when it runs, as a
 * text, because a frozen range may belong to somebody else by then, and a new
 * one of the account would be open.
 *
 * @module
 */
import type { Account } from "../account.ts";
import { type Hold, lineOf, type Step } from "../plan.ts";
import type { Backend } from "../planner.ts";
import { uidOf } from "./accounts.ts";

/** Where the scripts are. /etc is there before any other file system is mounted. */
export const BOOT_DIRECTORY = "/etc/fishnet-firewall";

/** Where an administrator's units are (systemd.unit(5)). */
export const UNIT_DIRECTORY = "/etc/systemd/system";

/** The unit that puts one account's lock in force; its instance is the uid. */
export const LOCK_UNIT = "fishnet@";

/** The units that put every lock back in force when another firewall starts, and reloads. */
export const REPAIR_UNIT = "fishnet-repair.service";
export const RELOAD_UNIT = "fishnet-reload.service";

/** The target that {@link LOCK_UNIT} comes up with, before cron, logins and services. */
export const LOCK_WANTED_BY = "sysinit.target";

/** The services that may flush what is ours, in Debian, Fedora and their kin. */
const OTHER_FIREWALLS = [
  "nftables.service",
  "ufw.service",
  "firewalld.service",
  "netfilter-persistent.service",
  "iptables.service",
  "ip6tables.service",
].join(" ");

const MARK = "# Written by fishnet firewall enable --persist, removed by fishnet firewall disable.";

/**
 * `Before=sysinit.target` covers cron, user@, lingering services, getty and
 * ordinary services; `Before=network-pre.target` alone let cron come up first.
 * No `After=` on other firewalls: firewalld makes a cycle of it, which systemd
 * breaks by dropping this very job. No `ExecStop=`: stopping opens nothing. No
 * `ConditionPathExists=`: a missing script has to fail, not to be skipped.
 */
const LOCK_UNIT_LINES = [
  MARK,
  "[Unit]",
  "Description=Fishnet firewall: the lock of the account with uid %i",
  "DefaultDependencies=no",
  "IgnoreOnIsolate=yes",
  "StartLimitIntervalSec=0",
  "After=systemd-modules-load.service",
  "Wants=network-pre.target",
  "Before=network-pre.target sysinit.target systemd-user-sessions.service " +
  "user-%i.slice user@%i.service",
  "[Service]",
  "Type=oneshot",
  "RemainAfterExit=yes",
  `ExecStart=/bin/sh ${BOOT_DIRECTORY}/%i.sh`,
  "[Install]",
  `WantedBy=${LOCK_WANTED_BY}`,
];

/**
 * Runs every script, whichever fail, and again for some seconds: firewalld says that it has started,
 * or reloaded, before it flushes. In a unit, `$$` stands for `$` (systemd.service(5)).
 */
const RUN_ALL = `/bin/sh -c "for pause in 0 1 2 4 8; do sleep $$pause; failed=0; ` +
  `for s in ${BOOT_DIRECTORY}/*.sh; do test ! -e $$s || sh $$s || failed=1; done; done; ` +
  `exit $$failed"`;

/**
 * Starts with another firewall, after it, and then ends, so that the next start counts, too. Without
 * a limit, because each of many restarts flushes.
 */
const REPAIR_UNIT_LINES = [
  MARK,
  "[Unit]",
  "Description=Fishnet firewall: the locks of all accounts, again after another firewall",
  "StartLimitIntervalSec=0",
  `After=${OTHER_FIREWALLS}`,
  `PartOf=${OTHER_FIREWALLS}`,
  "[Service]",
  `ExecStart=${RUN_ALL}`,
  "[Install]",
  `WantedBy=${OTHER_FIREWALLS}`,
];

/** Only a unit that is active hears of a reload. Nothing tells of another firewall's stop. */
const RELOAD_UNIT_LINES = [
  MARK,
  "[Unit]",
  "Description=Fishnet firewall: listens to the reloads of other firewalls",
  "IgnoreOnIsolate=yes",
  "StartLimitIntervalSec=0",
  `After=${OTHER_FIREWALLS}`,
  `ReloadPropagatedFrom=${OTHER_FIREWALLS}`,
  "[Service]",
  "Type=oneshot",
  "RemainAfterExit=yes",
  "ExecStart=/bin/true",
  `ExecReload=/bin/systemctl --no-block restart ${REPAIR_UNIT}`,
  "[Install]",
  "WantedBy=multi-user.target",
];

/**
 * The step before every other: a system that systemd does not run, the inside
 * of a chroot for one, would never see the lock again (sd_booted(3)).
 */
export const systemdStep: Step = {
  run: `sudo sh -c 'test -d /run/systemd/system || ` +
    `{ echo "--persist needs systemd, which does not run here: leave it out" >&2; exit 1; }'`,
  why: "systemd runs this system, and so will put the lock in force at boot",
};

/** What a script locks, when the rules that it makes are gone: it stands behind `uid=UID`. */
export interface BootMark {
  readonly name: string;
  readonly backend: Backend;
  readonly onlyPorts: readonly number[];
}

const markOf = ({ name }: Account, { backend, onlyPorts }: BootLock) =>
  `# account ${name} by ${backend}${
    onlyPorts.length === 0 ? "" : `, only port ${onlyPorts.join(",")}`
  }`;

/** Reads `/etc/fishnet-firewall/UID.sh:` and the first line of the script, which has the uid again. */
export function parseBootMark(line: string): ({ readonly uid: number } & BootMark) | undefined {
  const [, uid, name, backend, ports] =
    /\/(\d+)\.sh:uid=\1 # account ([\w-]+) by (iptables|nftables)(?:, only port ([\d,]+))?$/
      .exec(line) ?? [];
  if (uid === undefined || name === undefined) return undefined;
  return {
    uid: Number(uid),
    name,
    backend: backend as Backend,
    onlyPorts: ports?.split(",").map(Number) ?? [],
  };
}

/**
 * The lines of `UID.sh` below its first, `uid=UID`: the steps as they stand in
 * the plan, each whether or not another failed, one script at a time.
 *
 * @param steps a plan for the account with the uid `$uid`
 */
export function bootScript(account: Account, steps: readonly Step[]): string[] {
  return [
    MARK,
    `# The lock of the account ${account.name}: the lines of the plan, run by root.`,
    "export uid PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    `exec 9<${BOOT_DIRECTORY} && flock 9`,
    ...steps.map((step) => `{ ${withoutSudo(lineOf(step))}; } || failed=1`),
    "exit ${failed:-0}",
  ];
}

/** Takes `sudo` from where a command begins: root needs none, and an account may have that name. */
function withoutSudo(line: string): string {
  return line.replace(/(^|\| )sudo /g, "$1");
}

/** What is put in force at boot. */
export interface BootLock {
  /** A plan for the account with the uid `$uid`. */
  readonly steps: readonly Step[];
  readonly backend: Backend;
  /** The ports that it limits loopback to. */
  readonly onlyPorts: readonly number[];
}

/**
 * What makes a lock outlast a reboot: four holds that all accounts share, then
 * the account's own two.
 *
 * @param lock what is to persist; without it nothing is taken, and what an earlier lock took is
 * released
 */
export function persistHolds(account: Account, lock: BootLock | undefined): Hold[] {
  const holds: Hold[] = [
    {
      take: unitStep(`${LOCK_UNIT}.service`, LOCK_UNIT_LINES, "the unit that locks at boot"),
      release: { run: SHARED_RELEASE, why: "remove the units when no script is left" },
    },
    {
      take: unitStep(
        REPAIR_UNIT,
        REPAIR_UNIT_LINES,
        "the unit that locks again when another firewall starts or restarts",
      ),
    },
    {
      take: unitStep(
        RELOAD_UNIT,
        RELOAD_UNIT_LINES,
        "the unit that locks again when another firewall reloads",
      ),
    },
    { take: listenStep },
    {
      ...(lock === undefined ? {} : { take: scriptStep(account, lock) }),
      release: {
        run: `sudo sh -ec '${scriptOf(account)}; set -- $f*; test -e $1 || exit 0; ` +
          `echo $f; flock ${BOOT_DIRECTORY} rm "$@"; ${REMOVE_FOLDER}'`,
        why: "remove the script that locks the account at boot",
      },
    },
    {
      take: linkStep(account),
      release: { run: unlinkLine(account), why: "systemd no longer locks the account at boot" },
    },
  ];
  if (lock !== undefined) return holds;
  return holds.flatMap(({ release }) => release === undefined ? [] : [{ release }]);
}

/** Says where the account's script is: `$u` and `$f`. */
const scriptOf = (account: Account) => `u=${uidOf(account)}; f=${BOOT_DIRECTORY}/$u.sh`;

/** Says which unit is the account's: `$u` and `$n`. */
const unitOf = (account: Account) => `u=${uidOf(account)}; n=${LOCK_UNIT}$u.service`;

/** Removes the folder of the scripts with the last of them. */
const REMOVE_FOLDER = `rmdir --ignore-fail-on-non-empty ${BOOT_DIRECTORY}`;

/** Makes systemd read its units again, where it runs. */
const RELOAD = "test ! -d /run/systemd/system || systemctl daemon-reload";

/** Stops the loaded units that match, where systemd runs; none is no error. */
const stop = (units: string) => `test ! -d /run/systemd/system || systemctl stop "${units}"`;

const SHARED_UNITS = `${UNIT_DIRECTORY}/${LOCK_UNIT}.service ` +
  `${UNIT_DIRECTORY}/${REPAIR_UNIT} ${UNIT_DIRECTORY}/${RELOAD_UNIT}`;

/** Removes the units and their links, as long as no account has a script. */
const SHARED_RELEASE = `sudo sh -ec 'set -- ${BOOT_DIRECTORY}/*.sh; test ! -e $1 || exit 0; ` +
  `set --; for f in ${SHARED_UNITS} ` +
  `${UNIT_DIRECTORY}/*.wants/${REPAIR_UNIT} ${UNIT_DIRECTORY}/*.wants/${RELOAD_UNIT}; do ` +
  `test ! -e $f && test ! -L $f || set -- "$@" $f; done; test $# -gt 0 || exit 0; ` +
  `printf "%s\\n" "$@"; ${stop("fishnet-re*.service")}; rm "$@"; ` +
  `for f; do test $f = \${f#*.wants/} || rmdir --ignore-fail-on-non-empty \${f%/*}; done; ${RELOAD}'`;

/** How a file is written. */
interface Write {
  /** Shell that sets `$f`, the file. */
  readonly place: string;
  /** Shell that prints `$f` and then puts `$f.new` into its place. */
  readonly change: string;
  /** Shell that removes what `place` made, after a failure. */
  readonly cleanUp?: string;
  /** A first word for the file, out of a variable. */
  readonly first?: string;
}

/**
 * Writes a file whole or not at all, also on a full disk and through a power
 * cut: beside it, to the disk, then into its place. What is right already is left alone.
 */
function writeLine({ place, change, cleanUp, first }: Write, lines: readonly string[]): string {
  const onExit = ["rm -f $f.new", ...(cleanUp === undefined ? [] : [cleanUp])].join("; ");
  return `sudo sh -ec '${place}; trap "${onExit}" EXIT; ` +
    `printf "%s\\n" ${first === undefined ? "" : `${first} `}"$@" | cat >$f.new; ` +
    `test -e $f && test "$(cat $f)" = "$(cat $f.new)" && exit; ` +
    `sync $f.new; ${change}' sh ${lines.map(quoted).join(" ")}`;
}

/** Quotes a line that holds single quotes, too, for sh and for dax's own shell. */
function quoted(line: string): string {
  return `'${line.replaceAll("'", `'"'"'`)}'`;
}

function unitStep(unit: string, lines: readonly string[], why: string): Step {
  return {
    run: writeLine({
      place: `f=${UNIT_DIRECTORY}/${unit}`,
      change: "echo $f; chmod 644 $f.new; mv $f.new $f; systemctl daemon-reload",
    }, lines),
    why,
    undo: [SHARED_RELEASE],
  };
}

const listenStep: Step = {
  check: `sudo sh -c 'systemctl -q is-enabled ${REPAIR_UNIT} && ` +
    `systemctl -q is-enabled ${RELOAD_UNIT} && systemctl -q is-active ${RELOAD_UNIT}'`,
  run: `sudo sh -c 'systemctl -q enable ${REPAIR_UNIT} ${RELOAD_UNIT} && ` +
    `systemctl start ${RELOAD_UNIT}'`,
  why: "systemd listens to the other firewalls",
  undo: [SHARED_RELEASE],
};

function scriptStep(account: Account, lock: BootLock): Step {
  return {
    run: writeLine({
      place: `umask 077; ${scriptOf(account)}; mkdir -p ${BOOT_DIRECTORY}`,
      first: `"uid=$u ${markOf(account, lock)}"`,
      change: "rm -f $f.old; test ! -e $f || ln $f $f.old; echo $f; mv $f.new $f",
      cleanUp: REMOVE_FOLDER,
    }, bootScript(account, lock.steps)),
    why: "the lines above, for boot: with the uid for the name, since names may not be known yet",
    undo: [
      `sudo sh -ec '${scriptOf(account)}; if test -e $f.old; then mv $f.old $f; ` +
      `else rm -f $f; ${REMOVE_FOLDER}; fi'`,
    ],
  };
}

/** The first start runs the script: what fails at boot fails now. */
function linkStep(account: Account): Step {
  return {
    check: `sudo sh -c '${unitOf(account)}; systemctl -q is-enabled $n'`,
    run: `sudo sh -c '${unitOf(account)}; systemctl -q enable $n && ` +
      `systemctl start $n || ` +
      `{ systemctl -q disable $n; systemctl reset-failed $n; exit 1; }'`,
    why: "systemd runs the script at boot, before cron, logins, services and the network",
    undo: [unlinkLine(account)],
  };
}

function unlinkLine(account: Account): string {
  return `sudo sh -ec '${unitOf(account)}; l=${UNIT_DIRECTORY}/${LOCK_WANTED_BY}.wants/$n; ` +
    `test -L $l || exit 0; echo $l; ${stop("fishnet@$u.*")}; rm $l; ` +
    `rmdir --ignore-fail-on-non-empty \${l%/*}; ${RELOAD}'`;
}

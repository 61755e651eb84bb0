/**
 * The macOS backend: pf. Each agent has an anchor of its own, which one line of
 * /etc/pf.conf calls. What is there then, for an account `USER`:
 *
 *     anchor "com.fishnet.localonly/*"                     in /etc/pf.conf and in the running rules
 *     /etc/pf.anchors/com.fishnet.localonly.USER           the rules, with the uid as a number
 *     com.fishnet.localonly/USER                           the anchor that they are loaded into
 *     /var/db/fishnet/USER.token                           what pfctl -E printed: our reference
 *     /Library/LaunchDaemons/com.fishnet.localonly.USER.plist    with --persist
 *
 * Nothing here turns pf off, nor loads /etc/pf.conf over the running rules: VPNs
 * and Internet Sharing add calls at run time, which no file holds. Our own call is
 * put into what runs by reading that back (pfctl -s rules) and loading it with
 * one line more (pfctl -R: the filter rules alone), as several VPN clients do.
 *
 * @module
 */
import type { Account } from "../account.ts";
import type { Hold, Step } from "../plan.ts";

/** The parent of all our anchors; the files are named after it too, as on the reference page. */
export const ANCHOR_ROOT = "com.fishnet.localonly";

/** The line of /etc/pf.conf. */
export const ANCHOR_CALL = `anchor "${ANCHOR_ROOT}/*"`;

/** How pfctl prints that call back: an omitted criterion is `all` (pf.conf(5)). */
export const PRINTED_CALL = `${ANCHOR_CALL} all`;

/** What stands after our line where the one above it had no newline, to take it out exactly. */
export const NO_NEWLINE_MARK = " # the line above had no newline";

const STATE_DIRECTORY = "/var/db/fishnet";

/**
 * The anchor with an account's rules. pf's names hold 63 characters: 22 + 33 fit. pfctl keeps names
 * that begin with `_` to itself (pfctl.c), so such an account's anchor begins with a dot.
 */
export const anchorOf = (name: string) =>
  `${ANCHOR_ROOT}/${name.startsWith("_") ? `.${name}` : name}`;

/** The file with an account's rules. */
export const ruleFileOf = (name: string) => `/etc/pf.anchors/${ANCHOR_ROOT}.${name}`;

/** The file with what `pfctl -E` printed: the token is in it. Root alone may read it. */
export const tokenFileOf = (name: string) => `${STATE_DIRECTORY}/${name}.token`;

/** The name of an account's LaunchDaemon. */
export const daemonOf = (name: string) => `${ANCHOR_ROOT}.${name}`;

/** The LaunchDaemon's property list. */
export const daemonFileOf = (name: string) => `/Library/LaunchDaemons/${daemonOf(name)}.plist`;

/**
 * The rules of one account, as they stand in its file.
 *
 * `user` matches TCP and UDP alone; `proto` and `port 1:65535` keep the rule off
 * other people's fragments, which have no ports (pf.conf(5), and xnu's pf.c).
 * `on ! lo0` rather than addresses: this machine's own addresses go over lo0
 * too, and an address would make the rule speak of one family only. There is
 * no pass rule: one would make states, and cut connections without any.
 *
 * @param onlyPorts the TCP ports that loopback is limited to; none leaves it open. Only the packet
 * that opens a connection is judged, so the account's own servers can still answer.
 */
export function rulesFor(uid: string, onlyPorts: readonly number[]): string[] {
  const all = "from any to any port 1:65535";
  const rules = [
    `block return out quick on ! lo0 proto { tcp udp } ${all} user ${uid}`,
    `block drop in quick on ! lo0 proto tcp ${all} user ${uid}`,
  ];
  if (onlyPorts.length === 0) return rules;
  const others = otherPorts(onlyPorts).map(([first, last]) => `${first}:${last}`).join(" ");
  return [
    ...rules,
    `block return out quick on lo0 proto tcp from any to any port { ${others} } ` +
    `user ${uid} flags S/SA`,
    `block return out quick on lo0 proto udp ${all} user ${uid}`,
  ];
}

/** The ranges between the given ports: `port != a` twice would match every port. */
export function otherPorts(ports: readonly number[]): (readonly [number, number])[] {
  const sorted = [...new Set(ports)].toSorted((a, b) => a - b);
  return [0, ...sorted]
    .map((port, i) => [port + 1, (sorted[i] ?? 65536) - 1] as const)
    .filter(([first, last]) => first <= last);
}

/**
 * The first step of every lock: root is never locked, nor what does not exist. Other names with
 * uid 0 may occur, and only the machine knows them. Nor is an account locked under a name that it
 * does not have: macOS finds `Agent` for `agent`, in its directory and as a file, but pf does not.
 */
export function pfGuardStep(account: Account): Step {
  const { name } = account;
  return {
    run: `sudo sh -ec 'u=${uidOf(account)}; test $u -gt 0; n=$(id -un $u); ` +
      `test "$n" = ${name} || { echo "the account is called $n" >&2; exit 1; }'`,
    why: "the account exists under this very name, and is not root under another",
  };
}

/** Everything that the pf backend takes to lock one account, in order. */
export function pfHolds(
  account: Account,
  { onlyPorts, persist }: { readonly onlyPorts: readonly number[]; readonly persist: boolean },
): Hold[] {
  return [
    DIRECTORY_HOLD,
    PF_CONF_HOLD,
    CALL_HOLD,
    fileHold(account, onlyPorts),
    anchorHold(account),
    referenceHold(account),
    daemonHold(account, persist),
  ];
}

/* Below, every piece of shell runs inside sudo sh -c '…', so none holds a single quote. */

/** A text between double quotes of the shell, in which `$` keeps its meaning. */
const quoted = (text: string) => `"${text.replaceAll('"', '\\"')}"`;

/** The account's uid: a number in the rules needs no directory service at boot. */
const uidOf = ({ name, uid }: Account) => uid === undefined ? `$(id -u ${name})` : `${uid}`;

/** Goes on only where no account is locked any more: what follows is shared. */
const NOBODY_LEFT = `set -- /etc/pf.anchors/${ANCHOR_ROOT}.*; test ! -e "$1" || exit 0`;

/**
 * Prints the arguments, a line each, in the order in which they were printed: a
 * line of {@link Step.undoEach} gets them last first.
 */
const ARGUMENTS = `printf "%s\\n" "$@" | awk "{a[NR]=\\$0} END{for(i=NR;i;i--)print a[i]}"`;

/** Works in {@link STATE_DIRECTORY}, on a file there which is gone in the end, come what may. */
const withDraft = (draft: string) => `cd ${STATE_DIRECTORY}; trap "rm -f ${draft}" EXIT`;

/** Prints what the file `$f` holds, or `-` where there is none: {@link RESTORED} reads it. */
const PRINTED = "if test -e $f; then cat $f; else echo -; fi";

/** Gives the file `$f` back what {@link PRINTED} printed. */
const RESTORED = `if test "$1" = -; then rm -f $f; else ${ARGUMENTS} >$f; fi`;

const DIRECTORY_HOLD: Hold = {
  take: {
    check: `sudo test -d ${STATE_DIRECTORY}`,
    run: `sudo mkdir -m 700 ${STATE_DIRECTORY}`,
    why: "a directory that root alone may enter, for what has to be given back later",
    undo: [`sudo rm -rf ${STATE_DIRECTORY}`],
  },
  release: {
    run: `sudo sh -ec '${NOBODY_LEFT}; test -d ${STATE_DIRECTORY} || exit 0; ` +
      `echo ${STATE_DIRECTORY}; rm -rf ${STATE_DIRECTORY}'`,
    why: "remove our directory when no account is left",
  },
};

const CALL_PATTERN = `^anchor "${ANCHOR_ROOT}/\\*"`;

/** Every change of pf.conf: on a copy with its mode and owner, which then takes its place. */
const editPfConf = (edit: string) =>
  `f=/etc/pf.conf; if test -L $f; then echo "$f is a link: edit what it is made from" >&2; exit 1; fi; ` +
  `${withDraft("pf.conf")}; cp -p $f pf.conf; ${edit}; mv pf.conf $f`;

/** A file for pfctl ends in a newline; where this one did not, a mark remembers that. */
const APPEND_CALL = editPfConf(
  `e=$(tail -c 1 pf.conf); test -z "$e" || echo >>pf.conf; ` +
    `printf "%s\\n" ${quoted(ANCHOR_CALL)}"\${e:+${NO_NEWLINE_MARK}}" >>pf.conf; ` +
    `pfctl -nf pf.conf`,
);

/** Takes our line out. `n`: the file ends in a newline; `m`: our line is the last, and marked. */
const REMOVE_CALL = editPfConf(
  `n=; test -n "$(tail -c 1 pf.conf)" || n=1; awk -v n=$n -v c=${quoted(ANCHOR_CALL)} ` +
    `"index(\\$0,c)==1{m=/${NO_NEWLINE_MARK.trim()}/;next}` +
    `{printf \\"%s%s\\",s,\\$0;s=\\"\\n\\";m=0}END{if(n&&!m)printf s}" /etc/pf.conf >pf.conf`,
);

const PF_CONF_HOLD: Hold = {
  take: {
    check: `sudo grep -q '${CALL_PATTERN}' /etc/pf.conf`,
    run: `sudo sh -ec '${APPEND_CALL}'`,
    why: "the line of pf.conf that calls our anchors, at its end, for every start of the system",
    undo: [`sudo sh -ec '${REMOVE_CALL}'`],
  },
  release: {
    run: `sudo sh -ec '${NOBODY_LEFT}; grep -q ${quoted(CALL_PATTERN)} /etc/pf.conf || exit 0; ` +
      `echo /etc/pf.conf; mkdir -p -m 700 ${STATE_DIRECTORY}; ${REMOVE_CALL}'`,
    why: "take that line out of pf.conf when no account is left",
  },
};

/** The running rules without our call. */
const WITHOUT_CALL = `r=$(pfctl -s rules); n=$(printf "%s\\n" "$r" | ` +
  `sed ${quoted(`\\|${CALL_PATTERN}|d`)})`;
const LOAD_WITHOUT_CALL = `printf "%s\\n" "$n" | pfctl -R -f -`;

const CALL_HOLD: Hold = {
  take: {
    check: `sudo sh -c 'pfctl -s rules | grep -q ${quoted(CALL_PATTERN)}'`,
    run: `sudo sh -ec 'r=$(pfctl -s rules); printf "%s\\n" "$r" ${quoted(ANCHOR_CALL)} | ` +
      `pfctl -R -f -'`,
    why: "the same line in the running rules, all of which stay",
    undo: [`sudo sh -ec '${WITHOUT_CALL}; ${LOAD_WITHOUT_CALL}'`],
  },
  release: {
    run: `sudo sh -ec '${NOBODY_LEFT}; ${WITHOUT_CALL}; test "$r" != "$n" || exit 0; ` +
      `echo ${quoted(ANCHOR_CALL)}; ${LOAD_WITHOUT_CALL}'`,
    why: "take it out of the running rules when no account is left",
  },
};

function fileHold(account: Account, onlyPorts: readonly number[]): Hold {
  const { name } = account;
  const f = `f=${ruleFileOf(name)}`;
  const draft = `${name}.rules`;
  const undoEach = `sudo sh -ec '${f}; ${RESTORED}' sh`;
  return {
    take: {
      run: `sudo sh -ec '${f}; u=${uidOf(account)}; ${withDraft(draft)}; ` +
        `printf "%s\\n" ${rulesFor("$u", onlyPorts).map(quoted).join(" ")} >${draft}; ` +
        `if cmp -s ${draft} $f; then exit 0; fi; pfctl -n -a ${anchorOf(name)} -f ${draft}; ` +
        `${PRINTED}; chmod 644 ${draft}; mv ${draft} $f'`,
      why: `${name}: everything but loopback is refused` +
        (onlyPorts.length === 0 ? "" : `, and loopback but TCP to ${onlyPorts.join(", ")}`) +
        `; pfctl has to understand it first`,
      undoEach,
    },
    release: {
      run: `sudo sh -ec '${f}; test -e $f || exit 0; cat $f; rm $f'`,
      why: `${name}: remove the file with the rules`,
      undoEach,
    },
  };
}

/**
 * pfctl prints with one function what it would load (-nv) and what is loaded, so the two can be
 * compared. It fails for an anchor that is not there, which then has no rules.
 */
function anchorHold({ name }: Account): Hold {
  const a = `a=${anchorOf(name)}`;
  const undoEach = `sudo sh -ec '${ARGUMENTS} | pfctl -a ${anchorOf(name)} -f -' sh`;
  return {
    take: {
      check: `sudo sh -ec '${a}; r=$(pfctl -a $a -s rules | grep -o "block.*"); ` +
        `test "$r" = "$(pfctl -nv -a $a -f ${ruleFileOf(name)} | grep -o "block.*")"'`,
      run: `sudo sh -ec '${a}; pfctl -a $a -s rules 2>/dev/null || :; ` +
        `pfctl -a $a -f ${ruleFileOf(name)}'`,
      why: `${name}: load them into the account's own anchor, which touches no other rule`,
      undoEach,
    },
    release: {
      run: `sudo sh -ec '${a}; pfctl -a $a -s rules 2>/dev/null || :; ` +
        `pfctl -a $a -F rules >/dev/null'`,
      why: `${name}: empty the account's anchor`,
      undoEach,
    },
  };
}

/** Prints the token of our reference, from the file `$f`. */
const TOKEN = `sed -n "s/^Token : //p" $f`;

/**
 * Gives our reference back. References end with a reboot and with pfctl -d: one that pf no longer
 * knows is no failure ("pf: token invalid", or "pf not enabled" where pf is off).
 */
const GIVE_BACK = `t=$(${TOKEN}); test -z "$t" || m=$(pfctl -X $t 2>&1) || case "$m" in ` +
  `*"token invalid"*|*"not enabled"*) ;; *) echo "$m" >&2; exit 1;; esac; rm $f`;

function referenceHold({ name }: Account): Hold {
  const f = `f=${tokenFileOf(name)}`;
  return {
    take: {
      check: `sudo sh -ec '${f}; t=$(${TOKEN}); test -n "$t"; ` +
        `pfctl -s References | grep -q " $t "'`,
      // pfctl prints the token on stderr: straight into our file, so that it cannot get lost.
      run: `sudo sh -ec '${f}; umask 77; pfctl -E >$f 2>&1 && grep -q "^Token : " $f || ` +
        `{ cat $f >&2; rm $f; exit 1; }'`,
      why: `${name}: turn pf on by a reference of our own, and keep its token`,
      undo: [`sudo sh -ec '${f}; ${GIVE_BACK}'`],
    },
    release: {
      run: `sudo sh -ec '${f}; test -e $f || exit 0; echo $f; ${GIVE_BACK}'`,
      why: `${name}: give the reference back; pf stays on while others hold one`,
    },
  };
}

/**
 * What the LaunchDaemon does at boot. macOS loads pf.conf then and leaves pf off (com.apple.pfctl);
 * where it has not loaded it yet, the daemon does. No quotes, for the property list's sake.
 */
const bootScript = (name: string) =>
  `f=${tokenFileOf(name)}; umask 77; ` +
  `pfctl -s rules | grep -q ${ANCHOR_ROOT}/ || pfctl -f /etc/pf.conf; ` +
  `pfctl -a ${anchorOf(name)} -f ${ruleFileOf(name)}; ` +
  `pfctl -s References | grep -qw $(sed -n s/^Token.:.//p $f) || pfctl -E >$f 2>&1`;

/** The property list, on one line (launchd.plist(5)). */
export function daemonPlist(name: string): string {
  const strings = (...texts: string[]) =>
    texts.map((text) => `<string>${text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</string>`)
      .join("");
  return `<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>` +
    `<key>Label</key>${strings(daemonOf(name))}` +
    `<key>ProgramArguments</key><array>${strings("/bin/sh", "-c", bootScript(name))}</array>` +
    `<key>RunAtLoad</key><true/></dict></plist>`;
}

function daemonHold({ name }: Account, persist: boolean): Hold {
  const f = `f=${daemonFileOf(name)}; j=system/${daemonOf(name)}`;
  const known = "launchctl print $j >/dev/null 2>&1";
  const bootout = `if ${known}; then launchctl bootout $j; fi`;
  const bootstrap = "launchctl bootstrap system $f";
  const draft = `${name}.plist`;
  const plist = quoted(daemonPlist(name)).replaceAll("$", "\\$");
  const undoEach = `sudo sh -ec '${f}; ${bootout}; ${RESTORED}; ` +
    `if test -e $f; then ${bootstrap}; fi' sh`;
  const release = {
    run: `sudo sh -ec '${f}; if test ! -e $f; then ${known} || exit 0; fi; ` +
      `${PRINTED}; ${bootout}; rm -f $f'`,
    why: `${name}: remove the LaunchDaemon, where there is one`,
    undoEach,
  };
  if (!persist) return { release };
  return {
    take: {
      run: `sudo sh -ec '${f}; ${withDraft(draft)}; printf "%s\\n" ${plist} >${draft}; ` +
        `if cmp -s ${draft} $f && ${known}; then exit 0; fi; plutil -lint -s ${draft}; ` +
        `${PRINTED}; chown 0:0 ${draft}; chmod 644 ${draft}; ${bootout}; ` +
        `mv ${draft} $f; ${bootstrap}'`,
      why: `${name}: a LaunchDaemon that loads the anchor and turns pf on at boot`,
      undoEach,
    },
    release,
  };
}

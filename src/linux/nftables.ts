/**
 * The nftables backend: a table of our own that covers both families. All
 * locked uids stand in one set, so the cost to others does not grow with it.
 *
 * @module
 */
import type { Account } from "../account.ts";
import type { Hold } from "../plan.ts";
import { LISTED_RANGE, rangesStep, subordinateEntries, uidOf } from "./accounts.ts";
import { routingHolds } from "./routing.ts";

/** A table with one set, or map, of uids. */
export interface Table {
  readonly name: string;
  readonly kind: "set" | "map";
  readonly set: string;
  /**
   * What nft reads to make it. `add` leaves what is there, the set's elements too; `flush chain`
   * and the rules are one transaction, so a damaged table is mended without a gap (nft(8)).
   */
  readonly body: readonly string[];
  /** The rules that a sound table has: an extended regular expression, and how many match it. */
  readonly rules: string;
  readonly ruleCount: number;
}

/** The table that refuses, and drops, what leaves. */
export const LOCK: Table = {
  name: "inet fishnet",
  kind: "set",
  set: "locked",
  body: [
    "add table inet fishnet",
    "add set inet fishnet locked { type uid; flags interval; }",
    "add chain inet fishnet jail",
    "add chain inet fishnet out { type filter hook output priority filter - 10; }",
    "add chain inet fishnet post { type filter hook postrouting priority srcnat + 10; }",
    "flush chain inet fishnet jail",
    "flush chain inet fishnet out",
    "flush chain inet fishnet post",
    "add rule inet fishnet jail meta l4proto tcp reject with tcp reset",
    "add rule inet fishnet jail reject with icmpx admin-prohibited",
    'add rule inet fishnet out oifname != "lo" meta skuid @locked goto jail',
    'add rule inet fishnet post oifname != "lo" meta skuid @locked drop',
  ],
  rules: "@locked|reject with",
  ruleCount: 4,
};

/** The table for `--only-port`: apart, because `ct` makes the kernel track connections. */
export const LOOPBACK: Table = {
  name: "inet fishnet_loopback",
  kind: "map",
  set: "narrowed",
  body: [
    "add table inet fishnet_loopback",
    "add map inet fishnet_loopback narrowed { type uid : verdict; flags interval; }",
    "add chain inet fishnet_loopback out { type filter hook output priority filter - 10; }",
    "flush chain inet fishnet_loopback out",
    'add rule inet fishnet_loopback out oifname "lo" ct direction original ' +
    "meta skuid vmap @narrowed",
  ],
  rules: "vmap @narrowed",
  ruleCount: 1,
};

/** Goes on only where the table is there: elsewhere nothing of ours is in it. */
function whereThereIs({ name }: Table): string {
  return `t=$(nft list tables) || exit 1; printf "%s\\n" "$t" | grep -qx "table ${name}" || exit 0`;
}

const listElements = ({ name, kind, set }: Table) => `nft list ${kind} ${name} ${set}`;

/** The line that makes the table, or mends it. */
export function tableLine({ body }: Table): string {
  return `echo '${body.join("; ")}' | sudo nft -f -`;
}

function tableHold(table: Table): Hold {
  const { name, rules, ruleCount } = table;
  const release = `sudo sh -c '${whereThereIs(table)}; ` +
    `${listElements(table)} | grep -q elements || { echo ${name}; nft delete table ${name}; }'`;
  return {
    take: {
      check: `sudo sh -c 'test $(nft list table ${name} | grep -cE "${rules}") -eq ${ruleCount}'`,
      run: tableLine(table),
      why: `${name}: rules for every uid in its set, which others' flushes do not touch`,
      undo: [release],
    },
    release: { run: release, why: `${name}: remove the table when no account is left in it` },
  };
}

/** Prints the account's elements, a line each: what matches `part`, the uids alone by default. */
function recorded(account: Account, table: Table, part = "\\2"): string {
  return `${listElements(table)} | tr , "\\n" | sed -nE ` +
    `"s/^[^0-9]*(([0-9-]+) comment \\"${account.name}\\"( : goto [a-z0-9_]+)?).*/${part}/p"`;
}

/** Succeeds when another account's element is the range `$r`. */
function heldByOthers(account: Account, table: Table): string {
  return `${listElements(table)} | tr , "\\n" | grep -v "comment \\"${account.name}\\"" | ` +
    `grep -q "[^0-9-]${LISTED_RANGE} comment"`;
}

/**
 * Runs `body` for each subordinate range, with `$r` as FIRST-LAST. An interval
 * set refuses overlaps, so a range that overlaps an earlier one is cut to the rest.
 */
function forEachDisjointRange(account: Account, body: string): string {
  return `e=-1; ${subordinateEntries(account)} | sort -t: -n -k2 | while IFS=: read n a c; do ` +
    `l=$((a+c-1)); [ $l -gt $e ] || continue; [ $a -gt $e ] || a=$((e+1)); e=$l; r=$a-$l; ` +
    `${body}; done`;
}

/** Puts the account's uid and ranges into a table's set; a map has a verdict for each. */
function elementHolds(
  account: Account,
  table: Table,
  verdict: string,
  whys: { readonly uid: string; readonly ranges: string; readonly release: string },
): Hold[] {
  const { name, set } = table;
  const value = `comment \\"${account.name}\\"${verdict}`;
  // Not `get element`: nft 1.0.6 does not find an interval in a map.
  const present = (uids: string) => `${listElements(table)} | grep -q "[^0-9-]${uids} ${value}"`;
  // Not `add`, which also succeeds where another account has the uids, whose disable frees them.
  const add = (uids: string) => `nft create element ${name} ${set} "{ ${uids} ${value} }"`;
  const remove = (uids: string) => `nft delete element ${name} ${set} "{ ${uids} }"`;
  const withUid = (command: string) => `sudo sh -c 'u=${uidOf(account)}; ${command}'`;
  return [
    {
      take: {
        check: withUid(present("$u")),
        run: withUid(add("$u")),
        why: whys.uid,
        undo: [withUid(remove("$u"))],
      },
      release: {
        run: `sudo sh -c '${whereThereIs(table)}; ${recorded(account, table, "\\1")} | ` +
          `while read e; do echo "$e"; ${remove("${e%% *}")} || exit 1; done'`,
        undoEach: `sudo sh -ec 'for e; do nft add element ${name} ${set} "{ $e }"; done' undo`,
        why: whys.release,
      },
    },
    {
      take: rangesStep(
        { present: present(LISTED_RANGE), add: add("$r"), remove: remove("$r") },
        whys.ranges,
        (body) => forEachDisjointRange(account, body),
      ),
    },
  ];
}

/** The chain that allows the given ports on loopback; accounts with the same ports share it. */
function portsChain(ports: readonly number[]): string {
  return `only_${ports.join("_")}`;
}

function portsHold(ports: readonly number[]): Hold {
  const chain = `${LOOPBACK.name} ${portsChain(ports)}`;
  const body = [
    `add chain ${chain}`,
    `flush chain ${chain}`,
    `add rule ${chain} tcp dport { ${ports.join(", ")} } return`,
    `add rule ${chain} meta l4proto tcp reject with tcp reset`,
    `add rule ${chain} reject with icmpx admin-prohibited`,
  ];
  return {
    take: {
      check: `sudo sh -c 'test $(nft list chain ${chain} | grep -cE "dport|reject") -eq 3'`,
      run: `echo '${body.join("; ")}' | sudo nft -f -`,
      why: `on loopback, allow TCP to ${ports.join(", ")} and refuse the rest`,
      undo: [`sudo nft delete chain ${chain}`],
    },
  };
}

/** Everything that the nftables backend takes to lock one account, in order. */
export function nftablesHolds(account: Account, onlyPorts: readonly number[]): Hold[] {
  const limited = onlyPorts.length > 0;
  // Without --only-port nothing is taken, but an earlier lock may have limited loopback.
  const loopback = (holds: Hold[]) =>
    limited ? holds : holds.flatMap(({ release }) => release === undefined ? [] : [{ release }]);
  return [
    // The tables come first, so that a disable deletes them last: it cannot put back what is in them.
    ...loopback([tableHold(LOOPBACK)]),
    tableHold(LOCK),
    ...elementHolds(account, LOCK, "", {
      uid: "both families: refuse, and drop, what leaves the account by a real device",
      ranges: "the same for each range of subordinate uids (rootless containers, say)",
      release: "take the account and its subordinate uids out of the set",
    }),
    ...routingHolds(account, {
      recorded: `nft list tables | grep -qx "table ${LOCK.name}" && ${recorded(account, LOCK)}`,
      heldByOthers: heldByOthers(account, LOCK),
    }),
    ...(limited ? [portsHold(onlyPorts)] : []),
    ...loopback(elementHolds(account, LOOPBACK, ` : goto ${portsChain(onlyPorts)}`, {
      uid: "on loopback, refuse the account whatever its ports do not allow",
      ranges: "the same for each range of subordinate uids",
      release: "give the account and its subordinate uids all of loopback back",
    })),
  ];
}

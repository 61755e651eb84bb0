/**
 * The nftables backend: a table of our own that covers both families. Locked
 * uids stand in a set that is a hash, and ranges of subordinate uids in one of
 * intervals, which is searched for uids of their height alone: so the cost to
 * others does not grow with the number of accounts.
 *
 * @module
 */
import type { Account } from "../account.ts";
import type { Hold } from "../plan.ts";
import { LISTED_RANGE, rangesStep, subordinateEntries, uidOf } from "./accounts.ts";
import { routingHolds } from "./routing.ts";

/** A set, or a map, of uids. */
export interface Collection {
  readonly kind: "set" | "map";
  readonly name: string;
  /** The lowest uid that is looked for in it, if not 0. */
  readonly first?: number;
}

/** A table of ours. */
export interface Table {
  readonly name: string;
  /** Where the accounts' uids are. */
  readonly uids: Collection;
  /** Where the ranges of their subordinate uids are. */
  readonly ranges: Collection;
  /**
   * What nft reads to make it. `add` leaves what is there, the elements too; `flush chain` and the
   * rules are one transaction, so a damaged table is mended without a gap (nft(8)).
   */
  readonly body: readonly string[];
  /** The rules that a sound table has: an extended regular expression, and how many match it. */
  readonly rules: string;
  readonly ruleCount: number;
}

/**
 * Where subordinate uids may begin: uids of ordinary accounts are below (useradd gives ranges from
 * 100000 on, SUB_UID_MIN of login.defs(5)), and are not looked for among the ranges.
 */
const FIRST_SUBORDINATE = 65536;

/**
 * The rules of a chain that does something to what leaves by a real device. Each rule and each
 * question costs every packet of everybody: so loopback, whose index is 1 everywhere, is let go
 * first, and once.
 */
const rulesOf = (chain: string, verdict: string) =>
  [
    'oif "lo" accept',
    `meta skuid @locked ${verdict}`,
    `meta skuid >= ${FIRST_SUBORDINATE} meta skuid @subordinate ${verdict}`,
  ].map((rule) => `add rule inet fishnet ${chain} ${rule}`);

/** The table that refuses, and drops, what leaves. */
export const LOCK: Table = {
  name: "inet fishnet",
  uids: { kind: "set", name: "locked" },
  ranges: { kind: "set", name: "subordinate", first: FIRST_SUBORDINATE },
  body: [
    "add table inet fishnet",
    "add set inet fishnet locked { type uid; }",
    "add set inet fishnet subordinate { type uid; flags interval; }",
    "add chain inet fishnet jail",
    "add chain inet fishnet out { type filter hook output priority filter - 10; }",
    "add chain inet fishnet post { type filter hook postrouting priority srcnat + 10; }",
    "flush chain inet fishnet jail",
    "flush chain inet fishnet out",
    "flush chain inet fishnet post",
    "add rule inet fishnet jail meta l4proto tcp reject with tcp reset",
    "add rule inet fishnet jail reject with icmpx admin-prohibited",
    ...rulesOf("out", "goto jail"),
    ...rulesOf("post", "drop"),
  ],
  rules: "@|reject with|accept$",
  ruleCount: 8,
};

const NARROWED: Collection = { kind: "map", name: "narrowed" };

/** The table for `--only-port`: apart, because `ct` makes the kernel track connections. */
export const LOOPBACK: Table = {
  name: "inet fishnet_loopback",
  uids: NARROWED,
  ranges: NARROWED,
  body: [
    "add table inet fishnet_loopback",
    "add map inet fishnet_loopback narrowed { type uid : verdict; flags interval; }",
    "add chain inet fishnet_loopback out { type filter hook output priority filter - 10; }",
    "flush chain inet fishnet_loopback out",
    // Replies of the account's own servers. What is not tracked has no direction, and is judged.
    'add rule inet fishnet_loopback out oifname "lo" ct direction reply accept',
    'add rule inet fishnet_loopback out oifname "lo" meta skuid vmap @narrowed',
  ],
  rules: "reply accept|vmap @narrowed",
  ruleCount: 2,
};

/** Goes on only where the table is there: elsewhere nothing of ours is in it. */
function whereThereIs({ name }: Table): string {
  return `t=$(nft list tables) || exit 1; printf "%s\\n" "$t" | grep -qx "table ${name}" || exit 0`;
}

const listTable = ({ name }: Table) => `nft list table ${name}`;

const listElements = ({ name }: Table, collection: Collection) =>
  `nft list ${collection.kind} ${name} ${collection.name}`;

/** The line that makes the table, or mends it. */
export function tableLine({ body }: Table): string {
  return `echo '${body.join("; ")}' | sudo nft -f -`;
}

function tableHold(table: Table): Hold {
  const { name, rules, ruleCount } = table;
  const release = `sudo sh -c '${whereThereIs(table)}; ` +
    `${listTable(table)} | grep -q elements || { echo ${name}; nft delete table ${name}; }'`;
  return {
    take: {
      check: `sudo sh -c 'test $(${listTable(table)} | grep -cE "${rules}") -eq ${ruleCount}'`,
      run: tableLine(table),
      why: `${name}: rules for every uid in its set, which others' flushes do not touch`,
      undo: [release],
    },
    release: { run: release, why: `${name}: remove the table when no account is left in it` },
  };
}

/** Prints the account's elements of a listing, a line each: by default the uids alone. */
function recorded(account: Account, listing: string, part = "\\2"): string {
  return `${listing} | tr , "\\n" | sed -nE ` +
    `"s/^[^0-9]*(([0-9-]+) comment \\"${account.name}\\"( : goto [a-z0-9_]+)?).*/${part}/p"`;
}

/** Prints the ranges that other accounts hold, a line each. */
function heldByOthers(account: Account): string {
  return `${listTable(LOCK)} | tr , "\\n" | sed -nE ` +
    `"/comment \\"${account.name}\\"/!s/^[^0-9]*([0-9-]+) comment .*/\\1/p"`;
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

/** Puts the account's uid and ranges into a table; a map has a verdict for each. */
function elementHolds(
  account: Account,
  table: Table,
  verdict: string,
  whys: { readonly uid: string; readonly ranges: string; readonly release: string },
): Hold[] {
  const { uids, ranges } = table;
  const value = `comment \\"${account.name}\\"${verdict}`;
  // Not `get element`: nft 1.0.6 does not find an interval in a map.
  const present = (collection: Collection, uids: string) =>
    `${listElements(table, collection)} | grep -q "[^0-9-]${uids} ${value}"`;
  const place = (collection: Collection) => `element ${table.name} ${collection.name}`;
  // Not `add`, which also succeeds where another account has the uids, whose disable frees them.
  const add = (collection: Collection, uids: string) =>
    `nft create ${place(collection)} "{ ${uids} ${value} }"`;
  const inReach = ({ first = 0 }: Collection) =>
    first === 0 ? "" : `[ \${r%-*} -ge ${first} ] || { ` +
      `echo "subordinate uids below ${first} need --backend iptables" >&2; exit 1; }; `;
  const remove = (collection: Collection, uids: string) =>
    `nft delete ${place(collection)} "{ ${uids} }"`;
  const release = (collection: Collection): NonNullable<Hold["release"]> => ({
    run: `sudo sh -c '${whereThereIs(table)}; ` +
      `${recorded(account, listElements(table, collection), "\\1")} | ` +
      `while read e; do echo "$e"; ${remove(collection, "${e%% *}")} || exit 1; done'`,
    undoEach: `sudo sh -ec 'for e; do nft add ${place(collection)} "{ $e }"; done' undo`,
    why: collection === uids ? whys.release : `${whys.release}: its subordinate uids`,
  });
  const withUid = (command: string) => `sudo sh -c 'u=${uidOf(account)}; ${command}'`;
  return [
    {
      take: {
        check: withUid(present(uids, "$u")),
        run: withUid(add(uids, "$u")),
        why: whys.uid,
        undo: [withUid(remove(uids, "$u"))],
      },
      release: release(uids),
    },
    {
      take: rangesStep(
        {
          present: present(ranges, LISTED_RANGE),
          add: inReach(ranges) + add(ranges, "$r"),
          remove: remove(ranges, "$r"),
        },
        whys.ranges,
        (body) => forEachDisjointRange(account, body),
      ),
      ...(ranges === uids ? {} : { release: release(ranges) }),
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

/** Runs a command where the table of the lock is there. */
const whereLocked = (command: string) =>
  `! nft list tables | grep -qx "table ${LOCK.name}" || ${command}`;

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
      release: "take the account out of the set",
    }),
    ...routingHolds(account, {
      recorded: whereLocked(recorded(account, listTable(LOCK))),
      others: whereLocked(heldByOthers(account)),
    }),
    ...(limited ? [portsHold(onlyPorts)] : []),
    ...loopback(elementHolds(account, LOOPBACK, ` : goto ${portsChain(onlyPorts)}`, {
      uid: "on loopback, refuse the account whatever its ports do not allow",
      ranges: "the same for each range of subordinate uids",
      release: "give the account and its subordinate uids all of loopback back",
    })),
  ];
}

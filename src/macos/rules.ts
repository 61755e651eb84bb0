/**
 * The rules of one account: how they are written, and how they are read in the anchor's file and in
 * what pfctl prints back, which has one rule for each value of a list and `user = UID`.
 */
import { single, type UidRange, UidSet } from "../lock/uid_range.ts";

/** Our anchor in pf, as the reference page names it. */
export const ANCHOR = "com.fishnet.localonly";

/** The one file with the rules of every locked account. */
export const RULES_FILE = `/etc/pf.anchors/${ANCHOR}`;

/** What one account is limited to. */
export interface AccountRules {
  /** In a dry-run, the command that prints it. */
  readonly uid: number | string;
  /** Undefined where the file does not tell. */
  readonly owner: string | undefined;
  /** The rules against everything but loopback. */
  readonly base: boolean;
  /** The TCP ports that loopback is limited to; undefined leaves all of it open. */
  readonly onlyPorts: readonly number[] | undefined;
  /** Why the rules are not those that they should be. */
  readonly fault?: string;
}

const ALL = "from any to any port 1:65535";

/** How many ranges stand in one rule: more would make the line too long to read. */
const RANGES_IN_A_RULE = 3;

/**
 * The lines of one account in the file.
 *
 * `user` matches TCP and UDP alone; `proto` and `port 1:65535` keep the rule off other people's
 * fragments, which have no ports (pf.conf(5), and xnu's pf.c). `on ! lo0` rather than addresses:
 * this machine's own addresses go over lo0 too, and an address would make the rule speak of one
 * family only. There is no pass rule: one would make states, and cut connections without any. On
 * loopback only the packet that opens a connection is judged, so the account's own servers answer.
 *
 * `return` answers UDP by ICMP, and TCP by a reset where the checksum is there already
 * (pf_check_proto_cksum): on lo0, and where the network card makes it, a connection waits in vain.
 * `return-icmp` is no cure for IPv4, by reading: pf hands the packet on with a "don't fragment" that
 * icmp_error takes for a fragment.
 */
export function writtenRules({ uid, owner, base, onlyPorts }: AccountRules): string[] {
  return [
    `# ${owner ?? `uid ${uid}`}`,
    ...(base
      ? [
        `block return out quick on ! lo0 proto { tcp udp } ${ALL} user ${uid}`,
        `block drop in quick on ! lo0 proto tcp ${ALL} user ${uid}`,
      ]
      : []),
    ...(onlyPorts === undefined ? [] : [
      ...inRules(otherPorts(onlyPorts)).map((ranges) =>
        `block return out quick on lo0 proto tcp from any to any port { ${
          ranges.map(({ first, last }) => `${first}:${last}`).join(" ")
        } } user ${uid} flags S/SA`
      ),
      `block return out quick on lo0 proto udp ${ALL} user ${uid}`,
    ]),
  ];
}

/** Ports are numbers as uids are; `port != a` twice would match every port. */
export const otherPorts = (ports: readonly number[]): UidRange[] =>
  new UidSet(ports.map(single)).without(ALL_PORTS);

const ALL_PORTS = { first: 1, last: 65535 };

const inRules = (ranges: readonly UidRange[]) =>
  Map.groupBy(ranges, (_, i) => Math.floor(i / RANGES_IN_A_RULE)).values();

/** Any rule of ours, written or printed. */
const RULE = new RegExp(
  "^(?<front>block (?:return out|drop in) quick on (?:! )?lo0) " +
    "proto (?<protocols>\\{ tcp udp \\}|tcp|udp) from any to any " +
    "port (?<ports>\\{ [\\d: ]+ \\}|\\d+:\\d+) user (?:= )?(?<user>\\d+)(?<flags> flags S/SA)?$",
);

/** The reference page's own rules, which pf does not read: they may be there, and count as nothing. */
const PAGE_RULE = /^(block drop out quick|pass out quick on lo0) user \S+ to any$/;

/** What the file's lines, or pfctl's, come to, account by account, and those that are not ours. */
export function readRules(
  lines: readonly string[],
  names: ReadonlyMap<number, string> = new Map(),
): { readonly accounts: readonly AccountRules[]; readonly strange: readonly string[] } {
  const found = new Map<number, { owner: string | undefined; rules: Set<string> }>();
  const strange: string[] = [];
  let owner: string | undefined;
  for (const line of lines.map((text) => text.trim())) {
    if (line.startsWith("#")) owner = /^# ([A-Za-z_][\w-]*)$/.exec(line)?.[1];
    if (line === "" || line.startsWith("#") || PAGE_RULE.test(line)) continue;
    const user = Number(RULE.exec(line)?.groups?.["user"]);
    if (Number.isNaN(user)) {
      strange.push(line);
      continue;
    }
    const entry = found.get(user) ?? { owner, rules: new Set() };
    found.set(user, entry);
    for (const rule of printed(line)) entry.rules.add(rule);
  }
  return {
    accounts: [...found].map(([uid, { owner = names.get(uid), rules }]) =>
      judged(uid, owner, rules)
    ),
    strange,
  };
}

/** A rule of ours as the rules that pfctl prints of it; none for anything else. */
function printed(line: string): string[] {
  const { front, protocols, ports, user, flags = "" } = RULE.exec(line)?.groups ?? {};
  return listed(protocols).flatMap((protocol) =>
    listed(ports).map((range) => `${front} proto ${protocol} port ${range} user ${user}${flags}`)
  );
}

const listed = (text = "") => text.split(/[{} ]+/).filter((word) => word !== "");

function judged(uid: number, owner: string | undefined, rules: ReadonlySet<string>): AccountRules {
  const texts = [...rules];
  const ranges = texts.flatMap((rule): UidRange | [] => {
    const [, first, last] = / on lo0 proto tcp port (\d+):(\d+) /.exec(rule) ?? [];
    return first === undefined ? [] : { first: Number(first), last: Number(last) };
  });
  const account = {
    uid,
    owner,
    base: texts.some((rule) => rule.includes(" on ! lo0 ")),
    onlyPorts: texts.some((rule) => rule.includes(" on lo0 ")) ? portsBetween(ranges) : undefined,
  };
  const isWhole =
    rules.symmetricDifference(new Set(writtenRules(account).flatMap(printed))).size === 0;
  return isWhole ? account : { ...account, fault: "not all of the rules are there" };
}

/** The ports that no range holds: ours leave out no more than the fifteen that the command line takes. */
function portsBetween(ranges: readonly UidRange[]): number[] {
  return new UidSet(ranges).without(ALL_PORTS).flatMap(({ first, last }) =>
    Array.from({ length: Math.min(last - first + 1, 16) }, (_, i) => first + i)
  );
}

/**
 * The iptables backend: the reference page's own rule in OUTPUT, and the DROP
 * in mangle POSTROUTING that sees what OUTPUT cannot, in both families.
 *
 * A rule stores numbers. The comment `fishnet:NAME` tells whose they are, so
 * that the rules of a range that has left /etc/subuid can still be found.
 *
 * @module
 */
import type { Account } from "../account.ts";
import type { Hold, Step } from "../plan.ts";
import { forEachRange, LISTED_RANGE, NO_IPV6, ownerOf, rangesStep, uidOf } from "./accounts.ts";
import { routingHolds } from "./routing.ts";

/** One family's command, its name for a reader, and how its REJECT is saved. */
interface Family {
  readonly command: "iptables" | "ip6tables";
  readonly label: "IPv4" | "IPv6";
  readonly unreachable: string;
}

const IPV4: Family = { command: "iptables", label: "IPv4", unreachable: "icmp-port-unreachable" };
const IPV6: Family = { command: "ip6tables", label: "IPv6", unreachable: "icmp6-port-unreachable" };

/** A chain that rules of ours go into, first. */
interface Chain {
  readonly family: Family;
  /** The command with its table, `iptables -w -t mangle`. */
  readonly command: string;
  readonly name: string;
  /**
   * The saved rules (`-S`) that may stand above one of ours: ours, and whatever only refuses. Any
   * other may accept first, so what stands below it does not count.
   */
  readonly harmlessAbove: string;
}

/** A rule for an owner: how it is written, and a basic regular expression for how it is saved. */
interface Rule {
  readonly chain: Chain;
  readonly write: (owner: string) => string;
  readonly saved: (owner: string) => string;
}

/** Runs a command, but succeeds without it where the kernel has not got the family at all. */
function whereThereIs({ command }: Family, run: string): string {
  return command === "iptables" ? run : `{ ${NO_IPV6} || { ${run}; }; }`;
}

/**
 * Succeeds when the chain has the rule and nothing above it can accept first.
 * Not `-C`: it does not see the position, and ip6tables-legacy 1.8.9 ignores the uid.
 */
function present({ chain, saved }: Rule, owner: string): string {
  return whereThereIs(
    chain.family,
    `${chain.command} -S ${chain.name} | ` +
      `sed -nE "/^-P/d;/${chain.harmlessAbove}/!q;p" | grep -q "${saved(owner)}"`,
  );
}

const insert = (rule: Rule, owner: string) =>
  `${rule.chain.command} -I ${rule.chain.name} 1 ${rule.write(owner)}`;

/** Removes the first copy alone, which is the one that `insert` put there. */
const remove = (rule: Rule, owner: string) =>
  `${rule.chain.command} -D ${rule.chain.name} ${rule.write(owner)}`;

function takeForUid(account: Account, rule: Rule, why: string): Step {
  return {
    check: `sudo sh -c 'u=${uidOf(account)}; ${present(rule, "$u")}'`,
    run: `sudo ${insert(rule, ownerOf(account))}`,
    why,
    undo: [`sudo ${remove(rule, ownerOf(account))}`],
  };
}

function takeForRanges(account: Account, rule: Rule, why: string): Step {
  return rangesStep(
    { present: present(rule, LISTED_RANGE), add: insert(rule, "$r"), remove: remove(rule, "$r") },
    why,
    (body) => forEachRange(account, body),
  );
}

/** Prints and removes the chain's rules that match a basic regular expression, all of them. */
function removeAll({ family, command, name }: Chain, matching: string): string {
  return whereThereIs(
    family,
    `s=$(${command} -S ${name}) && printf "%s\\n" "$s" | ` +
      `sed -n "s/^-A \\(${name} ${matching}\\)$/echo \\1; ${command} -D \\1/p" | sh -e`,
  );
}

/** Puts back the rules that {@link removeAll} printed, without the quotes that `-S` prints. */
function putBack({ command, name }: Chain): string {
  return `sudo sh -ec 'for r; do ${command} -S ${name} | tr -d \\" | grep -qxF -e "-A $r" || ` +
    `${command} -I ${name} 1 \${r#* }; done' undo`;
}

const markOf = (account: Account) => `-m comment --comment fishnet:${account.name}`;

/** Matches the saved rules that carry the account's comment (1.8.9 quotes it). */
const marked = (account: Account) => `.* --comment \\"*fishnet:${account.name}\\"* .*`;

function mangleHolds(account: Account, family: Family): Hold[] {
  const chain: Chain = {
    family,
    command: `${family.command} -w -t mangle`,
    name: "POSTROUTING",
    harmlessAbove: "fishnet:",
  };
  const rule: Rule = {
    chain,
    write: (owner) => `-m owner --uid-owner ${owner} ! -o lo ${markOf(account)} -j DROP`,
    saved: (owner) => `uid-owner ${owner} .*fishnet:${account.name}\\"* `,
  };
  return [
    {
      take: takeForUid(
        account,
        rule,
        `${family.label}: drop what leaves by a real device, also after another program's DNAT`,
      ),
      release: {
        run: `sudo sh -c '${removeAll(chain, marked(account))}'`,
        undoEach: putBack(chain),
        why: `${family.label}: remove every such rule of the account and its subordinate uids`,
      },
    },
    {
      take: takeForRanges(
        account,
        rule,
        `${family.label}: the same for each range of subordinate uids (rootless containers, say)`,
      ),
    },
  ];
}

function outputChain(family: Family): Chain {
  const command = `${family.command} -w`;
  return { family, command, name: "OUTPUT", harmlessAbove: "fishnet:|-j REJECT" };
}

function outputHold(account: Account, family: Family): Hold {
  const chain = outputChain(family);
  const rule: Rule = {
    chain,
    write: (owner) => `-m owner --uid-owner ${owner} ! -o lo -j REJECT`,
    saved: (owner) =>
      `! -o lo -m owner --uid-owner ${owner} -j REJECT --reject-with ${family.unreachable}`,
  };
  return {
    take: takeForUid(
      account,
      rule,
      `${family.label}: first in its chain: everything but loopback is refused`,
    ),
    release: {
      run: `sudo sh -c 'u=${uidOf(account)} && ${removeAll(chain, rule.saved("$u"))}'`,
      undoEach: putBack(chain),
      why: `${family.label}: remove that rule, however often it stands there`,
    },
  };
}

/** Every state of a packet, as iptables lists them (libxt_conntrack.c). */
export const CONNTRACK_STATES = "INVALID,NEW,RELATED,ESTABLISHED,UNTRACKED";

/**
 * Matches all but replies, so the account's own servers still answer. The states are all there are:
 * without them a packet that is not tracked matches no direction (xt_conntrack.c).
 */
const NO_REPLY = `-m conntrack --ctstate ${CONNTRACK_STATES} --ctdir ORIGINAL`;

/** Loopback limited to the given TCP ports. */
function loopbackHolds(account: Account, ports: readonly number[], family: Family): Hold[] {
  const chain = outputChain(family);
  const tcp: Rule = {
    chain,
    write: (owner) =>
      `-o lo -p tcp -m owner --uid-owner ${owner} ${NO_REPLY} ` +
      `-m multiport ! --dports ${ports.join(",")} ${markOf(account)} ` +
      `-j REJECT --reject-with tcp-reset`,
    saved: (owner) =>
      `OUTPUT -o lo -p tcp .*--uid-owner ${owner} .*,UNTRACKED .* --dports ${
        ports.join(",")
      } .*tcp-reset`,
  };
  const rest: Rule = {
    chain,
    write: (owner) =>
      `-o lo ! -p tcp -m owner --uid-owner ${owner} ${NO_REPLY} ${markOf(account)} -j REJECT`,
    saved: (owner) =>
      `OUTPUT -o lo ! -p tcp .*--uid-owner ${owner} .*,UNTRACKED .*${family.unreachable}`,
  };
  const tcpWhy = `${family.label}: on loopback, refuse TCP to any port but ${ports.join(", ")}`;
  const restWhy = `${family.label}: on loopback, refuse what is not TCP (a DNS stub, say)`;
  return [
    { take: takeForUid(account, tcp, tcpWhy), release: loopbackRelease(account, family) },
    { take: takeForRanges(account, tcp, `${tcpWhy}, for each range of subordinate uids`) },
    { take: takeForUid(account, rest, restWhy) },
    { take: takeForRanges(account, rest, `${restWhy}, for each range of subordinate uids`) },
  ];
}

function loopbackRelease(account: Account, family: Family): NonNullable<Hold["release"]> {
  return {
    run: `sudo sh -c '${removeAll(outputChain(family), marked(account))}'`,
    undoEach: putBack(outputChain(family)),
    why: `${family.label}: give the account all of loopback back, where it was limited`,
  };
}

const LIST_MANGLE = "iptables -w -t mangle -S POSTROUTING";

/** Prints the ranges that rules of ours hold now, a line each, of the lines that `which` selects. */
const rangesHeld = (which: string) =>
  `${LIST_MANGLE} | sed -n "${which}s/.*--uid-owner \\([0-9-]*\\) .*fishnet:.*/\\1/p"`;

/** Everything that the iptables backend takes to lock one account, in order. */
export function iptablesHolds(account: Account, onlyPorts: readonly number[]): Hold[] {
  const families = [IPV4, IPV6];
  const ofAccount = `/fishnet:${account.name}\\"* /`;
  return [
    ...families.flatMap((family) => mangleHolds(account, family)),
    ...routingHolds(account, {
      recorded: rangesHeld(ofAccount),
      others: rangesHeld(`${ofAccount}!`),
    }),
    ...families.flatMap((family) =>
      onlyPorts.length === 0
        ? [{ release: loopbackRelease(account, family) }]
        : loopbackHolds(account, onlyPorts, family)
    ),
    ...families.map((family) => outputHold(account, family)),
  ];
}

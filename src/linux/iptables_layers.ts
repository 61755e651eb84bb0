/** What the rules of the iptables backend do: place, words, and how a saved one is known again. */
import { parseRule, type Rule } from "./iptables_rules.ts";
import type { Family } from "./machine.ts";

/** What a comment of ours begins with; the account's name is the rest. */
export const MARK = "fishnet:";

/** The name of our own chains. */
export const CHAIN = "fishnet";

/** A chain of our own, in one of the tables: which accounts it judges, the rules that jump to it say. */
export interface OwnChain {
  /** Behind the family: `chain fishnet in mangle`. */
  readonly is: string;
  readonly why: string;
  readonly table: string;
  /** Its rules, as `iptables-save` prints them. */
  readonly rules: (family: Family) => readonly string[];
}

/**
 * The kernel's answer to a source that is not this machine's would leave, as nobody's, with what was
 * sent in it. Of IPv4 the kernel itself takes none (ip_route_output_key), but that of a device in a
 * VRF. A link-local address of another device counts as local here, and is none where the answer goes:
 * be it the source, or what is answered to it, by the device of the other end. A source of this
 * machine's may be gone when the other end answers, as it lapses (RFC 4862) or a VPN ends: to ::1,
 * where everybody's is ::1, no other is needed.
 */
const noForeignSource = (family: Family) => [
  `-A ${CHAIN} -m addrtype ! --src-type LOCAL -j DROP`,
  ...(family === 4 ? [] : [
    `-A ${CHAIN} ! -s ::1/128 -d ::1/128 -j DROP`,
    `-A ${CHAIN} -s fe80::/10 -o lo -j DROP`,
    `-A ${CHAIN} -d fe80::/10 -o lo -j DROP`,
  ]),
];

/** In the name of each piece that shuts MPTCP, among others. */
export const SHUTS = `${CHAIN} in mangle`;

/** What no account may send, to itself either. */
const SHUT: OwnChain = {
  is: `chain ${SHUTS}`,
  why: "no SCTP (it asks for its routes without a uid), no MPTCP (the kernel would open a second " +
    "path, off this machine, by itself), no foreign source",
  table: "mangle",
  rules: (family) => [
    ...noForeignSource(family),
    `-A ${CHAIN} -p sctp -j DROP`,
    // 30 is MPTCP's option (RFC 8684).
    `-A ${CHAIN} -p tcp -m tcp --tcp-flags SYN SYN -j TCPOPTSTRIP --strip-options 30`,
  ],
};

/**
 * What `--only-port` refuses, and alone needs: all that is not a reply. What is not tracked has no
 * direction, and is refused. The first packet of a connection is never a reply, although an account
 * can make it look like one: by a connection from the other's port, before the other has it, that is
 * left half open.
 */
export const LIMIT: OwnChain = {
  is: `chain ${CHAIN}`,
  why: "refuses on loopback, but for the replies of an account's own servers",
  table: "filter",
  rules: (family) => [
    // Also where somebody has flushed mangle alone: a REJECT is an answer.
    ...noForeignSource(family),
    `-A ${CHAIN} -p tcp -m tcp --tcp-flags SYN,ACK SYN -j REJECT --reject-with tcp-reset`,
    `-A ${CHAIN} -m conntrack --ctdir REPLY -j RETURN`,
    `-A ${CHAIN} -p tcp -j REJECT --reject-with tcp-reset`,
    `-A ${CHAIN} -j REJECT --reject-with icmp${family === 4 ? "" : "6"}-port-unreachable`,
  ],
};

/** Our own chains. */
export const OWN_CHAINS = [SHUT, LIMIT];

/** What one rule of a lock does: its place, and its words, by which it is known again. */
export interface Layer {
  /** Behind the family: `DROP in mangle POSTROUTING`. */
  readonly is: string;
  readonly why: string;
  readonly table: string;
  readonly chain: string;
  /** What stands behind the chain's name; UID, NAME and PORTS stand for what is a lock's own. */
  readonly words: string;
  readonly family?: Family;
  /** The chain of our own that it jumps to. */
  readonly own?: OwnChain;
  /** It is of no uid, and there as long as rules jump to this chain. */
  readonly beside?: OwnChain;
}

const POSTROUTING = { table: "mangle", chain: "POSTROUTING" } as const;
const OUTPUT = { table: "filter", chain: "OUTPUT" } as const;

/** Sees what OUTPUT cannot. */
export const DROP: Layer = {
  is: "DROP in mangle POSTROUTING",
  why: "drop what leaves by a real device, also after another program's DNAT",
  ...POSTROUTING,
  words: `-m owner --uid-owner UID ! -o lo -m comment --comment ${MARK}NAME -j DROP`,
};

/** Leads to what is shut on loopback, too: where it costs others least, and in time. */
const jump = (family: Family, chain: string, device: string): Layer => ({
  is: `jump to ${SHUTS} ${chain}`,
  why: SHUT.why,
  table: "mangle",
  chain,
  words: `${device}-m owner --uid-owner UID -j ${CHAIN}`,
  family,
  own: SHUT,
});

/**
 * Any account can have the kernel send what has no owner any more, or never had one, to an address of
 * this machine by a real device: it binds one end of a loopback connection to it (SO_BINDTODEVICE), and
 * closes it. The range is what makes it cost others little: who has an owner is held by his uid. A
 * bridge may have the link-local address of a neighbour.
 */
const ownerless = (family: Family, except: string): Layer => ({
  is: "DROP of ownerless packets to this machine in mangle POSTROUTING",
  why: "drop what is for this machine, has no owner, and leaves by a real device: an account may " +
    "have had the kernel send it",
  ...POSTROUTING,
  words: `${except}! -o lo -m owner ! --uid-owner 0-65535 -m addrtype --dst-type LOCAL -j DROP`,
  family,
});

/** What accounts share. */
export const SHARED: readonly Layer[] = [
  ownerless(4, ""),
  ownerless(6, "! -d fe80::/10 "),
  // Any account can leave a packet of nobody's on loopback that is sent again when its source is this
  // machine's no more: the kernel's reset to it would leave. IPv4 sends none again from such a source.
  {
    is: "DROP of ownerless packets from elsewhere in mangle POSTROUTING",
    why: "drop what is on loopback, has no owner, and comes from an address that was this " +
      "machine's: the kernel's answer would leave",
    ...POSTROUTING,
    words: "-o lo -m owner ! --uid-owner 0-65535 -m addrtype ! --src-type LOCAL -j DROP",
    family: 6,
  },
  // Any account can send itself a datagram in parts that never come all, where a neighbour fills the
  // room for parts. A minute later the kernel says so to its source, with the first part: by then that
  // may be no address of this machine any more. (Code 1: RFC 4443, 3.3.) Of IPv4 loopback makes no parts.
  {
    is: "DROP of reports on missing parts in mangle POSTROUTING",
    why:
      "drop the kernel's report that parts of a datagram did not come: it holds the first, and " +
      "its sender may have been this machine",
    ...POSTROUTING,
    words: "! -o lo -p ipv6-icmp -m icmp6 --icmpv6-type 3/1 -m addrtype --src-type LOCAL -j DROP",
    family: 6,
  },
  // A neighbour may send, over IPv6, what claims to come from this machine itself: then the account's
  // own datagrams to that port are replies. Of IPv4 the kernel takes none (fib_validate_source).
  {
    is: "DROP of what claims to be from here in mangle INPUT",
    why:
      "drop what comes by a real device from an address of this machine: what the account sends " +
      "there would be a reply",
    table: "mangle",
    chain: "INPUT",
    words: "! -i lo ! -p tcp -m addrtype --src-type LOCAL --dst-type LOCAL -j DROP",
    family: 6,
    beside: LIMIT,
  },
];

/** `--only-port`: its TCP. */
export const LOOPBACK_TCP: Layer = {
  is: "loopback limited to TCP",
  why: "on loopback, refuse TCP to any other port",
  ...OUTPUT,
  words: `-o lo -p tcp -m owner --uid-owner UID -m multiport ! --dports PORTS -j ${CHAIN}`,
  own: LIMIT,
};

/** The reference page's own rule, for the account's own uid alone. */
export const REFUSE: Layer = {
  is: "REJECT in OUTPUT",
  why: "first in its chain: everything but loopback is refused, and the program is told at once",
  ...OUTPUT,
  words: "-m owner --uid-owner UID ! -o lo -j REJECT",
};

/**
 * What each range of subordinate uids has: the REJECT is for the account's own uid alone. The kernel
 * loops a copy of an IPv4 multicast back before POSTROUTING is asked (ip_mc_output), without an owner.
 * Where this machine routes multicast, the copy is sent on. Of IPv6 it makes one behind that.
 */
export const EARLY: Layer = {
  is: "DROP of multicast in mangle OUTPUT",
  why: "drop a multicast of subordinate uids before the kernel makes an ownerless copy of it, " +
    "which a router of multicast sends on",
  table: "mangle",
  chain: "OUTPUT",
  // The address is asked first: so packets of others cost nothing more.
  words: `-d 224.0.0.0/4 ${DROP.words}`,
  family: 4,
};

/** What each of a lock's uids has. */
export const FOR_UIDS: readonly Layer[] = [
  DROP,
  // Where the DROP is already: the packets of others pass no hook more.
  jump(4, "POSTROUTING", "-o lo "),
  // Before any REJECT, which would be an answer: of SCTP, what leaves by a real device gets there, too.
  jump(6, "OUTPUT", ""),
  LOOPBACK_TCP,
  // By any device: of an IPv4 broadcast or multicast the kernel brings a copy of nobody's to this machine's
  // own services before POSTROUTING is asked (ip_mc_output).
  {
    is: "loopback shut for all but TCP",
    why: "refuse what is not TCP (a DNS stub, say), on loopback or by broadcast",
    ...OUTPUT,
    words: `! -p tcp -m owner --uid-owner UID -j ${CHAIN}`,
    own: LIMIT,
  },
];

/** A layer's words for a lock. */
export function wordsOf(layer: Layer, uid: string, name: string, ports: readonly number[]): string {
  const own: Record<string, string> = { UID: uid, NAME: name, PORTS: ports.join() };
  return layer.words.replace(/UID|NAME|PORTS/g, (word) => own[word]!);
}

/** Each layer's rule, as it would be saved for some account; made when they are first asked for. */
let saved: readonly { readonly layer: Layer; readonly own: Rule }[] | undefined;

/** The layer that a saved rule is of, whosever it is: it says what the layer's own does, no more. */
export function layerOf(rule: Rule): Layer | undefined {
  saved ??= [...FOR_UIDS, EARLY, REFUSE, ...SHARED].map((layer) => {
    const text = `-A ${layer.chain} ${wordsOf(layer, "0", "", [1])}`;
    return { layer, own: parseRule(layer.table, text) };
  });
  return saved.find(({ layer, own }) => {
    if (rule.table !== own.table || rule.chain !== own.chain) return false;
    if (rule.narrower || own.narrower) return rule.text === own.text;
    return rule.owner !== undefined &&
      rule.device === own.device && rule.protocol === own.protocol &&
      rule.destination === own.destination &&
      (rule.otherThanPorts === undefined) === (own.otherThanPorts === undefined) &&
      (rule.target === own.target || layer === REFUSE && rule.target === "DROP");
  })?.layer;
}

/** macOS: all that a lock consists of there, in order, and what only macOS knows of accounts. */
import { FishnetError } from "../errors.ts";
import type { Holder, Holdings } from "../lock/holder.ts";
import type { Found, Kind, LockOfAccount, Piece } from "../lock/piece.ts";
import { isLoopback, type Trying } from "../lock/tries.ts";
import { single } from "../lock/uid_range.ts";
import type { System } from "../system.ts";
import { accountsOf, isRule, rules, unseen } from "./anchor.ts";
import { call, calledBefore, rulesWithoutCall } from "./call.ts";
import { daemon } from "./daemon.ts";
import { type Machine, readMachine } from "./machine.ts";
import { pfConf, pfConfWithoutOurs } from "./pf_conf.ts";
import { reference } from "./reference.ts";

/**
 * What accounts share in pf, in the order in which it is made: the content before its call, and the
 * call before pf is turned on; away with them backwards.
 */
const SHARED = [pfConf, call, reference] as const;

/** All of them are one kind: what accounts share is there as long as one of them has rules. */
const pf: Kind<Machine> = {
  together: true,
  wanted: (lock) => [...rules.wanted(lock), ...SHARED.map(({ piece }) => piece)],
  found: (machine) => [
    ...rules.found(machine),
    ...SHARED.flatMap((part): Found | [] => {
      const found = part.found(machine);
      return found === undefined ? [] : { ...part.piece, ...found };
    }),
  ],
  make: (pieces, machine) => [
    ...rules.make(pieces.filter(isRule), machine),
    ...sharedIn(pieces).flatMap((part) => part.make(machine)),
  ],
  unmake: (pieces, machine, made) => [
    ...sharedIn(pieces).toReversed().flatMap((part) => part.unmake(machine)),
    ...rules.unmake(pieces.filter(isRule), machine, made?.filter(isRule)),
  ],
};

const sharedIn = (pieces: readonly Piece[]) =>
  SHARED.filter(({ piece }) => pieces.some(({ is }) => is === piece.is));

/**
 * pf answers a blocked connection with a reset, where the packet has its checksum already (xnu,
 * pf_test_rule), and a datagram with ICMP; the sender is told nothing (ip_output).
 */
const trying: Trying = {
  refusals: ["EACCES", "EPERM", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH"],
  drops: true,
  familiesOf: (_look, targets) => Promise.resolve([...targets?.keys() ?? [4, 6] as const]),
  async isHere(ask, _family, address) {
    if (isLoopback(address)) return true;
    return (await ask(["ifconfig"], { seconds: 3 })).stdout.split(/\s+/).includes(address);
  },
};

/** The system of this name. */
export const macos: System<Machine> = {
  kinds: [pf, daemon],

  read: readMachine,

  holder(machine, holdings, name) {
    const account = machine.accounts.get(name);
    const uid = account?.uid;
    if (uid !== undefined) return existing(name, uid, account?.called, machine, holdings);
    const former = holdings.uidsOf(name).at(-1);
    if (former === undefined) return undefined;
    return { name, uid: former, ranges: [], exists: false, names: [name], formerUids: [] };
  },

  holders(machine, holdings) {
    const owners = holdings.owners.filter((name) => holdings.uidsOf(name).length > 0);
    return owners.sort().flatMap((name) => macos.holder(machine, holdings, name) ?? []);
  },

  leftOver: (_machine, holdings) => holdings.unowned,

  refuse,

  notes(machine, _holdings, { names }) {
    const isLocked = accountsOf(machine).accounts.values()
      .some(({ owner }) => names.includes(owner ?? ""));
    return [
      ...(!isLocked || machine.plistFile !== undefined ? [] : [
        "Internet Sharing, virtual machines and some VPNs replace pf's rules: " +
        "without --persist nothing puts the lock back",
      ]),
      ...calledBefore(machine).map((anchor) =>
        `the anchor "${anchor}" is called before ours: what it passes quick, ours does not see`
      ),
    ];
  },

  verifyAfter,
  trying,

  firstOrdinaryUid: 501,

  notCovered: [
    "names that mDNSResponder looks up, and requests that other system daemons make for it",
    "ping and other ICMP: pf knows no account for it",
    "UDP by a port that another account shares (5353), or whose source is not its socket's",
    "setuid-root programs, sudo, and virtual machines, which act as another account",
    "a relay on this machine (a SOCKS or HTTP proxy), unless --only-port shuts it",
  ],
};

function existing(
  name: string,
  uid: number,
  called: string | undefined,
  { accounts }: Machine,
  holdings: Holdings,
): Holder {
  const known = [called ?? name, ...holdings.namesOf(uid)];
  // macOS finds an account by any spelling of its name. A name that somebody else has is his.
  const isOthers = (other: string) =>
    other.toLowerCase() !== name.toLowerCase() &&
    (other === called || accounts.get(other)?.uid !== undefined);
  return {
    name,
    uid,
    ranges: [],
    shared: known.some(isOthers) ? [single(uid)] : [],
    exists: true,
    names: [...new Set([name, ...known.filter((other) => !isOthers(other))])],
    formerUids: holdings.uidsOf(name).filter((former) =>
      former !== uid && holdings.namesOf(former).length === 1
    ),
  };
}

/**
 * @throws {FishnetError} for another spelling of the name (macOS finds `Agent` for `agent`, pf does
 * not), for a uid that is locked for another name, and where pf does not look at every packet.
 */
function refuse(machine: Machine, holdings: Holdings, lock: LockOfAccount): void {
  const { name, uid, onlyPorts } = lock;
  const called = machine.accounts.get(name)?.called;
  if (called !== name) {
    throw new FishnetError(`the account '${name}' is called '${called ?? uid}': name it so`);
  }
  const other = holdings.namesOf(uid).find((one) => one !== name);
  if (other !== undefined) {
    throw new FishnetError(
      `uid ${uid} of '${name}' is locked already, for '${other}', which had it: disable '${other}' first`,
    );
  }
  const fault = unseen(machine, (device) => device !== "lo0" || onlyPorts.length > 0);
  if (fault !== undefined) throw new FishnetError(fault);
}

/** pfctl ends with 0 whatever happened: why a plan did not do what it should have, and no more. */
function verifyAfter(before: Machine, after: Machine): string | undefined {
  if (rulesWithoutCall(before).join("\n") !== rulesWithoutCall(after).join("\n")) {
    return "pf's running rules are no longer those that were read; wait until no other program " +
      "changes them, and run this again";
  }
  if (before.beside !== after.beside) {
    return "pf's translation or dummynet rules are no longer those that were read";
  }
  if (others(before) !== others(after)) {
    return "the lines of others in /etc/pf.conf are no longer those that were read";
  }
  const left = accountsOf(after).accounts.size;
  if (left === 0) return undefined;
  // What a disable leaves to others is no worse than it was.
  const known = left < accountsOf(before).accounts.size ? deficits(before) : [];
  return deficits(after).find((deficit) => !known.includes(deficit));
}

/** sed ends the last line with a newline, where somebody wrote one below ours without. */
const others = ({ pfConf }: Machine) => pfConfWithoutOurs(pfConf ?? "").replace(/\n$/, "");

/** Why the locks that are there would not hold. */
function deficits(machine: Machine): string[] {
  const said = machine.tokenFile?.trim().split("\n").at(-1);
  return [
    ...pf.found(machine).flatMap(({ is, fault }) => fault === undefined ? [] : [`${is}: ${fault}`]),
    ...SHARED.filter((part) => part.found(machine) === undefined)
      .map(({ piece }) => `pf was not given ${piece.is}`),
  ].map((deficit) => said === undefined ? deficit : `${deficit} (pfctl said: ${said})`);
}

/**
 * What `enable --apply` refuses on Linux before anything is changed, in one sentence that says what
 * to do: a lock that would cut off somebody else, and one that would hold less than it seems to.
 */
import { FishnetError } from "../errors.ts";
import type { Holdings } from "../lock/holder.ts";
import type { Freed } from "../system.ts";
import type { Found, Lock, LockOfAccount } from "../lock/piece.ts";
import { isIn, overlap, printRange, single, type UidRange } from "../lock/uid_range.ts";
import { otherwiseNamed, type PasswdEntry, subordinateRanges, unclearLines } from "./accounts.ts";
import { refuseLog } from "./audit.ts";
import { BOOTED } from "./boot/pieces.ts";
import type { Machine } from "./machine.ts";
import type { Ask } from "../root.ts";
import { commandOf, hiddenTables, plainVariant } from "./iptables_saved.ts";
import { FIRST_SUBORDINATE, hasNft } from "./nftables.ts";
import { ROUTING_PREFERENCE, withoutLoopback } from "./routing.ts";

/** @throws {FishnetError} for the first reason not to make this lock. */
export function refuse(machine: Machine, holdings: Holdings, lock: LockOfAccount): void {
  const [why] = reasonsAgainst(machine, holdings, lock);
  if (why !== undefined) throw new FishnetError(why);
  refuseLog(machine, lock);
}

/** The reasons not to make it, each looked for when it is asked for. */
function* reasonsAgainst(machine: Machine, holdings: Holdings, lock: LockOfAccount) {
  const { name, backend, ranges = [] } = lock;
  const [tool, other, isThere] = backend === "iptables"
    ? ["iptables", "nftables", plainVariant(machine) !== undefined]
    : ["nft", "iptables", hasNft(machine)];
  if (!isThere) {
    yield `${tool} is not installed: install the package ${backend}, or use --backend ${other}`;
  }
  yield* hidden(machine, lock);
  for (const range of otherwiseNamed(machine.subuid, lock)) {
    yield `/etc/subuid has ${printRange(range)} for '${range.owner}', which is '${name}' by ` +
      `another name, and at boot nobody may know that: write ${name} there`;
  }
  // Others may read another range out of it.
  for (const line of unclearLines(machine.subuid, lock)) {
    yield `/etc/subuid has a line for '${name}' that is no range, ` +
      `${JSON.stringify(line)}: write ${name}:FIRST:COUNT there, in decimal numbers`;
  }
  yield* cutOff(machine, lock);
  yield* lockedForOthers(holdings, lock);
  yield* renamed(machine, holdings, lock);
  // The kernel would ask our routing rule before it finds this machine's own addresses.
  for (const { family, mend } of withoutLoopback(machine)) {
    yield `refusing to lock '${name}', which would cut it off loopback as well: ` +
      `ip -${family} rule has no 'from all lookup local' before ${ROUTING_PREFERENCE}; ` +
      `add it there with ${mend}`;
  }
  const low = ranges.find(({ first }) => first < FIRST_SUBORDINATE);
  if (backend === "nftables" && low !== undefined) {
    yield `the subordinate uids ${printRange(low)} of '${name}' lie among ordinary uids, where ` +
      "nftables does not look for them: use --backend iptables";
  }
  // A system that systemd does not run, the inside of a chroot for one, would never see it again.
  if (lock.persist && machine.files.get(BOOTED)?.type !== "d") {
    yield "--persist needs systemd, which does not run here: leave it out";
  }
}

/** A table in which nobody could see whether a rule of the lock is there. */
function* hidden(machine: Machine, { backend }: Lock) {
  if (backend !== "iptables" || plainVariant(machine) !== "nft") return;
  for (const family of machine.families) {
    for (const table of hiddenTables(machine, family)) {
      yield `${
        commandOf(family)
      } cannot read its table '${table}', since nft has put rules there: ` +
        "use --backend nftables";
    }
  }
}

/** Uids that are locked for another name: disabling that one would open part of this one. */
function* lockedForOthers(holdings: Holdings, { name, uid, ranges = [] }: LockOfAccount) {
  const own = [
    { range: single(uid), what: `uid ${uid}`, is: "is", it: "it" },
    ...ranges.map((range) => (
      { range, what: `the subordinate uids ${printRange(range)}`, is: "are", it: "them" }
    )),
  ];
  for (const { range, what, is, it } of own) {
    for (const other of holdings.othersWith(range, [name])) {
      yield `${what} of '${name}' ${is} locked already, for '${other}', which had ${it}: ` +
        `disable '${other}' first`;
    }
  }
}

/** A name that another account had when it was locked: what is asked for now would be asked of both. */
function* renamed({ passwd }: Machine, holdings: Holdings, { name, uid }: LockOfAccount) {
  for (const former of holdings.uidsOf(name).filter((one) => one !== uid)) {
    const other = passwd.find((one) => one.uid === former && one.name !== name)?.name;
    if (other === undefined) continue;
    yield `'${other}' (uid ${former}) is locked under the name '${name}', which it had: ` +
      `disable '${name}' first, which unlocks '${other}', and then enable both`;
  }
}

/** Root, or another account, that the lock would cut off. */
function* cutOff({ passwd, subuid }: Machine, account: PasswdEntry) {
  const { name, uid } = account;
  const refusing = `refusing to lock '${name}', `;
  const namesake = passwd.find((other) => other.uid === uid && other.name !== name);
  if (namesake !== undefined) {
    yield `${refusing}which shares uid ${uid} with '${namesake.name}': ` +
      "give the agent a uid of its own";
  }
  const own = subordinateRanges(subuid, account);
  for (const { first } of [single(uid), ...own].filter(({ first, last }) => first === last)) {
    const named = passwd.find((other) => other.name === `${first}` && other.uid !== first);
    if (named === undefined) continue;
    yield `${refusing}whose uid ${first} is also the name of an account, with uid ${named.uid}: ` +
      "iptables and nft would take the number for that name, so rename that account";
  }
  const among = subuid.ranges.find((other) => !own.includes(other) && isIn(uid, other));
  if (among !== undefined) {
    yield `${refusing}whose uid ${uid} is one of the subordinate uids of '${among.owner}' ` +
      `(${printRange(among)}): give the agent a uid of its own`;
  }
  for (const { range, whom } of othersAmong({ passwd, subuid }, account)) {
    yield `${refusing}whose subordinate uids ${printRange(range)} ` +
      `${whom}: give '${name}' a range of its own in /etc/subuid`;
  }
}

/** Refuses to free an account of which a part would stay locked, unseen or for another. */
export function refuseToFree(
  machine: Machine,
  holdings: Holdings,
  { holder, own, names }: Freed,
): void {
  const { name, uid } = holder;
  const [other] = holdings.othersWith(single(uid), [...holder.names, ...names]);
  if (other !== undefined) {
    const how = isSwapped(machine, holdings, name, other)
      ? "disable both in one call"
      : `disable '${other}' instead`;
    const both = machine.passwd.some((one) => one.name === other && one.uid === uid);
    const whose = both ? "has it too" : "had it";
    throw new FishnetError(
      `uid ${uid} of '${name}' is locked for '${other}', which ${whose}: ${how}`,
    );
  }
  if (!mayHideTable(machine, own)) return;
  throw new FishnetError(
    `nft is not installed, so a table that may hold '${name}' cannot be read: install the package ` +
      "nftables first, or enable again, by iptables",
  );
}

/** Whether the other has a uid now that this one was locked with: each alone would free a part of both. */
export const isSwapped = (
  machine: Machine,
  holdings: Holdings,
  name: string,
  other: string,
): boolean =>
  machine.passwd.some((one) => one.name === other && holdings.uidsOf(name).includes(one.uid));

/** Whether a lock may be there that nobody can read: without nft, where no rule is by iptables. */
export function mayHideTable(machine: Machine, own: readonly Found[]): boolean {
  return !hasNft(machine) && own.some(({ foreign }) => !foreign) &&
    !own.some(({ says }) => says?.backend === "iptables");
}

/** Refuses an nft that cannot read our table: `reset tcp option` came with 1.0.3. */
export async function refuseTools(ask: Ask, locks: readonly Lock[]): Promise<void> {
  if (locks.every(({ backend }) => backend !== "nftables")) return;
  const { stdout } = await ask(["nft", "--version"]);
  const [version, major, minor, patch = 0] = /\bv(\d+)\.(\d+)(?:\.(\d+))?/.exec(stdout) ?? [];
  if (version === undefined) return;
  if (Number(major) * 1e6 + Number(minor) * 1e3 + Number(patch) >= 1_000_003) return;
  throw new FishnetError(
    `--backend nftables needs nft 1.0.3, and here is ${version.slice(1)}: ` +
      "use --backend iptables, or a newer nftables",
  );
}

/** The account's ranges that hold somebody else's uids, and whose. */
export function othersAmong(
  { passwd, subuid }: Pick<Machine, "passwd" | "subuid">,
  account: PasswdEntry,
): { range: UidRange; whom: string }[] {
  const own = subordinateRanges(subuid, account);
  return own.flatMap((range) => {
    if (range.first === 0) return [{ range, whom: "contain root's" }];
    const other = passwd.find(({ uid }) => uid !== account.uid && isIn(uid, range));
    if (other !== undefined) {
      return [{ range, whom: `contain that of '${other.name}' (${other.uid})` }];
    }
    const shared = subuid.ranges.find((one) => !own.includes(one) && overlap(one, range));
    return shared === undefined ? [] : [{ range, whom: `overlap those of '${shared.owner}'` }];
  });
}

/**
 * What `enable --apply` refuses on Linux before anything is changed, in one sentence that says what
 * to do: a lock that would cut off somebody else, and one that would hold less than it seems to.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import type { Holdings } from "../lock/holder.ts";
import type { Freed } from "../system.ts";
import type { Found, Lock, LockOfAccount } from "../lock/piece.ts";
import { isIn, overlap, printRange, single, type UidRange } from "../lock/uid_range.ts";
import { type PasswdEntry, subordinateRanges, unclearLines } from "./accounts.ts";
import { refuseLog } from "./audit.ts";
import { refusePersist } from "./boot/boot.ts";
import type { Machine } from "./machine.ts";
import type { Ask } from "../root.ts";
import { plainVariant } from "./iptables_saved.ts";
import { FIRST_SUBORDINATE, hasNft } from "./nftables.ts";
import { ROUTING_PREFERENCE, withoutLoopback } from "./routing.ts";

/** @throws {FishnetError} for the first reason not to make this lock. */
export function refuse(machine: Machine, holdings: Holdings, lock: LockOfAccount): void {
  const why = withoutTool(lock, machine) ?? unclear(lock, machine) ?? ofOthers(lock, machine) ??
    otherName(lock, holdings) ?? cutOffLoopback(lock, machine) ?? lowRanges(lock);
  if (why !== undefined) throw new FishnetError(why);
  if (lock.persist) refusePersist(machine);
  refuseLog(machine, lock);
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
    throw new FishnetError(
      `uid ${uid} of '${name}' is locked for '${other}', which had it: ` +
        (isSwapped(machine, holdings, name, other)
          ? "disable both in one call"
          : `disable '${other}' instead`),
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

/**
 * Whether a lock by nftables may be there that nobody can read: without nft, where nothing tells that
 * iptables carries the lock.
 */
export function mayHideTable(machine: Machine, own: readonly Found[]): boolean {
  return !hasNft(machine) && own.some(({ foreign }) => !foreign) &&
    !own.some(({ says }) => says?.backend === "iptables");
}

/** A backend whose tool is not there. */
function withoutTool({ backend }: Lock, machine: Machine): string | undefined {
  const [tool, other] = backend === "iptables" ? ["iptables", "nftables"] : ["nft", "iptables"];
  if (backend === "iptables" ? plainVariant(machine) !== undefined : hasNft(machine)) return;
  return `${tool} is not installed: install the package ${backend}, or use --backend ${other}`;
}

/** A line of /etc/subuid that may mean another range to whoever reads it next. */
function unclear(account: PasswdEntry, { subuid }: Machine): string | undefined {
  const [line] = unclearLines(subuid, account);
  return line && `/etc/subuid has a line for '${account.name}' that is no range, ` +
      `${JSON.stringify(line)}: write ${account.name}:FIRST:COUNT there, in decimal numbers`;
}

/** Uids that are locked for another name: disabling that one would open part of this one. */
function otherName(
  { name, uid, ranges = [] }: LockOfAccount,
  holdings: Holdings,
): string | undefined {
  const own = [
    { range: single(uid), what: `uid ${uid}`, is: "is", it: "it" },
    ...ranges.map((range) => (
      { range, what: `the subordinate uids ${printRange(range)}`, is: "are", it: "them" }
    )),
  ];
  for (const { range, what, is, it } of own) {
    const [other] = holdings.othersWith(range, [name]);
    if (other === undefined) continue;
    return `${what} of '${name}' ${is} locked already, for '${other}', which had ${it}: ` +
      `disable '${other}' first`;
  }
  return undefined;
}

/** The kernel would ask our routing rule before it finds this machine's own addresses. */
function cutOffLoopback({ name }: PasswdEntry, machine: Machine): string | undefined {
  const [cut] = withoutLoopback(machine);
  return cut && `refusing to lock '${name}', which would cut it off loopback as well: ` +
      `ip -${cut.family} rule has no 'from all lookup local' before ${ROUTING_PREFERENCE}; ` +
      `add it there with ${cut.mend}`;
}

/** Ranges that the rules of nftables would not look for. */
function lowRanges({ name, backend, ranges }: Lock): string | undefined {
  const low = ranges?.find(({ first }) => first < FIRST_SUBORDINATE);
  if (backend !== "nftables" || low === undefined) return;
  return `the subordinate uids ${printRange(low)} of '${name}' lie among ordinary uids, where ` +
    "nftables does not look for them: use --backend iptables";
}

/** Refuses an nft that cannot read our table: `reset tcp option` came with 1.0.3. */
export async function refuseTools(ask: Ask, locks: readonly Lock[]): Promise<void> {
  if (locks.every(({ backend }) => backend !== "nftables")) return;
  const { stdout } = await ask(["nft", "--version"]);
  const version = /\bv(\d+)\.(\d+)(?:\.(\d+))?/.exec(stdout);
  if (version === null) return;
  const [major, minor, patch] = version.slice(1).map((part) => Number(part ?? 0));
  if (major! > 1 || (major === 1 && (minor! > 0 || patch! >= 3))) return;
  throw new FishnetError(
    `--backend nftables needs nft 1.0.3, and here is ${version[0].slice(1)}: ` +
      "use --backend iptables, or a newer nftables",
  );
}

/** A lock that would cut off root, or another account. */
function ofOthers(account: PasswdEntry, { passwd, subuid }: Machine): string | undefined {
  const { name, uid } = account;
  const refusing = `refusing to lock '${name}', `;
  const namesake = passwd.find((other) => other.uid === uid && other.name !== name);
  if (namesake !== undefined) {
    return `${refusing}which shares uid ${uid} with '${namesake.name}': ` +
      "give the agent a uid of its own";
  }
  const own = subordinateRanges(subuid, account);
  const among = subuid.ranges.find((other) => !own.includes(other) && isIn(uid, other));
  if (among !== undefined) {
    return `${refusing}whose uid ${uid} is one of the subordinate uids of '${among.owner}' ` +
      `(${printRange(among)}): give the agent a uid of its own`;
  }
  const [shared] = othersAmong({ passwd, subuid }, account);
  return shared && `${refusing}whose subordinate uids ${printRange(shared.range)} ` +
      `${shared.whom}: give '${name}' a range of its own in /etc/subuid`;
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

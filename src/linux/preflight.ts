/**
 * What `--apply` refuses on Linux before anything is changed, in one sentence
 * that says what to do: a lock that would cut off somebody else, and one that
 * would mix with a lock of other options.
 *
 * @module
 */
import type { Account } from "../account.ts";
import { FishnetError } from "../errors.ts";
import type { Backend } from "../planner.ts";
import {
  formerUids,
  type Held,
  heldBy,
  otherNames,
  type Remembered,
  rememberedUids,
  withoutLoopback,
} from "./in_force.ts";
import { type Machine, readMachine } from "./inspect.ts";
import type { BootMark } from "./persist.ts";
import { type PasswdEntry, subordinateRanges, unclearLines } from "./read_accounts.ts";
import { ROUTING_PREFERENCE } from "./routing.ts";
import { overlap, printRange } from "./uid_range.ts";

/** What is about to be applied. */
export interface Intent {
  readonly kind: "enable" | "disable";
  readonly accounts: readonly string[];
  readonly backend: Backend;
  /** The ports of `enable --only-port`. */
  readonly onlyPorts?: readonly number[];
  /** Whether `enable` puts the lock in force at boot, too. */
  readonly persist?: boolean;
}

/**
 * Reads the machine once, and gives the accounts for the plan. A `disable` gets an account once more
 * for each uid that it had when it was locked, and has no more: its rules hold numbers.
 *
 * @throws {FishnetError} for the first reason not to go on.
 */
export async function preflight(intent: Intent): Promise<Account[]> {
  return preflightIn(await readMachine(intent.accounts), intent);
}

/** The same, for a state that was read before. */
export function preflightIn(machine: Machine, intent: Intent): Account[] {
  const held = heldBy(machine);
  const remembered = rememberedUids(held, machine);
  return intent.accounts.flatMap((name) => {
    const entry = machine.passwd.find((known) => known.name === name);
    if (intent.kind === "disable") {
      const former = [
        ...formerUids(name, entry, machine, remembered).map((uid) => ({ name, uid })),
        ...formerNames(entry, machine, remembered),
      ];
      if (entry === undefined && former.length === 0) {
        throw new FishnetError(`the account '${name}' does not exist, and no rule remembers it`);
      }
      for (const account of [...entry === undefined ? [] : [entry], ...former]) {
        refuseOtherBackend(account, held, intent);
      }
      return [...entry === undefined ? [] : [{ name }], ...former];
    }
    if (entry === undefined) {
      throw new FishnetError(`the account '${name}' does not exist: create it first`);
    }
    refuseUnclear(entry, machine);
    refuseOthers(entry, machine);
    refuseOtherName(entry, remembered);
    refuseWithoutLoopback(entry, machine);
    refuseOtherBackend(entry, held, intent, machine.bootScripts.get(entry.uid));
    refuseOtherPorts(entry, held, machine, intent);
    refuseOtherBoot(entry, held, machine, intent);
    return [{ name }];
  });
}

/** The account under each name that it was locked with and nobody has any more: it was renamed. */
function formerNames(
  entry: PasswdEntry | undefined,
  { passwd }: Machine,
  remembered: Remembered,
): PasswdEntry[] {
  if (entry === undefined) return [];
  return otherNames(entry.name, entry.uid, remembered)
    .filter((other) => !passwd.some(({ name }) => name === other))
    .map((name) => ({ name, uid: entry.uid }));
}

/** Refuses a uid that is locked for another name: disabling one would open part of the other. */
function refuseOtherName({ name, uid }: PasswdEntry, remembered: Remembered): void {
  const [other] = otherNames(name, uid, remembered);
  if (other === undefined) return;
  throw new FishnetError(
    `uid ${uid} of '${name}' is locked already, for '${other}', which had it: disable '${other}' first`,
  );
}

/** Refuses a line of /etc/subuid that may mean another range to whoever reads it next. */
function refuseUnclear(account: PasswdEntry, { subuid }: Machine): void {
  const [line] = unclearLines(subuid, account);
  if (line === undefined) return;
  throw new FishnetError(
    `/etc/subuid has a line for '${account.name}' that is no range, ${JSON.stringify(line)}: ` +
      `write ${account.name}:FIRST:COUNT there, in decimal numbers`,
  );
}

/** Refuses where the kernel would ask our routing rule before it finds this machine's own addresses. */
function refuseWithoutLoopback({ name }: PasswdEntry, machine: Machine): void {
  const [cut] = withoutLoopback(machine);
  if (cut === undefined) return;
  throw new FishnetError(
    `refusing to lock '${name}', which would cut it off loopback as well: ip -${cut.family} rule ` +
      `has no 'from all lookup local' before ${ROUTING_PREFERENCE}; add it there with ${cut.remedy}`,
  );
}

/** Refuses a lock that would cut off root, or another account. */
function refuseOthers(account: PasswdEntry, { passwd, subuid }: Machine): void {
  const { name, uid } = account;
  if (uid === 0) {
    throw new FishnetError(
      `refusing to lock '${name}', which has uid 0 and is root under another name: ` +
        "name the agent's own account",
    );
  }
  const namesake = passwd.find((other) => other.uid === uid && other.name !== name);
  if (namesake !== undefined) {
    throw new FishnetError(
      `refusing to lock '${name}', which shares uid ${uid} with '${namesake.name}': ` +
        "give the agent a uid of its own",
    );
  }
  const own = subordinateRanges(subuid, account);
  const among = subuid.ranges.find((other) =>
    !own.includes(other) && other.first <= uid && uid <= other.last
  );
  if (among !== undefined) {
    throw new FishnetError(
      `refusing to lock '${name}', whose uid ${uid} is one of the subordinate uids of ` +
        `'${among.owner}' (${printRange(among)}): give the agent a uid of its own`,
    );
  }
  for (const range of own) {
    const refuse = (whom: string) =>
      new FishnetError(
        `refusing to lock '${name}', whose subordinate uids ${printRange(range)} ${whom}: ` +
          `give '${name}' a range of its own in /etc/subuid`,
      );
    if (range.first === 0) throw refuse("contain root's");
    const other = passwd.find((other) =>
      other.uid !== uid && range.first <= other.uid && other.uid <= range.last
    );
    if (other !== undefined) throw refuse(`contain that of '${other.name}' (${other.uid})`);
    const shared = subuid.ranges.find((other) => !own.includes(other) && overlap(other, range));
    if (shared !== undefined) throw refuse(`overlap those of '${shared.owner}'`);
  }
}

const concerns = ({ name, uid }: PasswdEntry) => (one: Held) =>
  one.owner === name || (one.first === uid && one.last === uid);

function refuseOtherBackend(
  account: PasswdEntry,
  held: readonly Held[],
  { kind, backend }: Intent,
  atBoot?: BootMark,
): void {
  const backends = new Set(held.filter(concerns(account)).flatMap((one) => one.backend ?? []));
  if (atBoot !== undefined) backends.add(atBoot.backend);
  if (backends.size === 0 || backends.has(backend)) return;
  const [other] = backends;
  throw new FishnetError(
    kind === "disable"
      ? `'${account.name}' is locked with --backend ${other}: disable it with that`
      : `'${account.name}' is locked with --backend ${other} already: ` +
        `use that, or disable it with that first`,
  );
}

function refuseOtherPorts(
  account: PasswdEntry,
  held: readonly Held[],
  { bootScripts }: Machine,
  { onlyPorts }: Intent,
): void {
  const limited =
    held.filter(concerns(account)).find(({ ports = [] }) => ports.length > 0)?.ports ??
      bootScripts.get(account.uid)?.onlyPorts ?? [];
  if (onlyPorts === undefined || limited.length === 0) return;
  if (limited.toSorted().join() === onlyPorts.toSorted().join()) return;
  const options = limited.map((port) => `--only-port ${port}`).join(" ");
  throw new FishnetError(
    `'${account.name}' is locked with ${options} already: use the same, or disable it first`,
  );
}

/** Refuses a limit that the lock at boot would not have: what holds now has to hold then. */
function refuseOtherBoot(
  account: PasswdEntry,
  held: readonly Held[],
  { bootScripts }: Machine,
  { onlyPorts, persist }: Intent,
): void {
  if (persist !== false || onlyPorts === undefined || onlyPorts.length === 0) return;
  const limited = held.some((one) => one.ports !== undefined && concerns(account)(one));
  if (limited || !bootScripts.has(account.uid)) return;
  throw new FishnetError(
    `'${account.name}' is locked with --persist: give it again, so that the ports hold at boot too`,
  );
}

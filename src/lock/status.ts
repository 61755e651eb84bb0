/** `status`: what of each account's lock is in force. */
import { isAccountName } from "../account.ts";
import { FishnetError } from "../errors.ts";
import { unreadable } from "../root.ts";
import type { Session } from "../sudo.ts";
import type { System } from "../system.ts";
import { isHeld, lostAtReboot } from "./report.ts";
import type { AccountStatus, LockState, PieceStatus, StatusReport, Warning } from "./report.ts";
import { InForce, type Judgement, stepsToDisable } from "./difference.ts";
import { type Holder, Holdings, type There } from "./holder.ts";
import type { Asked, Found, Kind, Lock, LockOfAccount, Piece } from "./piece.ts";
import { printRange, UidSet } from "./uid_range.ts";

/** A machine that was read, and what was found on it. */
export interface Sight<M> {
  readonly system: System<M>;
  readonly machine: M;
  readonly there: readonly There<M>[];
  /** All that is there, of every kind. */
  readonly found: readonly Found[];
  readonly holdings: Holdings;
}

/** Looks at a machine that was read. */
export function sightOf<M>(system: System<M>, machine: M): Sight<M> {
  const all = system.kinds.map((kind) => ({ kind, found: kind.found(machine) }));
  const strong = new UidSet(
    all.flatMap(({ found }) => found).flatMap(({ weak, uids }) => weak ? [] : uids ?? []),
  );
  const there = all.map(({ kind, found }) => ({
    kind,
    found: found.filter(({ weak, uids }) => !weak || strong.covers(uids!)),
  }));
  const found = there.flatMap(({ found }) => found);
  return { system, machine, there, found, holdings: new Holdings(found) };
}

/**
 * What is in force, and what accounts could do all the same; for none, of all with any of a lock.
 * @throws {FishnetError} for an account that neither exists nor has anything of a lock.
 */
export async function readStatus<M>(
  system: System<M>,
  names: readonly string[],
  opening: Promise<Session>,
): Promise<{ report: StatusReport; warnings: Warning[] }> {
  try {
    await using session = await opening;
    const seen = sightOf(system, await system.read(session, names));
    const more = names.length > 0 ? [] : system.unlisted?.(seen.machine, seen.holdings) ?? [];
    const again = { machine: seen.machine, kinds: [] };
    const sight = more.length === 0
      ? seen
      : sightOf(system, await system.read(session, more, {}, again));
    const { machine } = sight;
    const report = statusIn(sight, names);
    const held = report.accounts.filter(isHeld);
    const exists = ({ name }: AccountStatus) =>
      system.holder(machine, sight.holdings, name)?.exists;
    const doors = await system.doors?.(session, machine, held, false) ?? [];
    const all = report.accounts.map(({ name }) => name);
    const recorded = await system.recorded?.(session.ask, machine, all);
    const accounts = report.accounts.map((account) => {
      const note = recorded?.get(account.name);
      return note === undefined ? account : { ...account, notes: [...account.notes ?? [], note] };
    });
    const warnings = [...lostAtReboot(held.filter(exists)), ...doors];
    return { report: { ...report, accounts }, warnings };
  } catch (error) {
    // What could not be read is never `unlocked`.
    const unknown = { ...NO_LOCK, uid: undefined, state: "unknown" } as const;
    const accounts = names.map((name) => ({ ...unknown, name }));
    return { report: { state: "unknown", reason: unreadable(error), accounts }, warnings: [] };
  }
}

/** The same of a machine that was read, deleted accounts too. @throws {FishnetError} likewise. */
export function statusIn<M>(sight: Sight<M>, names: readonly string[]): StatusReport {
  const { system, machine, holdings } = sight;
  const inForce = new InForce(sight.found);
  const judged = (holder: Holder) => judge(holder, sight, inForce);
  const accounts = names.length > 0 ? names.map((name) => judged(holderOf(sight, name))) : [
    ...system.holders(machine, holdings).map(judged).filter(({ state }) => state !== "unlocked"),
    ...leftOverStatuses(sight),
  ];
  return { state: worst(accounts.map(({ state }) => state)), accounts };
}

/** @throws {FishnetError} for a name that neither the machine nor a piece knows. */
export function holderOf<M>(
  { system, machine, holdings }: Sight<M>,
  name: string,
  advice = "",
): Holder {
  const holder = system.holder(machine, holdings, name);
  if (holder === undefined) throw new FishnetError(`the account '${name}' does not exist${advice}`);
  return holder;
}

/** What is told of an account that has nothing of a lock. */
const NO_LOCK = { pieces: [], survivesReboot: false, onlyPorts: [] };

/** The lock that pieces say an account is meant to have, with what is asked for besides. */
export function lockOf<M>(
  { system, machine }: Sight<M>,
  { name, uid, ranges }: Holder,
  own: readonly Found[],
  asked: Asked = {},
): LockOfAccount {
  const says = own.flatMap((piece) => piece.says ?? []);
  // Most of its rules tell the backend; where there are none, what the next boot brings.
  const tellers = says.filter(({ backend, persist }) => backend && persist === undefined);
  const byNft = tellers.filter(({ backend }) => backend === "nftables").length;
  const most = byNft > tellers.length / 2 ? "nftables" : "iptables";
  const told = tellers.length > 0 ? most : says.find(({ backend }) => backend)?.backend;
  const portsOf = (some: typeof says) => some.flatMap(({ onlyPorts }) => onlyPorts ?? []);
  // Where the other backend limits alone, its limit is the account's.
  const ofTold = portsOf(says.filter(({ backend }) => backend === told));
  const ports = ofTold.length > 0 ? ofTold : portsOf(says);
  const has = (option: typeof FLAGS[number]) => asked[option] || says.some((one) => one[option]);
  return {
    name,
    uid,
    ranges,
    backend: asked.backend ?? told ?? (own.length === 0 ? system.backend?.(machine) : undefined) ??
      "iptables",
    onlyPorts: asked.onlyPorts?.length
      ? asked.onlyPorts
      : [...new Set(ports)].sort((a, b) => a - b),
    persist: has("persist"),
    sessions: has("sessions"),
    log: has("log"),
  };
}

/** The options of a lock that it has or has not. */
const FLAGS = ["persist", "sessions", "log"] as const;

/** The options of the call that makes a lock, but for its backend. */
export function optionWords({ onlyPorts = [], ...flags }: Asked): string[] {
  return [
    ...onlyPorts.map((port) => `--only-port ${port}`),
    ...FLAGS.filter((flag) => flags[flag]).map((flag) => `--${flag}`),
  ];
}

/** The call that takes locks away. */
export const disableLine = (...names: readonly string[]) =>
  `fishnet firewall disable ${names.map((name) => `--agent-user ${name} `).join("")}--apply`;

/** The call that makes a lock; one that had ports which nothing names cannot be pasted as it is. */
function enableLine(lock: Lock, hadPorts: boolean): string {
  const backend = lock.backend === "nftables" ? ["--backend nftables"] : [];
  const ports = hadPorts && lock.onlyPorts.length === 0 ? ["--only-port PORT"] : [];
  const words = [...backend, ...ports, ...optionWords(lock), "--apply"];
  return `fishnet firewall enable --agent-user ${lock.name} ${words.join(" ")}`;
}

function judge<M>(holder: Holder, sight: Sight<M>, inForce: InForce): AccountStatus {
  const { system, machine, holdings } = sight;
  const own = holdings.of(holder);
  const { name, names, uid, exists, formerUids } = holder;
  const named = names.find(isAccountName);
  const disable = disableLine(named ?? name);
  const told = system.notes(machine, holdings, holder, own);
  // What nobody may take away is no lock.
  if (own.every(({ foreign }) => foreign)) {
    return { ...NO_LOCK, name, uid, state: "unlocked", notes: told };
  }
  const lock = lockOf(sight, holder, own);
  // What keeps a lock over a reboot says of every lock which ports it has, or none.
  const hadPorts = own.some(({ says, foreign }) =>
    says?.onlyPorts !== undefined && !says.persist && !foreign
  );
  const isTaken = isAccountName(name);
  const remedy = exists && (isTaken || named === undefined) ? enableLine(lock, hadPorts) : disable;
  const anew = `${disable} removes them${isTaken ? `, then ${remedy}` : ""}`;
  const notes = [
    ...(isTaken
      ? []
      : [`'${name}' is no name that can be asked for here: rename the account first`]),
    ...(exists ? [] : [`the account no longer exists, its rules do: ${disable} removes them`]),
    ...names.slice(1).map((other) => `it was renamed, and has the rules of '${other}': ${anew}`),
    ...formerUids.map((uid) => `rules of uid ${uid}, which it had, are left: ${anew}`),
    ...told,
  ];
  const statuses = (kinds: readonly Kind<M>[]) =>
    kinds.flatMap((kind) =>
      kind.wanted(lock, machine)
        .map((piece) => statusOf(piece, uid, inForce.judge(piece), remedy))
    );
  const faults = (system.faults?.(machine, holder) ?? [])
    .map(({ is, fault, mend }) => ({ name: is, present: false, detail: fault, remedy: mend }));
  const all = [...statuses(system.kinds.filter(({ goesLast }) => !goesLast)), ...faults];
  // What an account that is gone has no more, nobody is to mend.
  const pieces = all.filter(({ present, detail }) => exists || present || detail !== undefined);
  const atBoot = statuses(system.kinds.filter(({ goesLast }) => goesLast));
  const faulty = lock.persist ? atBoot.filter(({ present }) => !present) : [];
  return {
    name,
    uid,
    state: all.every(({ present }) => present) ? "locked" : "partial",
    pieces,
    survivesReboot: lock.persist && faulty.length === 0,
    ...(faulty.length === 0 ? {} : {
      rebootFaults: faulty.map(({ name, detail }) => detail ?? `missing: ${name}`),
      rebootRemedy: [...new Set(faulty.map(({ remedy }) => remedy!))].join(" && "),
    }),
    ...(system.backend ? { backend: lock.backend } : {}),
    onlyPorts: lock.onlyPorts,
    notes,
  };
}

function statusOf(
  { is, uids }: Piece,
  uid: number,
  judgement: Judgement,
  remedy: string,
): PieceStatus {
  const whose = typeof uids !== "object"
    ? ""
    : uids.first === uids.last && uids.first === uid
    ? `, uid ${uid}`
    : `, subordinate uids ${printRange(uids)}`;
  const name = `${is}${whose}`;
  if (judgement === "in force") return { name, present: true };
  if (judgement === "missing") return { name, present: false, remedy };
  const { fault, mend = remedy } = judgement;
  return { name, present: false, ...(fault === undefined ? {} : { detail: fault }), remedy: mend };
}

/** Pieces that nobody's name goes with, a row for the same uids: only removing all of them is left. */
function leftOverStatuses<M>(sight: Sight<M>): AccountStatus[] {
  const { system, machine, holdings, there } = sight;
  const left = system.leftOver(machine, holdings);
  if (left.length === 0) return [];
  // Their own remedies may be run first: what those make must stay.
  const staying = system.holders(machine, holdings).filter(({ exists }) => exists)
    .flatMap((holder) => {
      const own = holdings.of(holder);
      return own.every(({ foreign }) => foreign) ? [] : [lockOf(sight, holder, own)];
    });
  const remedy = stepsToDisable(there, machine, left, staying).map(({ line }) => line).join(" && ");
  return [...Map.groupBy(left, ({ uids }) => printRange(uids!))].map(([range, pieces]) => {
    const { first, last } = pieces[0]!.uids!;
    return {
      ...NO_LOCK,
      name: first === last ? `uid ${range}` : `uids ${range}`,
      uid: first,
      state: "partial",
      pieces: pieces.map(({ is, fault }) => ({
        name: `${is}, uid ${range}`,
        present: fault === undefined,
        detail: "left over: it belongs to no account",
        remedy,
      })),
    };
  });
}

/** One state for many: what is not known outweighs everything, and `partial` a mixture. */
function worst(states: readonly LockState[]): LockState {
  if (states.includes("unknown")) return "unknown";
  if (states.length > 0 && states.every((state) => state === "locked")) return "locked";
  return states.every((state) => state === "unlocked") ? "unlocked" : "partial";
}

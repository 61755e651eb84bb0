/**
 * `enable --apply` and `disable --apply`: one session, one reading, the commands for what is
 * different, and the same reading again when they have run.
 */
import { FishnetError } from "../errors.ts";
import type { Again, System } from "../system.ts";
import type { SignalTrap } from "../signals.ts";
import { type Ask, unreadable } from "../root.ts";
import { someOf } from "../shown.ts";
import type { Session } from "../sudo.ts";
import { carryOut, NOTHING_CHANGED, rolledBack, type Watcher } from "./apply.ts";
import { stepsToDisable, stepsToEnable, type Wish } from "./difference.ts";
import type { Holder } from "./holder.ts";
import type { Action, Asked, Step } from "./piece.ts";
import { lostAtReboot, systemAccounts, wholeness } from "./report.ts";
import type { AccountStatus, Warning } from "./report.ts";
import { holderOf, lockOf, optionWords, type Sight, sightOf, statusIn } from "./status.ts";

/** What is to be changed, and for whom. */
export interface Change extends Asked {
  readonly kind: Action;
  readonly accounts: readonly string[];
  /** Whether the accounts were named, and not taken from $USER. */
  readonly accountsGiven: boolean;
}

/** What came of a change. */
export interface Outcome {
  readonly steps: readonly Step[];
  /** How the accounts stand after an enable. */
  readonly accounts: readonly AccountStatus[];
  /** What stays of a lock although it was not asked for, a sentence each. */
  readonly stays: readonly string[];
  readonly warnings: readonly Warning[];
}

/** Makes a change, all of it or nothing. @throws {FishnetError} for what is refused or failed. */
export async function makeChange<M>(
  system: System<M>,
  change: Change,
  watcher: Watcher,
  { opening, signals }: { opening: Promise<Session>; signals: SignalTrap },
): Promise<Outcome> {
  await using session = await opening;
  await session.lockOutOtherRuns(watcher.onWaiting, signals.stopped);
  const goOn = () => {
    if (signals.caught === undefined) return;
    throw new FishnetError(`${signals.caught}\n${NOTHING_CHANGED}`);
  };
  goOn();
  const { kind, accounts: names } = change;
  const enabling = kind === "enable";
  if (enabling && !change.accountsGiven) {
    for (const name of names) await refuseOwn(name, session.ask);
  }
  const read = async (again?: Again<M>) =>
    sightOf(system, await system.read(session, names, change, again));
  const sight = await read();
  const { there, machine } = sight;
  const wishes = enabling ? names.map((name) => wishOf(sight, name, change)) : [];
  const locks = wishes.map(({ lock }) => lock);
  await system.refuseTools?.(session.ask, locks);
  const freed = enabling
    ? []
    : names.map((name) => holderOf(sight, name, ", and no rule remembers it"));
  const gone = freed.flatMap((holder) => {
    const own = sight.holdings.of(holder);
    system.refuseToFree?.(machine, sight.holdings, { holder, own, names });
    return own;
  });
  const steps = enabling
    ? stepsToEnable(there, machine, wishes)
    : stepsToDisable(there, machine, gone);
  goOn();
  watcher.onPlan(steps);
  const run = { session, signals, before: sight.found, look: async () => (await read()).found };
  await carryOut(steps, run, watcher);
  const kinds = there.filter(({ kind, found }) =>
    found.length > 0 || locks.some((lock) => kind.wanted(lock, machine).length > 0)
  ).map(({ kind }) => kind);
  const after = steps.length === 0 ? sight : await read({ machine, kinds }).catch(async (error) => {
    throw await rolledBack(run, unreadable(error));
  });
  const fault = signals.caught ??
    (steps.length === 0 ? undefined : system.verifyAfter?.(machine, after.machine));
  if (fault !== undefined) throw await rolledBack(run, fault);
  await session.commit(`${kind} ${names.join(" ")}`.slice(0, 200));
  if (!enabling) {
    freed.forEach((holder) => refuseLeft(holder, after));
    const stays = freed.flatMap((holder) =>
      system.leaves?.(after.machine, holder).map((note) => `${holder.name}: ${note}`) ?? []
    );
    return { steps, accounts: [], stays, warnings: [] };
  }
  const { accounts } = statusIn(after, names);
  // The lock is made by now, whatever the account has in store for those who look.
  return {
    steps,
    accounts,
    stays: wishes.flatMap(staysOf),
    warnings: [
      ...wholeness(accounts),
      ...systemAccounts(accounts, system.firstOrdinaryUid),
      ...lostAtReboot(accounts),
      ...await system.doors?.(session, after.machine, accounts, true) ?? [],
    ],
  };
}

/** Nobody locks himself out by accident: what was not named has no sudo or session from outside. */
async function refuseOwn(name: string, ask: Ask): Promise<void> {
  const [rights, who] = await Promise.all([ask(["sudo", "-n", "-l", "-U", name]), ask(["who"])]);
  // NAME LINE TIME (HOST): a display of this machine begins with a colon (who(1)).
  const isOutside = (line: string) =>
    line.split(/\s/)[0] === name && /\([^:)][^)]*\)$/.test(line.trim());
  const why = /\bmay run the following commands\b/.test(rights.stdout)
    ? "it may use sudo"
    : who.stdout.split("\n").some(isOutside)
    ? "it has a session from outside"
    : undefined;
  if (why === undefined) return;
  throw new FishnetError(
    `refusing to lock '${name}', your own account ($USER): ${why}; ` +
      `name the agent's account with --agent-user, or '${name}' itself if you mean it`,
  );
}

/** @throws {FishnetError} for what is there of a lock that was taken away: somebody made it again. */
function refuseLeft<M>(holder: Holder, { holdings }: Sight<M>): void {
  const left = holdings.of(holder).filter(({ foreign }) => !foreign).map(({ is }) => is);
  if (left.length === 0) return;
  throw new FishnetError(
    `'${holder.name}' is not unlocked: what was taken away is there again, or something that was ` +
      `not there before (${someOf([...new Set(left)], 3)}): run this again`,
  );
}

/** @throws {FishnetError} for the first reason not to lock an account so. */
export function wishOf<M>(sight: Sight<M>, name: string, asked: Asked): Wish {
  const { system, machine, holdings } = sight;
  const holder = system.holder(machine, holdings, name);
  if (!holder?.exists) {
    throw new FishnetError(`the account '${name}' does not exist: create it first`);
  }
  if (holder.uid === 0) {
    throw new FishnetError(
      `refusing to lock '${name}', which has uid 0 and is root under another name: ` +
        "name the agent's own account",
    );
  }
  const own = holdings.of(holder);
  const lock = lockOf(sight, holder, own, asked);
  system.refuse(machine, holdings, lock);
  return { lock, own, asked };
}

/** An enable loosens nothing that it was not asked to loosen, and says so. */
function staysOf({ lock, asked }: Wish): string[] {
  const kept = optionWords(lock).filter((word) => !optionWords(asked).includes(word));
  return kept.length === 0 ? [] : [`${lock.name}: ${kept.join(" ")} stays as it was`];
}

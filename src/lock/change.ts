/**
 * `enable --apply` and `disable --apply`: one session, one reading, the commands for what is
 * different, and the same reading again when they have run.
 *
 * @module
 */
import type { Backend } from "../account.ts";
import { FishnetError } from "../errors.ts";
import type { Again, System } from "../system.ts";
import { Session } from "../sudo.ts";
import { carryOut, NOTHING_CHANGED, rolledBack, SignalTrap } from "./apply.ts";
import { stepsToDisable, stepsToEnable, type Wish } from "./difference.ts";
import type { Lock, LockOptions, Step } from "./piece.ts";
import { holderOf, lockFound, lockToBe, type Sight, sightOf, statusIn } from "./status.ts";
import type { AccountStatus } from "./report.ts";
import { lostAtReboot, systemAccounts, wholeness } from "./warnings.ts";
import type { Warning } from "./report.ts";

/** What is to be changed, and for whom. */
export interface Change {
  readonly kind: "enable" | "disable";
  readonly accounts: readonly string[];
  /** Whether the accounts were named, and not taken from $USER. */
  readonly accountsGiven: boolean;
  /** What was asked for of an enable; what is left out stays as it is. */
  readonly asked: Partial<LockOptions>;
}

/** How a change is watched from outside. */
export interface ChangeWatcher {
  /** Another run holds the lock: this one waits. */
  onWaiting(): void;
  /** Called once, when the plan is known and before its first command. */
  onPlan(steps: readonly Step[]): void;
  /** Called before each command. */
  onStep(step: Step): void;
  /** Called when a command takes long. */
  onLong(step: Step): void;
}

/** What came of a change. */
export interface Outcome {
  readonly steps: readonly Step[];
  /** The locks of an enable. */
  readonly locks: readonly Lock[];
  /** How the accounts stand after an enable. */
  readonly accounts: readonly AccountStatus[];
  /** What stays of a lock although it was not asked for, a sentence each. */
  readonly stays: readonly string[];
  readonly warnings: readonly Warning[];
}

/**
 * Makes a change, all of it or nothing.
 *
 * @throws {FishnetError} for what is refused, and for a command that failed, with what is left.
 */
export async function makeChange<M>(
  system: System<M>,
  change: Change,
  watcher: ChangeWatcher,
): Promise<Outcome> {
  using signals = new SignalTrap();
  await using session = await Session.open();
  await session.lockOutOtherRuns(watcher.onWaiting, signals.stopped);
  const stopped = () => new FishnetError(`${signals.caught}\n${NOTHING_CHANGED}`);
  if (signals.caught !== undefined) throw stopped();
  if (change.kind === "enable" && !change.accountsGiven) await refuseOwn(system, change, session);
  const read = async (again?: Again<M>) =>
    sightOf(system, await system.read(session.ask, change.accounts, again));
  const [sight] = await Promise.all([read(), session.prepare()]);
  const wishes = change.kind === "enable" ? wishesOf(sight, change) : [];
  for (const { lock, holder } of wishes) {
    system.refuse(sight.machine, sight.holdings, lock, holder);
  }
  await system.refuseTools?.(session.ask, wishes.map(({ lock }) => lock));
  const freed = change.kind === "enable"
    ? []
    : change.accounts.map((name) => holderToFree(sight, name));
  const steps = change.kind === "enable"
    ? stepsToEnable(sight.there, sight.machine, wishes)
    : stepsToDisable(sight.there, sight.machine, freed);
  if (signals.caught !== undefined) throw stopped();
  watcher.onPlan(steps);
  const run = { session, signals, before: sight.there, look: async () => (await read()).there };
  await carryOut(steps, run, watcher);
  const { machine, there } = sight;
  const kinds = there.filter(({ kind, found }) =>
    found.length > 0 || wishes.some(({ lock }) => kind.wanted(lock, machine).length > 0)
  ).map(({ kind }) => kind);
  const enabling = change.kind === "enable";
  // Asked at once, they are one command of root's.
  const [after, doors, reachable] = await Promise.all([
    steps.length === 0 ? sight : read({ machine, kinds }),
    enabling ? system.doors?.(session.ask, machine, change.accounts) : undefined,
    enabling ? system.reachable?.(session.ask) : undefined,
  ]);
  const fault = steps.length === 0 ? undefined : system.verifyAfter?.(sight.machine, after.machine);
  if (fault !== undefined) throw await rolledBack(run, fault);
  await session.commit(`${change.kind} ${change.accounts.join(" ")}`.slice(0, 200));
  const locks = wishes.map(({ lock }) => lock);
  if (change.kind === "disable") {
    const stays = freed.flatMap((holder) =>
      system.savedElsewhere?.(after.machine, holder).map((note) => `${holder.name}: ${note}`) ?? []
    );
    return { steps, locks, accounts: [], stays, warnings: [] };
  }
  const { accounts } = statusIn(after, change.accounts);
  return {
    steps,
    locks,
    accounts,
    stays: wishes.flatMap((wish) => staysOf(wish, change.asked)),
    warnings: [
      ...wholeness(accounts),
      ...systemAccounts(accounts, system.firstOrdinaryUid),
      ...lostAtReboot(accounts),
      ...reachable?.(accounts) ?? [],
      ...doors?.(accounts) ?? [],
    ],
  };
}

/** Nobody locks himself out by accident: an account that was not named is not an operator's. */
async function refuseOwn<M>(system: System<M>, change: Change, session: Session): Promise<void> {
  for (const name of change.accounts) {
    const why = await system.whyAsk(session.ask, name);
    if (why === undefined) continue;
    throw new FishnetError(
      `refusing to lock '${name}', your own account ($USER): ${why}; ` +
        `name the agent's account with --agent-user, or '${name}' itself if you mean it`,
    );
  }
}

function wishesOf<M>(sight: Sight<M>, { accounts, asked }: Change): Wish[] {
  const { system, machine, holdings } = sight;
  return accounts.map((name) => {
    const holder = system.holder(machine, holdings, name);
    if (holder === undefined || !holder.exists) {
      throw new FishnetError(`the account '${name}' does not exist: create it first`);
    }
    const own = [...holdings.of(holder).values()].flat();
    const fallback = (): Backend => system.backend(machine);
    const found = lockFound(holder, own, "iptables");
    return {
      lock: lockToBe(holder, found, asked, fallback),
      holder,
      asked: {
        backend: asked.backend !== undefined,
        onlyPorts: (asked.onlyPorts ?? []).length > 0,
      },
    };
  });
}

function holderToFree<M>(sight: Sight<M>, name: string) {
  try {
    return holderOf(sight, name);
  } catch (error) {
    if (!(error instanceof FishnetError)) throw error;
    throw new FishnetError(`the account '${name}' does not exist, and no rule remembers it`);
  }
}

/** An enable loosens nothing that it was not asked to loosen, and says so. */
function staysOf({ lock }: Wish, asked: Partial<LockOptions>): string[] {
  const kept = [
    ...(asked.onlyPorts?.length ? [] : lock.onlyPorts.map((port) => `--only-port ${port}`)),
    ...(lock.persist && !asked.persist ? ["--persist"] : []),
    ...(lock.sessions && !asked.sessions ? ["--sessions"] : []),
    ...(lock.log && !asked.log ? ["--log"] : []),
  ];
  return kept.length === 0 ? [] : [`${lock.name}: ${kept.join(" ")} stays as it was`];
}

/**
 * `fishnet firewall log`: what locked accounts tried and were refused, in one session.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import { SignalTrap } from "../lock/apply.ts";
import { sightOf } from "../lock/status.ts";
import { Session } from "../sudo.ts";
import { linux } from "./linux.ts";
import { followLog, lostRecords, type Query, readLog } from "./log.ts";
import type { Refusal } from "../lock/report.ts";

/** What is to be shown. */
export interface LogQuery {
  readonly accounts: readonly string[];
  /** How far to look back, in seconds. */
  readonly since: number | undefined;
  readonly follow: boolean;
}

/** What goes with a batch of refusals. */
export interface Batch {
  /** How many records of the audit were lost since the machine was started. */
  readonly lost: number;
  /** Nothing follows. */
  readonly isLast: boolean;
}

/**
 * Shows what was refused, and with `follow` what is from now on, until a signal.
 *
 * @throws {FishnetError} where nothing is recorded, or the log cannot be read.
 */
export async function showLog(
  { accounts, since, follow }: LogQuery,
  show: (refusals: readonly Refusal[], batch: Batch) => void,
): Promise<void> {
  using signals = new SignalTrap();
  await using session = await Session.open();
  const { ask } = session;
  const query: Query = { accounts, ...(since === undefined ? {} : { since }) };
  const recorded = await recordedAccounts(session, accounts);
  const silent = accounts.filter((name) => !recorded.includes(name));
  if (recorded.length === 0 || silent.length > 0) {
    const name = silent[0];
    throw new FishnetError(
      name === undefined
        ? "no account's tries are recorded: lock one with --log"
        : `what '${name}' tries is not recorded: lock it with --log`,
    );
  }
  if (!follow) {
    return show(await readLog(ask, query), { lost: await lostRecords(ask), isLast: true });
  }
  const batches = followLog(ask, query);
  while (true) {
    const next = await Promise.race([batches.next(), signals.stopped]);
    if (next === undefined || next.done) return;
    if (next.value.length > 0) show(next.value, { lost: 0, isLast: false });
  }
}

/** The accounts that are locked with `--log`. */
async function recordedAccounts(
  session: Session,
  names: readonly string[],
): Promise<readonly string[]> {
  const { there } = sightOf(linux, await linux.read(session.ask, names));
  const pieces = there.flatMap(({ found }) => found).filter(({ says }) => says?.log === true);
  return [...new Set(pieces.flatMap(({ owner }) => owner ?? []))];
}

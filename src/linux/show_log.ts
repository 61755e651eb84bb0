/** `fishnet firewall log`: what locked accounts tried and were refused, in one session. */
import { FishnetError } from "../errors.ts";
import { holderOf, sightOf } from "../lock/status.ts";
import { SignalTrap } from "../signals.ts";
import type { Session } from "../sudo.ts";
import { linux } from "./linux.ts";
import { followLog, lostRecords, type Query, readLog } from "./log.ts";
import type { Refusal } from "../lock/report.ts";

/**
 * Shows what was refused, with `follow` from now on too, until a signal, or until `show` says no;
 * returns how many records the audit lost since the machine was started: 0 with `follow`.
 * @throws {FishnetError} for no such account, where nothing is recorded, or the log cannot be read.
 */
export async function showLog(
  query: Query & { readonly follow: boolean },
  show: (refusals: readonly Refusal[]) => boolean,
  opening: Promise<Session>,
): Promise<number> {
  await using session = await opening;
  const { ask } = session;
  const sight = sightOf(linux, await linux.read(session, query.accounts));
  const pieces = sight.there.flatMap(({ found }) => found).filter(({ says }) => says?.log);
  const recorded = new Set(pieces.flatMap(({ owner }) => owner ?? []));
  const silent = query.accounts.find((name) => !recorded.has(name));
  if (silent !== undefined) {
    holderOf(sight, silent);
    throw new FishnetError(`what '${silent}' tries is not recorded: lock it with --log`);
  }
  if (recorded.size === 0) {
    throw new FishnetError("no account's tries are recorded: lock one with --log");
  }
  if (!query.follow) {
    show(await readLog(ask, query));
    return await lostRecords(ask);
  }
  using signals = new SignalTrap();
  const batches = followLog(ask, query);
  while (true) {
    const next = await Promise.race([batches.next(), signals.stopped]);
    if (next === undefined || next.done || !show(next.value)) return 0;
  }
}

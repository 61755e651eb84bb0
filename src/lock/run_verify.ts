/** `verify` with what `status` says, and who the accounts are, in one session. */
import { FishnetError } from "../errors.ts";
import { type Ask, unreadable } from "../root.ts";
import type { Session } from "../sudo.ts";
import type { System } from "../system.ts";
import { holderOf, sightOf, statusIn } from "./status.ts";
import type { Person } from "./tries.ts";
import type { Try, Verification } from "./judge.ts";
import { verify, type VerifyOptions } from "./verify.ts";

/** One after another. @throws {FishnetError} for no such account, or a name without address. */
export async function* verifyAll<M>(
  system: System<M>,
  names: readonly string[],
  options: Pick<VerifyOptions, "target" | "proxy" | "proxyGiven">,
  opening: Promise<Session>,
): AsyncGenerator<Verification> {
  const left = new Set(names);
  try {
    await using session = await opening;
    const { ask } = session;
    const sight = sightOf(system, await system.read(session, [...names, "nobody"]));
    const isLocked = (name: string) => statusIn(sight, [name]).state !== "unlocked";
    const nobody = await personOf(ask, "nobody");
    const control = nobody === undefined || isLocked("nobody")
      ? { name: "root", uid: 0, groups: [0] }
      : nobody;
    const { resolvers = [], trying } = system;
    for (const name of names) {
      const { accounts: [account] } = statusIn(sight, [name]);
      const person = await personOf(ask, name);
      if (person === undefined) {
        throw new FishnetError(`the account '${name}' does not exist: nothing can be tried as it`);
      }
      const { state, onlyPorts } = account!;
      const { ranges } = holderOf(sight, name);
      const verified = { ...person, state, onlyPorts, ranges };
      const from = Date.now();
      const tried = await verify(
        verified,
        { ...options, trying, control, root: session, resolvers },
      );
      const count = await system.recordedTries?.(ask, sight.machine, name, from);
      left.delete(name);
      yield count === undefined ? tried : withRecord(tried, count);
    }
  } catch (error) {
    const what = "the firewall's state";
    const did = unreadable(error);
    const unread: Try = { what, expected: "refused", verdict: "inconclusive", did };
    for (const name of left) yield { name, state: "unknown", proven: false, tries: [unread] };
  }
}

/** Where what is refused is recorded, these tries have to be. */
function withRecord(verification: Verification, count: number): Verification {
  const record: Try = {
    what: "these tries, in the audit's log",
    expected: "refused",
    verdict: count > 0 ? "proven" : "failed",
    did: count > 0 ? `${count} of them are recorded` : "none of them was recorded",
  };
  return {
    ...verification,
    proven: verification.proven && count > 0,
    tries: [...verification.tries, record],
  };
}

/** An account that exists, as the kernel knows it. */
async function personOf(ask: Ask, name: string): Promise<Person | undefined> {
  const [uid, groups] = await Promise.all([ask(["id", "-u", name]), ask(["id", "-G", name])]);
  if (uid.exitCode !== 0 || groups.exitCode !== 0) return undefined;
  return { name, uid: Number(uid.stdout), groups: groups.stdout.trim().split(/\s+/).map(Number) };
}

/**
 * `verify` with what it needs of this machine: what `status` says, and who the accounts are, in one
 * session.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import { type Ask, unreadable } from "../root.ts";
import type { Session } from "../sudo.ts";
import type { System } from "../system.ts";
import { holderOf, sightOf, statusIn } from "./status.ts";
import type { Person } from "./tries.ts";
import type { Try, Verification } from "./judge.ts";
import { verify, type VerifyOptions } from "./verify.ts";

/**
 * Verifies accounts, one after another.
 *
 * @throws {FishnetError} for an account that does not exist, or a target that nothing resolves.
 */
export async function* verifyAll<M>(
  system: System<M>,
  names: readonly string[],
  options: Pick<VerifyOptions, "system" | "target" | "proxy">,
  opening: Promise<Session>,
): AsyncGenerator<Verification> {
  const left = new Set(names);
  try {
    await using session = await opening;
    const { ask } = session;
    const sight = sightOf(system, await system.read(session, [...names, "nobody"]));
    const isLocked = (name: string) => statusIn(sight, [name]).state !== "unlocked";
    const persons = await personsOf(ask, [...names, "nobody"]);
    const nobody = persons.get("nobody");
    const control = nobody === undefined || isLocked("nobody")
      ? { name: "root", uid: 0, groups: [0] }
      : nobody;
    const { resolvers = [] } = system;
    for (const name of names) {
      const { accounts: [account] } = statusIn(sight, [name]);
      const person = persons.get(name);
      if (person === undefined) {
        throw new FishnetError(`the account '${name}' does not exist: nothing can be tried as it`);
      }
      const { state, onlyPorts } = account!;
      const { ranges } = holderOf(sight, name);
      const verified = { ...person, state, onlyPorts, ranges };
      const from = Date.now();
      const tried = await verify(verified, { ...options, control, root: session, resolvers });
      const count = await system.recordedTries?.(ask, sight.machine, name, from);
      left.delete(name);
      yield count === undefined ? tried : withRecord(tried, count);
    }
  } catch (error) {
    const why = unreadable(error);
    yield* [...left].map((name) => unknown(name, why));
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

function unknown(name: string, did: string): Verification {
  const what = "the firewall's state";
  const tries: Try[] = [{ what, expected: "refused", verdict: "inconclusive", did }];
  return { name, state: "unknown", proven: false, tries };
}

/** The accounts that exist, as the kernel knows them. */
async function personsOf(ask: Ask, names: readonly string[]): Promise<Map<string, Person>> {
  const persons = new Map<string, Person>();
  for (const name of new Set(names)) {
    const [uid, groups] = await Promise.all(["-u", "-G"].map((flag) => ask(["id", flag, name])));
    if (uid!.exitCode !== 0 || groups!.exitCode !== 0) continue;
    persons.set(name, {
      name,
      uid: Number(uid!.stdout),
      groups: groups!.stdout.trim().split(/\s+/).map(Number),
    });
  }
  return persons;
}

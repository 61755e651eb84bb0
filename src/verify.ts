/**
 * `verify` with what it needs of this machine: what `status` says, and who the accounts are.
 *
 * @module
 */
import { FishnetError } from "./errors.ts";
import type { Person } from "./lock/tries.ts";
import type { Try, Verification } from "./lock/judge.ts";
import { verify as verifyOne, type VerifyOptions } from "./lock/verify.ts";
import { statusOf } from "./status.ts";
import { runAsRoot } from "./sudo.ts";

export type { Try, Verdict, Verification } from "./lock/judge.ts";

/**
 * Verifies one account.
 *
 * @throws {FishnetError} for an account that does not exist, or a target that nothing resolves.
 */
export async function verify(
  name: string,
  options: Pick<VerifyOptions, "system" | "target" | "proxy">,
): Promise<Verification> {
  const { accounts: [status], reason } = await statusOf([name], options.system);
  const { state, onlyPorts } = status!;
  if (state === "unknown") {
    const what = "the firewall's state";
    const did = reason ?? "it could not be read";
    const tries: Try[] = [{ what, expected: "reached", verdict: "inconclusive", did }];
    return { name, state, proven: false, tries };
  }
  const person = await personOf(name);
  if (person === undefined) {
    throw new FishnetError(`the account '${name}' does not exist: nothing can be tried as it`);
  }
  const control = await controlFor(options.system);
  return await verifyOne({ ...person, state, onlyPorts }, { ...options, control, run: runAsRoot });
}

async function personOf(name: string): Promise<Person | undefined> {
  const [uid, groups] = await Promise.all(
    ["-u", "-G"].map((flag) => runAsRoot(["id", flag, name], { seconds: 5 })),
  );
  if (uid!.exitCode !== 0 || groups!.exitCode !== 0) return undefined;
  return {
    name,
    uid: Number(uid!.stdout),
    groups: groups!.stdout.trim().split(/\s+/).map(Number),
  };
}

/** An account that is not locked: nobody, or root where nobody is locked or not there. */
async function controlFor(system: VerifyOptions["system"]): Promise<Person> {
  const root = { name: "root", uid: 0, groups: [0] };
  try {
    const { state } = await statusOf(["nobody"], system);
    return state === "unlocked" ? await personOf("nobody") ?? root : root;
  } catch (error) {
    if (error instanceof FishnetError) return root;
    throw error;
  }
}

/** Placeholder until the pf planner lands. @module */
import type { Account } from "../account.ts";
import type { Hold, Step } from "../plan.ts";

export function pfGuardStep(account: Account): Step {
  return {
    run: `sudo sh -ec 'u=$(id -u ${account.name}); test $u -gt 0'`,
    why: "the account exists",
  };
}

export function pfHolds(_account: Account, _onlyPorts: readonly number[]): Hold[] {
  return [];
}

/**
 * From options to steps. Planners are pure: none reads the machine, the clock
 * or the environment, so a dry-run works for an account that does not exist
 * yet, and on a machine that is not the target.
 *
 * @module
 */
import type { Account, Backend, System } from "./account.ts";
import { guardStep } from "./linux/accounts.ts";
import { iptablesHolds } from "./linux/iptables.ts";
import { nftablesHolds } from "./linux/nftables.ts";
import { persistHolds, systemdStep } from "./linux/persist.ts";
import { sessionsHolds } from "./linux/sessions.ts";
import { pfGuardStep, pfHolds } from "./macos/pf.ts";
import { disableSteps, enableSteps, type Hold, type Step } from "./plan.ts";

export type { Backend, System };

/** What a lock consists of. */
export interface LockOptions {
  readonly system: System;
  readonly backend: Backend;
  /** The TCP ports that loopback is limited to; none means that all of it is open. */
  readonly onlyPorts: readonly number[];
  /** The lock is there again after a reboot. */
  readonly persist: boolean;
  /** Linux: the account's login sessions are shut as a whole. */
  readonly sessions: boolean;
}

/** The steps that lock the accounts, in order. */
export function planEnable(accounts: readonly Account[], options: LockOptions): Step[] {
  const guard = options.system === "linux" ? guardStep : pfGuardStep;
  return [
    ...accounts.map(guard),
    ...(options.persist && options.system === "linux" ? [systemdStep] : []),
    ...enableSteps(accounts.flatMap((account) => holdsOf(account, options))),
  ];
}

/** The steps that unlock the accounts, in order, whatever options they were locked with. */
export function planDisable(
  accounts: readonly Account[],
  { system, backend }: Pick<LockOptions, "system" | "backend">,
): Step[] {
  const options = { system, backend, onlyPorts: [], persist: false, sessions: false };
  return disableSteps(accounts.flatMap((account) => holdsOf(account, options)));
}

function holdsOf(account: Account, options: LockOptions): Hold[] {
  const { system, backend, onlyPorts, persist, sessions } = options;
  if (system === "macos") return pfHolds(account, { onlyPorts, persist });
  const backendHolds = backend === "iptables" ? iptablesHolds : nftablesHolds;
  // At boot, the same steps with the uid for the name.
  const atBoot = () => ({
    steps: enableSteps(backendHolds({ ...account, uid: "$uid" }, onlyPorts)),
    backend,
    onlyPorts,
  });
  return [
    ...backendHolds(account, onlyPorts),
    ...persistHolds(account, persist ? atBoot() : undefined),
    ...sessionsHolds(account, sessions),
  ];
}

/**
 * macOS: all that a lock consists of there, in order, and what pf cannot hold.
 *
 * The content comes before its call, and the call before pf is turned on; away with them backwards.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import type { Kind, Lock } from "../lock/piece.ts";
import { loadedRules, rulesFile, skipFault } from "./anchor.ts";
import { call, PRINTED_CALL, rulesWithoutCall } from "./call.ts";
import { daemon, isThere } from "./daemon.ts";
import { accountsOf } from "./draft.ts";
import { calledIn, type Machine } from "./machine.ts";
import { pfConf, pfConfWithoutOurs } from "./pf_conf.ts";
import { reference } from "./reference.ts";

export { readMachine } from "./machine.ts";

/** Every kind of piece, in the order in which they are made. */
export const kinds: readonly Kind<Machine>[] = [
  rulesFile,
  pfConf,
  loadedRules,
  call,
  reference,
  daemon,
];

/**
 * What the lock that was found for an account is meant to be, by its name now or when it was locked;
 * undefined where there is none.
 */
export function currentLock(machine: Machine, name: string): Lock | undefined {
  const uid = machine.accounts.get(name)?.uid;
  const all = accountsOf(machine).accounts;
  const found = all.find((rules) => rules.uid === uid) ?? all.find((rules) => rules.owner === name);
  if (found === undefined) return undefined;
  return {
    name,
    uid: Number(found.uid),
    ranges: [],
    backend: "iptables",
    onlyPorts: found.onlyPorts ?? [],
    persist: isThere(machine),
    sessions: false,
    log: false,
  };
}

/**
 * Refuses what must not, or cannot, be locked.
 *
 * @throws {FishnetError} for an account that does not exist, has uid 0, or is called otherwise: macOS
 * finds `Agent` for `agent`, pf does not; and where pf does not look at every packet.
 */
export function refuse(machine: Machine, { name, onlyPorts }: Lock): void {
  const account = machine.accounts.get(name);
  if (account?.uid === undefined) throw new FishnetError(`the account '${name}' does not exist`);
  if (account.uid === 0) {
    throw new FishnetError(
      `refusing to lock '${name}', which has uid 0: that is the whole machine`,
    );
  }
  if (account.called !== name) {
    throw new FishnetError(
      `the account '${name}' is called '${account.called ?? account.uid}': name it so`,
    );
  }
  const skipped = machine.skipped.filter((device) => device !== "lo0" || onlyPorts.length > 0);
  if (skipped.length > 0) throw new FishnetError(skipFault(skipped));
}

/** What is worth knowing of a lock, and changes no state. */
export function notes(machine: Machine, name: string): string[] {
  const place = machine.rules.indexOf(PRINTED_CALL);
  const account = machine.accounts.get(name);
  return [
    ...(account !== undefined && account.uid === undefined
      ? ["the account no longer exists, its rules do"]
      : []),
    ...(isThere(machine) ? [] : [
      "Internet Sharing, virtual machines and some VPNs replace pf's rules: without --persist nothing puts the lock back",
    ]),
    ...calledIn(machine.rules.slice(0, Math.max(place, 0))).map((anchor) =>
      `the anchor "${anchor}" is called before ours: what it passes quick, ours does not see`
    ),
  ];
}

/**
 * Whether a plan did what it should have, and nothing else: pfctl ends with 0 whatever happened. A
 * sentence where it did not, after which all has to be undone; it is asked before that is too late.
 */
export function verifyAfter(before: Machine, after: Machine): string | undefined {
  if (rulesWithoutCall(before).join("\n") !== rulesWithoutCall(after).join("\n")) {
    return "pf's running rules are no longer those that were read: what was read is loaded again";
  }
  if (before.beside !== after.beside) {
    return "pf's translation or dummynet rules are no longer those that were read";
  }
  if (pfConfWithoutOurs(before.pfConf ?? "") !== pfConfWithoutOurs(after.pfConf ?? "")) {
    return "the lines of others in /etc/pf.conf are no longer those that were read";
  }
  const left = accountsOf(after).accounts.length;
  if (left === 0) return undefined;
  // What a disable leaves to others is no worse than it was.
  const known = left < accountsOf(before).accounts.length ? deficits(before) : [];
  return deficits(after).find((deficit) => !known.includes(deficit));
}

/** Why the locks that are there would not hold. */
function deficits(machine: Machine): string[] {
  const found = kinds.slice(0, -1).map((kind) => kind.found(machine));
  const said = machine.tokenFile?.trim().split("\n").at(-1) ?? "pfctl said nothing";
  return [
    ...found.flat().flatMap(({ is, fault }) => fault === undefined ? [] : [`${is}: ${fault}`]),
    ...(found[3]!.length > 0 ? [] : ["pf did not take the call of our anchor"]),
    ...(found[4]!.length > 0 ? [] : [`pf gave no reference: ${said}`]),
  ];
}

/** What no rule of pf can close, in the words that the README uses too. */
export const NOT_COVERED: readonly string[] = [
  "names that mDNSResponder looks up, and requests that other system daemons make for it",
  "ping and other ICMP: pf knows no account for it",
  "setuid-root programs, sudo, and virtual machines, which act as another account",
  "a relay on this machine (a SOCKS or HTTP proxy), unless --only-port shuts it",
];

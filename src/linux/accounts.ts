/**
 * Pieces of shell that the Linux planners share. Each runs inside
 * `sudo sh -c '…'`, so none of them holds a single quote.
 *
 * @module
 */
import type { Account } from "../account.ts";
import type { Step } from "../plan.ts";

/**
 * Succeeds where the kernel was started with `ipv6.disable=1`: there is no IPv6 to lock then, nor
 * will there be, and the tools for it fail. That it is not there yet is no such proof: the kernel
 * may load it later.
 */
export const NO_IPV6 = "grep -qsx 1 /sys/module/ipv6/parameters/disable";

/** Prints the account's uid; fails where there is no such account. */
export function uidOf(account: Account): string {
  return account.uid === undefined ? `$(id -u ${account.name})` : `${account.uid}`;
}

/** What iptables takes as the owner: the name, or the uid of a deleted account. */
export function ownerOf(account: Account): string {
  return `${account.uid ?? account.name}`;
}

/**
 * The first step of every lock: root is never locked, nor what does not exist.
 * Other names with uid 0 occur (toor), and only the machine knows them.
 */
export function guardStep(account: Account): Step {
  return {
    run: `sudo sh -ec 'u=${uidOf(account)}; test $u -gt 0'`,
    why: `the account exists, and is not root under another name`,
  };
}

/**
 * Prints the account's lines of /etc/subuid, `NAME:FIRST:COUNT`. Entries go by
 * name or by uid (subuid(5)); a system without the file has no such entries.
 *
 * @param uid what stands for the uid, where a variable has it
 */
export function subordinateEntries(account: Account, uid = uidOf(account)): string {
  return `grep -sE "^(${account.name}|${uid}):" /etc/subuid`;
}

/** The range `$r`, as iptables and nft print it: one of a single uid is that uid alone. */
export const LISTED_RANGE = "${r%-${r%-*}}";

/** Runs `body` for each subordinate range, with `$r` as FIRST-LAST. */
export function forEachRange(account: Account, body: string): string {
  return `${subordinateEntries(account)} | while IFS=: read n a c; do ` +
    `r=$a-$((a+c-1)); ${body}; done`;
}

/**
 * The step that covers the account's subordinate ranges: for each one that is
 * not `present`, print it and `add` it; `remove` is the exact inverse of `add`.
 * Each of the three takes the range as `$r`.
 */
export function rangesStep(
  commands: { present: string; add: string; remove: string },
  why: string,
  forEach: (body: string) => string,
): Step {
  const { present, add, remove } = commands;
  return {
    run: `sudo sh -ec '${forEach(`${present} || { echo $r; ${add}; }`)}'`,
    why,
    undoEach: `sudo sh -ec 'for r; do ${present} || continue; ${remove}; done' undo`,
  };
}

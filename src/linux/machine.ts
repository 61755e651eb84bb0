/**
 * One reading of a Linux machine: what root's commands printed, and what every kind of piece needs
 * of it: the accounts, their subordinate uids, and the families that there are.
 */
import type { Known, Questions } from "../lock/piece.ts";
import { type Answer, type Ask, type Files, UnreadableError } from "../root.ts";
import type { PasswdEntry, Subuid } from "./accounts.ts";

/** IPv4 or IPv6. */
export type Family = 4 | 6;

/** One of the two programs that the plain name `iptables` may stand for. */
export type Variant = "nft" | "legacy";

/** Both of them. */
export const FAMILIES: readonly Family[] = [4, 6];

/** It is there where the kernel has IPv6. */
export const IPV6 = "/proc/net/if_inet6";

/** Those that the kernel has. */
export const familiesOf = (files: Files): readonly Family[] => files.has(IPV6) ? FAMILIES : [4];

/** The machine's state, as its own tools print it. */
export interface Machine {
  /** What was printed, by the names of the kinds' questions. */
  readonly answers: Known["answers"];
  readonly files: Files;
  readonly passwd: readonly PasswdEntry[];
  readonly subuid: Subuid;
  /** A kernel without IPv6 has none to lock. */
  readonly families: readonly Family[];
}

/** What could not be read, and what its tool said; in a container root may lack the right to it. */
export function unread(what: string, { exitCode }: Answer, said: string): UnreadableError {
  const cure = said.includes("you must be root")
    ? "; root lacks CAP_NET_ADMIN here: start a container with --cap-add NET_ADMIN"
    : "";
  return new UnreadableError(`${what} (exit status ${exitCode}): ${said}${cure}`);
}

/** Asks all of it at once. */
export async function askAll(ask: Ask, questions: Questions): Promise<Map<string, Answer>> {
  const asked = Object.entries(questions)
    .map(async ([name, words]) => [name, await ask(words)] as const);
  return new Map(await Promise.all(asked));
}

/**
 * What a locked account on Linux could still do through somebody else: root's rights, a service that
 * asks other machines for it, a socket that no rule for a uid holds, a connection from before.
 *
 * @module
 */
import type { AccountStatus } from "../lock/report.ts";
import type { Warning } from "../lock/report.ts";
import type { Ask } from "../sudo.ts";
import { subordinateRanges } from "./accounts.ts";
import type { Machine } from "./machine.ts";
import { filePaths, fileWarnings } from "./side_doors/files.ts";
import {
  familyAliases,
  familyWarnings,
  lentUidsWarnings,
  mptcpWarnings,
} from "./side_doors/kernel.ts";
import type { Locked } from "./side_doors/locked.ts";
import { look } from "./side_doors/look.ts";
import { groupWarnings, requestKeyWarnings, sudoWarnings } from "./side_doors/rights.ts";
import { connectionWarnings, relayWarnings } from "./side_doors/sockets.ts";

/** Beyond this many, an account is asked about only by name: `sudo -l` takes a while for each. */
const MAX_ACCOUNTS = 20;

/** The warnings for accounts that anything of a lock is there for. */
export function sideDoors(
  ask: Ask,
  machine: Machine,
  accounts: readonly AccountStatus[],
): Promise<Warning[]> {
  return warningsFor(ask, accounts.flatMap((account) => lockedOf(account, machine) ?? []));
}

/** Undefined for an account that was deleted: it has nothing left to warn of. */
function lockedOf(account: AccountStatus, machine: Machine): Locked | undefined {
  const { name, uid, onlyPorts, backend, pieces } = account;
  const entry = machine.passwd.find((known) => known.name === name && known.uid === uid);
  if (entry === undefined) return undefined;
  const mptcp = pieces.filter((piece) => piece.name.includes("MPTCP"));
  return {
    name,
    uid: entry.uid,
    onlyPorts,
    ranges: subordinateRanges(machine.subuid, entry),
    // With nftables, the table has it or is not there.
    mptcpHeld: mptcp.every(({ present }) => present) &&
      (backend === "nftables" || mptcp.length > 0),
  };
}

/**
 * The warnings, of one command of root's.
 *
 * @param accounts those whose state is known
 */
export async function warningsFor(ask: Ask, accounts: readonly Locked[]): Promise<Warning[]> {
  if (accounts.length === 0) return [];
  const asked = accounts.slice(0, MAX_ACCOUNTS);
  const looked = await look(ask, [
    ...asked.filter(({ name }) => /^[A-Za-z_][\w.-]*\$?$/.test(name))
      .map(({ name }) => `account ${name}`),
    ...asked.flatMap(({ ranges }) => ranges.map(({ first }) => `uid ${first}`)),
    ...familyAliases(),
    ...filePaths(),
  ]);
  if (looked === undefined) {
    return [{
      reason: "what the accounts could do through somebody else could not be read",
      remedy: "run status again",
    }];
  }
  const text = (name: string) => looked(name) ?? "";
  return [
    ...asked.flatMap(({ name }) => [
      ...sudoWarnings(name, text(`sudo ${name}`)),
      ...groupWarnings(name, text(`id ${name}`)),
    ]),
    ...fileWarnings(asked, looked),
    ...connectionWarnings(accounts, looked("sockets"), text("addresses")),
    ...familyWarnings(text("protocols"), text("autoload")),
    ...mptcpWarnings(accounts, text("mptcp")),
    ...requestKeyWarnings(text("request-key")),
    ...lentUidsWarnings(looked("nsresourced") !== undefined, text("nsswitch")),
    ...relayWarnings(accounts, text("sockets")),
    ...(accounts.length > asked.length
      ? [{
        reason: `only the first ${MAX_ACCOUNTS} accounts were asked about sudo, groups and files`,
        remedy: "name the others with --agent-user",
      }]
      : []),
  ];
}

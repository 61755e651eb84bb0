/**
 * What a locked account on Linux could still do through somebody else: root's rights, a service that
 * asks other machines for it, a socket that no rule for a uid holds, a connection from before.
 *
 * @module
 */
import type { Warning } from "../../lock/warning.ts";
import { familyAliases, familyWarnings, lentUidsWarnings, mptcpWarnings } from "./kernel.ts";
import { type Ask, look } from "./look.ts";
import type { Locked } from "./locked.ts";
import { groupWarnings, requestKeyWarnings, sudoWarnings } from "./rights.ts";
import { rightsPaths, rightsWarnings } from "./files.ts";
import { connectionWarnings, relayWarnings } from "./sockets.ts";

/** Beyond this many, an account is asked about only by name: `sudo -l` takes a while for each. */
const MAX_ACCOUNTS = 20;

/**
 * The warnings for the accounts.
 *
 * @param ask runs one command as root
 * @param accounts those whose state is known; deleted ones have nothing left to warn of
 */
export async function sideDoors(ask: Ask, accounts: readonly Locked[]): Promise<Warning[]> {
  if (accounts.length === 0) return [];
  const asked = accounts.slice(0, MAX_ACCOUNTS);
  const looked = await look(ask, [
    ...asked.filter(({ name }) => /^[A-Za-z_][\w.-]*\$?$/.test(name))
      .map(({ name }) => `account ${name}`),
    ...asked.flatMap(({ ranges }) => ranges.map(({ first }) => `uid ${first}`)),
    ...familyAliases(),
    ...rightsPaths(),
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
    ...rightsWarnings(asked, looked),
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

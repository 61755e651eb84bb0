/** The agent's account: which names are accepted, and where it lives. */
import { FishnetError } from "./errors.ts";

/** The systems with a packet filter that this program knows. */
export type System = "linux" | "macos";

/** What Deno calls them. */
export const SYSTEMS: Readonly<Record<string, System>> = { linux: "linux", darwin: "macos" };

/** Which of Linux's two rule sets carries a lock. */
export type Backend = "iptables" | "nftables";

/** Where the local proxy listens if nothing else is said: the reference page's port. */
export const PROXY_PORT = 3777;

/** Longest name that Linux accepts: LOGIN_NAME_MAX of useradd(8), and of pf's anchor path. */
const MAX_NAME_LENGTH = 32;

/** A name as it is, checked in the reference page's order. @throws {FishnetError} in its words. */
export function parseAccountName(name: string): string {
  const invalid = (why: string) => new FishnetError(`invalid unix username '${name}': ${why}`);
  if (name.length < 1 || name.length > MAX_NAME_LENGTH) throw invalid("must be 1-32 characters");
  if (!/^[A-Za-z_]/.test(name)) throw invalid("must start with a letter or underscore");
  if (!/^[A-Za-z0-9_-]+$/.test(name)) {
    throw invalid("only alphanumeric, underscore, and hyphen are allowed");
  }
  return name;
}

/** Whether a name is one that the command line takes: accounts of other names cannot be asked for. */
export const isAccountName = (name: string): boolean => /^[A-Za-z_][\w-]{0,31}$/.test(name);

/** @throws {FishnetError} for `root`; other names with uid 0 only the machine knows. */
export function refuseRoot(name: string): void {
  if (name === "root") {
    throw new FishnetError(
      "refusing to lock 'root', which would cut off the whole machine: " +
        "name the agent's account with --agent-user (under sudo, $USER is root)",
    );
  }
}

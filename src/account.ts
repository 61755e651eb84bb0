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

/** Why a name is none, in the reference page's order and words. */
function faultOf(name: string): string | undefined {
  if (name.length < 1 || name.length > MAX_NAME_LENGTH) return "must be 1-32 characters";
  if (!/^[A-Za-z_]/.test(name)) return "must start with a letter or underscore";
  return /^[A-Za-z0-9_-]+$/.test(name)
    ? undefined
    : "only alphanumeric, underscore, and hyphen are allowed";
}

/** A name as it is. @throws {FishnetError} in the reference page's words. */
export function parseAccountName(name: string): string {
  const fault = faultOf(name);
  if (fault === undefined) return name;
  throw new FishnetError(`invalid unix username '${name}': ${fault}`);
}

/** Whether a name is one that the command line takes: accounts of other names cannot be asked for. */
export const isAccountName = (name: string): boolean => faultOf(name) === undefined;

/** @throws {FishnetError} for `root`; other names with uid 0 only the machine knows. */
export function refuseRoot(name: string): void {
  if (name === "root") {
    throw new FishnetError(
      "refusing to lock 'root', which would cut off the whole machine: " +
        "name the agent's account with --agent-user (under sudo, $USER is root)",
    );
  }
}

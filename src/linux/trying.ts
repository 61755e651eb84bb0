/** What `verify` knows of Linux: by which words it refuses, and how the kernel is asked for a route. */
import type { Answer } from "../root.ts";
import { type Attempt, type Family, isLoopback, type Trying } from "../lock/tries.ts";
import { shown } from "../shown.ts";

/** The errors are those of a rule that rejects, and of one that prohibits. */
export const trying: Trying = {
  refusals: ["EACCES", "EPERM"],

  /** Those that a device leading outside has an address of. */
  async familiesOf(look) {
    const [devices] = (await look(["/proc/net/if_inet6"])).values();
    const isOutside = (line: string) => line !== "" && !/\slo$/.test(line);
    return devices?.text.split("\n").some(isOutside) ? [4, 6] : [4];
  },

  async addressesOf(ask, name) {
    const found = new Map<Family, string>();
    for (const family of [4, 6] as const) {
      const words = ["getent", `ahostsv${family}`, "--", name];
      const address = (await ask(words, { seconds: 5 })).stdout.split(/\s/, 1)[0];
      // A name without IPv6 is answered with IPv4 addresses in IPv6's clothes.
      if (address && !address.startsWith("::ffff:")) found.set(family, address);
    }
    return found;
  },

  async routeOf(ask, family, address, uid) {
    const words = ["ip", `-${family}`, "route", "get", address, "uid", `${uid}`];
    return readRoute(await ask(words, { seconds: 3 }));
  },

  async isHere(ask, family, address) {
    // The kernel takes :: for ::1 (tcp_v6_connect).
    if (isLoopback(address)) return true;
    const words = ["ip", `-${family}`, "route", "get", address];
    return (await ask(words, { seconds: 3 })).stdout.startsWith("local ");
  },
};

/** Reads what `ip route get` printed. */
export function readRoute({ exitCode, stdout, stderr }: Answer): Omit<Attempt, "by"> {
  const device = /\bdev ([!-~]+)/.exec(stdout)?.[1];
  if (exitCode === 0 && device !== undefined && device !== "lo") {
    return { outcome: "reached", said: `there is a route by ${device}`, device };
  }
  // The answer to a prohibit rule, and to no other (ip-rule(8)).
  if (exitCode !== 0 && /^RTNETLINK answers: Permission denied$/m.test(stderr)) {
    const said = "the kernel refuses a route (Permission denied)";
    return { outcome: "refused", said, word: "EACCES" };
  }
  if (exitCode !== 0 && /^RTNETLINK answers: Network is unreachable$/m.test(stderr)) {
    return { outcome: "broken", said: "Network is unreachable", word: "ENETUNREACH" };
  }
  const said = stderr.trim().split("\n").at(-1)?.replace("RTNETLINK answers: ", "");
  return { outcome: "broken", said: shown(said || "there is no route") };
}

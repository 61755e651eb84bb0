/**
 * A machine that is made of texts alone: what the system's own tools printed, by the commands that
 * print it. For cases that nobody wants to build in a kernel; the same cases run there as well.
 *
 * @module
 */
import { linux } from "../../src/linux/linux.ts";
import type { Family, Machine } from "../../src/linux/machine.ts";
import { type Sight, sightOf } from "../../src/lock/status.ts";
import { type Answer, type Root, type Seen, UnreadableError } from "../../src/root.ts";
import type { Session } from "../../src/sudo.ts";

/**
 * What the tools print, by their command lines, and what files hold, by their paths; a text is printed
 * with exit code 0, and `null` is not there. A file with another code is there and cannot be read.
 */
export type Printed = Readonly<Record<string, string | Partial<Answer> | null>>;

/** The answers of a machine with an account `agent` (uid 1001), and no rule at all. */
export const BARE: Printed = {
  "getent passwd": "root:x:0:0::/root:/bin/sh\nagent:x:1001:1001::/home/agent:/bin/sh\n",
  "/etc/subuid": "",
  "/proc/net/if_inet6": "",
  "/proc/net/ip_tables_names": "filter\nmangle\n",
  "/proc/net/ip6_tables_names": "filter\nmangle\n",
  "iptables --version": "iptables v1.8.9 (nf_tables)\n",
  "auditctl -l": "No rules\n",
  "iptables-nft-save": "",
  "iptables-legacy-save": "",
  "ip6tables-nft-save": "",
  "ip6tables-legacy-save": "",
  "ip -4 rule show": "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n",
  "ip -6 rule show": "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n",
};

/** Answers for whatever is not there. */
const NOT_THERE: Answer = { exitCode: 1, stdout: "", stderr: "Error: No such file or directory\n" };

/**
 * Root's answers, out of texts.
 *
 * @param given what a command prints, or a file holds; undefined for what is not there
 * @param names all that there may be
 */
export function fakeRoot(
  given: (name: string) => Answer | undefined,
  names: readonly string[],
): Root {
  return {
    ask: (words) => Promise.resolve(given(words.join(" ")) ?? NOT_THERE),
    look(paths) {
      const files = new Map<string, Seen>();
      for (const path of names.filter((name) => paths.some((path) => matches(path, name)))) {
        const answer = given(path);
        if (answer === undefined) continue;
        const { exitCode, stdout: text, stderr } = answer;
        if (exitCode !== 0) {
          const error = `${path} could not be read: ${stderr.trim()}`;
          return Promise.reject(new UnreadableError(error));
        }
        files.set(path, { type: "f", mode: "644", uid: 0, target: "", text });
      }
      return Promise.resolve(files);
    },
  };
}

/** The bare machine's root, with other answers in some places. */
export function rootWith(printed: Printed): Root {
  const all: Printed = { ...BARE, ...printed };
  const given = (name: string): Answer | undefined => {
    const answer = all[name] ?? undefined;
    if (answer === undefined) return undefined;
    const said = typeof answer === "string" ? { stdout: answer } : answer;
    return { exitCode: 0, stdout: "", stderr: "", ...said };
  };
  return fakeRoot(given, Object.keys(all));
}

/** A session on it: nobody else has one, and it is not for changes. */
export function sessionWith(printed: Printed): Promise<Session> {
  const session = {
    ...rootWith(printed),
    lockOutOtherRuns: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  return Promise.resolve(session as unknown as Session);
}

function matches(pattern: string, path: string): boolean {
  const parts = pattern.split("*").map((part) => part.replace(/[^\w/]/g, "\\$&"));
  return new RegExp(`^${parts.join("[^/]*")}$`).test(path);
}

/** The bare machine, with other answers in some places. */
export function machineWith(printed: Printed): Promise<Machine> {
  return linux.read(rootWith(printed), []);
}

/** What is found on it. */
export async function sightWith(printed: Printed): Promise<Sight<Machine>> {
  return sightOf(linux, await machineWith(printed));
}

/** What our chain in mangle holds, as it is saved. */
export const shut = (family: Family) => [
  "-A fishnet -m addrtype ! --src-type LOCAL -j DROP",
  ...(family === 4 ? [] : [
    "-A fishnet ! -s ::1/128 -d ::1/128 -j DROP",
    "-A fishnet -s fe80::/10 -o lo -j DROP",
    "-A fishnet -d fe80::/10 -o lo -j DROP",
  ]),
  "-A fishnet -p sctp -j DROP",
  "-A fishnet -p tcp -m tcp --tcp-flags SYN SYN -j TCPOPTSTRIP --strip-options 30",
];

/** What stands in POSTROUTING for all accounts. */
export const ownerless = (family: Family) =>
  `${family === 4 ? "" : "! -d fe80::/10 "}! -o lo -m owner ! --uid-owner 0-65535 ` +
  "-m addrtype --dst-type LOCAL -j DROP";

/** For IPv6. */
export const LAPSED = "-o lo -m owner ! --uid-owner 0-65535 -m addrtype ! --src-type LOCAL -j DROP";

/** For IPv6. */
export const OVERDUE = "! -o lo -p ipv6-icmp -m icmp6 --icmpv6-type 3/1 " +
  "-m addrtype --src-type LOCAL -j DROP";

/** What iptables-save prints of a lock of `agent` without options. */
function savedLock(family: Family): string {
  const [jump, icmp] = family === 4 ? ["POSTROUTING -o lo", "icmp"] : ["OUTPUT", "icmp6"];
  return `*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:fishnet - [0:0]
-A ${jump} -m owner --uid-owner 1001 -j fishnet
-A POSTROUTING ! -o lo -m owner --uid-owner 1001 -m comment --comment "fishnet:agent" -j DROP
-A POSTROUTING ${ownerless(family)}
${family === 4 ? "" : `-A POSTROUTING ${LAPSED}\n-A POSTROUTING ${OVERDUE}\n`}${
    shut(family).join("\n")
  }
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A OUTPUT ! -o lo -m owner --uid-owner 1001 -j REJECT --reject-with ${icmp}-port-unreachable
COMMIT
`;
}

const ROUTING = "0:\tfrom all lookup local\n77:\tfrom all uidrange 1001-1001 prohibit\n" +
  "32766:\tfrom all lookup main\n";

/** A whole lock of `agent`, as Debian 12's tools print it. */
export const LOCKED = {
  "ip -4 rule show": ROUTING,
  "ip -6 rule show": ROUTING,
  "iptables-nft-save": savedLock(4),
  "ip6tables-nft-save": savedLock(6),
} as const;

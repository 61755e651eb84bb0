/**
 * A machine that is made of texts alone: what the system's own tools printed, by the commands that
 * print it. For cases that nobody wants to build in a kernel; the same cases run there as well.
 *
 * @module
 */
import { linux } from "../../src/linux/linux.ts";
import type { Machine } from "../../src/linux/machine.ts";
import type { Answer } from "../../src/lock/piece.ts";
import { type Sight, sightOf } from "../../src/lock/status.ts";
import type { Ask } from "../../src/sudo.ts";

/** What the tools print, by their command lines; a text is printed with exit code 0. */
export type Printed = Readonly<Record<string, string | Partial<Answer>>>;

/** The answers of a machine with an account `agent` (uid 1001), and no rule at all. */
export const BARE: Printed = {
  "getent passwd": "root:x:0:0::/root:/bin/sh\nagent:x:1001:1001::/home/agent:/bin/sh\n",
  "cat /etc/subuid": "",
  "test -e /proc/net/if_inet6": "",
  "iptables --version": "iptables v1.8.9 (nf_tables)\n",
  "iptables-nft-save": "",
  "iptables-legacy-save": "",
  "ip6tables-nft-save": "",
  "ip6tables-legacy-save": "",
  "ip -4 rule show": "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n",
  "ip -6 rule show": "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n",
};

/** Answers for whatever is not there. */
const NOT_THERE: Answer = { exitCode: 1, stdout: "", stderr: "No such file or directory\n" };

/** Root's answers, out of texts. */
export function asking(printed: Printed): Ask {
  const all: Printed = { ...BARE, ...printed };
  return (words) => {
    const answer = all[words.join(" ")];
    if (answer === undefined) return Promise.resolve(NOT_THERE);
    const given = typeof answer === "string" ? { stdout: answer } : answer;
    return Promise.resolve({ exitCode: 0, stdout: "", stderr: "", ...given });
  };
}

/** The bare machine, with other answers in some places. */
export function machineWith(printed: Printed): Promise<Machine> {
  return linux.read(asking(printed), []);
}

/** What is found on it. */
export async function sightWith(printed: Printed): Promise<Sight<Machine>> {
  return sightOf(linux, await machineWith(printed));
}

/** What iptables-save prints of a lock of `agent` without options. */
function savedLock(icmp: string): string {
  return `*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A OUTPUT -p sctp -m owner --uid-owner 1001 -j DROP
-A OUTPUT -o lo -p tcp -m owner --uid-owner 1001 -m tcp --tcp-flags SYN SYN -j TCPOPTSTRIP --strip-options 30
-A POSTROUTING ! -o lo -m owner --uid-owner 1001 -m comment --comment "fishnet:agent" -j DROP
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
  "iptables-nft-save": savedLock("icmp"),
  "ip6tables-nft-save": savedLock("icmp6"),
} as const;

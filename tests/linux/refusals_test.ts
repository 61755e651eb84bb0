/**
 * What `enable --apply` refuses, by what the system's own tools print; preflight_test.ts has some of
 * it on real accounts, with the whole program.
 */
import { assertRejects } from "@std/assert";
import { FishnetError } from "../../src/errors.ts";
import { linux } from "../../src/linux/linux.ts";
import type { Watcher } from "../../src/lock/apply.ts";
import { makeChange } from "../../src/lock/change.ts";
import type { Lock, LockOptions } from "../../src/lock/piece.ts";
import type { SignalTrap } from "../../src/signals.ts";
import {
  BARE,
  LOCKED,
  type Printed,
  rootWith,
  sessionWith,
  sightWith,
} from "../support/fake_machine.ts";
import { enableSteps } from "../support/inside.ts";

const PASSWD = BARE["getent passwd"];
const accounts = (...lines: string[]) => ({ "getent passwd": `${PASSWD}${lines.join("\n")}\n` });
/** Somebody else, and what /etc/subuid says. */
const subuid = (...lines: string[]) => ({
  ...accounts("other:x:1002:1002::/home/other:/bin/sh"),
  "/etc/subuid": lines.map((line) => `${line}\n`).join(""),
});
const nft = (version: string) => ({ "nft --version": `nftables v${version} (A Name)\n` });
const NFT = { backend: "nftables" } as const;

const REFUSED: readonly (readonly [why: string, Printed, Partial<LockOptions>, says: string])[] = [
  [
    "uid 0, under another name",
    { "getent passwd": "root:x:0:0::/root:/bin/sh\nagent:x:0:0::/:/bin/sh\n" },
    {},
    "refusing to lock 'agent', which has uid 0",
  ],
  [
    "a uid that two accounts share",
    accounts("twin:x:1001:1001::/:/bin/sh"),
    {},
    "'agent', which shares uid 1001 with 'twin'",
  ],
  [
    "a uid that is the name of another account",
    accounts("1001:x:1002:1002::/:/bin/sh"),
    {},
    "whose uid 1001 is also the name of an account, with uid 1002",
  ],
  ["root's uid in its range", subuid("agent:0:100"), {}, "uids 0-99 contain root's"],
  ["another's uid in its range", subuid("agent:1002:1"), {}, "contain that of 'other' (1002)"],
  [
    "another's range in its range",
    subuid("other:100000:65536", "agent:100007:1"),
    {},
    "overlap those of 'other'",
  ],
  [
    "its uid in another's range",
    subuid("other:1000:3"),
    {},
    "uid 1001 is one of the subordinate uids of 'other'",
  ],
  ...["agent:0x77359400:10", "agent:02000000000:10", "agent:1950000000:0"].map((line) =>
    [
      `the line ${line} of /etc/subuid, which others may read otherwise`,
      subuid(line),
      {},
      `line for 'agent' that is no range, "${line}": write agent:FIRST`,
    ] as const
  ),
  [
    "a range that only a directory service knows to be its own",
    {
      ...subuid("AGENT:100000:65536"),
      "getent passwd -- AGENT": "agent:x:1001:1001::/home/agent:/bin/sh\n",
    },
    {},
    "/etc/subuid has 100000-165535 for 'AGENT', which is 'agent' by another name",
  ],
  [
    "a name that another account had when it was locked",
    {
      ...LOCKED,
      "getent passwd": "root:x:0:0::/:/bin/sh\nagent:x:1002:1002::/:/bin/sh\n" +
        "renamed:x:1001:1001::/:/bin/sh\n",
    },
    { onlyPorts: [3778] },
    "'renamed' (uid 1001) is locked under the name 'agent', which it had: disable 'agent' first",
  ],
  [
    "loopback after the lock",
    { "ip -6 rule show": "100:\tfrom all lookup local\n32766:\tfrom all lookup main\n" },
    {},
    "off loopback as well: ip -6 rule has no",
  ],
  [
    "nftables: a range among ordinary uids",
    { ...nft("1.0.6"), ...subuid("agent:60100:10") },
    NFT,
    "60100-60109 of 'agent' lie among ordinary uids",
  ],
  ["nftables: nft 0.9.8", nft("0.9.8"), NFT, "needs nft 1.0.3, and here is 0.9.8: use"],
  ["nftables: nft 1.0.2", nft("1.0.2"), NFT, "needs nft 1.0.3, and here is 1.0.2: use"],
];

/** What an enable asks before anything changes. */
async function enabled(printed: Printed, asked: Partial<LockOptions>): Promise<void> {
  enableSteps(await sightWith(printed), ["agent"], asked);
  await linux.refuseTools?.(rootWith(printed).ask, [{ backend: "iptables", ...asked } as Lock]);
}

for (const [why, printed, asked, says] of REFUSED) {
  Deno.test(`enable refuses ${why}`, async () => {
    await assertRejects(() => enabled(printed, asked), FishnetError, says);
  });
}

const TAKEN: Readonly<Record<string, readonly [Printed, Partial<LockOptions>]>> = {
  "an account without a range": [{}, {}],
  "ranges of its own, beside another's": [subuid("other:100000:65536", "agent:165536:65536"), {}],
  "a uid that is its own name": [accounts("1002:x:1002:1002::/:/bin/sh"), {}],
  "nftables: nft 1.0.3": [nft("1.0.3"), NFT],
  "nftables: nft 1.1": [nft("1.1"), NFT],
  "iptables: an old nft": [nft("0.9.8"), {}],
  "iptables: a range among ordinary uids": [subuid("agent:60100:10"), {}],
};

for (const [what, [printed, asked]] of Object.entries(TAKEN)) {
  Deno.test(`enable takes ${what}`, async () => {
    await enabled(printed, asked);
  });
}

/** An enable of $USER, whom only the two answers here keep from being locked: else it is not there. */
function enableOwn(rights: string, who: string, accountsGiven = false) {
  const opening = sessionWith({ "getent passwd": "", "sudo -n -l -U agent": rights, who });
  const change = { kind: "enable", accounts: ["agent"], accountsGiven } as const;
  const signals = {} as SignalTrap;
  return makeChange(linux, change, {} as Watcher, { opening, signals });
}

Deno.test("enable refuses $USER where it may use sudo, or has a session from outside", async () => {
  const maySudo = "User agent may run the following commands on here:\n    (ALL) ALL\n";
  const session = (where: string, name = "agent") => `${name}  pts/0  2026-11-28 09:00${where}\n`;
  for (
    const [rights, who, says] of [
      [maySudo, "", "your own account ($USER): it may use sudo"],
      ["", session(" (192.0.2.7)"), "your own account ($USER): it has a session from outside"],
      ["", session("") + session(" (::1)") + session(" (home.example)"), "a session from outside"],
      ["", session(" (:0)") + session(""), "does not exist"],
      ["", session(" (192.0.2.7)", "agent2"), "does not exist"],
      ["User agent is not allowed to run sudo on here.\n", "", "does not exist"],
    ] as const
  ) await assertRejects(() => enableOwn(rights, who), FishnetError, says);
  const named = () => enableOwn(maySudo, session(" (192.0.2.7)"), true);
  await assertRejects(named, FishnetError, "does not exist");
});

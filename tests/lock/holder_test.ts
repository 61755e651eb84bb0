/** Uids that two accounts have, or had: what is done for one opens nothing of the other. */
import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { FishnetError } from "../../src/errors.ts";
import { linux } from "../../src/linux/linux.ts";
import { readStatus, statusIn } from "../../src/lock/status.ts";
import { systemAccounts } from "../../src/lock/report.ts";
import { LOCKED, type Printed, sessionWith, sightWith } from "../support/fake_machine.ts";
import { disableSteps, enableSteps } from "../support/inside.ts";

const RANGE = "200000-265535";
const passwd = (...others: readonly string[]) =>
  ["root:x:0:0::/root:/bin/sh", "agent:x:1001:1001::/:/bin/sh", ...others, ""].join("\n");

/** The lock of `agent`, uid 1001, with a range of subordinate uids; or what is left of it. */
const WITH_RANGE = {
  ...LOCKED,
  ...Object.fromEntries(
    (["iptables-nft-save", "ip6tables-nft-save"] as const).map((name) => [
      name,
      LOCKED[name].replace(
        /^-A .*(?:-j fishnet|fishnet:).*$/gm,
        (rule) => `${rule}\n${rule.replace("owner 1001", `owner ${RANGE}`)}`,
      ),
    ]),
  ),
  ...Object.fromEntries(
    (["ip -4 rule show", "ip -6 rule show"] as const).map((name) => [
      name,
      `${LOCKED[name]}77:\tfrom all uidrange ${RANGE} prohibit\n`,
    ]),
  ),
};

Deno.test("a range that rules of a deleted account hold is not shared with them", async () => {
  const sight = await sightWith({
    ...WITH_RANGE,
    "getent passwd": "root:x:0:0::/root:/bin/sh\nnext:x:1002:1002::/:/bin/sh\n",
    "/etc/subuid": "next:200000:65536\n",
  });
  // Disabling 'agent' later would open the range.
  assertThrows(
    () => enableSteps(sight, ["next"]),
    FishnetError,
    `the subordinate uids ${RANGE} of 'next' are locked already, for 'agent', which had them: ` +
      "disable 'agent' first",
  );
});

Deno.test("to disable an account opens no range that it shares with a locked one", async () => {
  const sight = await sightWith({
    ...WITH_RANGE,
    "getent passwd": passwd("other:x:1002:1002::/:/bin/sh"),
    "/etc/subuid": "agent:200000:65536\nother:200000:65536\n",
  });
  assertEquals(disableSteps(sight, ["other"]).map(({ line }) => line), []);
  assertEquals(disableSteps(sight, ["agent"]).length, 6);
});

Deno.test("to disable an account opens no uid that it shares with a locked one", async () => {
  for (
    const others of [
      { "getent passwd": passwd("other:x:1001:1001::/:/bin/sh") },
      {
        "getent passwd": passwd("other:x:200007:1001::/:/bin/sh"),
        "/etc/subuid": "agent:200000:65536\n",
      },
    ]
  ) {
    const sight = await sightWith({ ...WITH_RANGE, ...others });
    assertEquals(disableSteps(sight, ["other"]).map(({ line }) => line), []);
  }
});

Deno.test("to disable an account takes no rule away that holds more uids than its own", async () => {
  const wide = "-A OUTPUT ! -o lo -m owner --uid-owner 1000-1005 -j REJECT\n";
  const saved = LOCKED["iptables-nft-save"].replace("-A OUTPUT", `${wide}-A OUTPUT`);
  const lines = disableSteps(await sightWith({ ...LOCKED, "iptables-nft-save": saved }), ["agent"])
    .map(({ line }) => line);
  assertEquals(lines.length, 6);
  assertEquals(lines.filter((line) => line.includes("1005")), []);
});

Deno.test("a uid alone in a range of a deleted account is refused as well", async () => {
  const sight = await sightWith({
    ...WITH_RANGE,
    "getent passwd": "root:x:0:0::/root:/bin/sh\nnext:x:200007:1002::/:/bin/sh\n",
  });
  assertThrows(() => enableSteps(sight, ["next"]), FishnetError, "for 'agent', which had it");
  assertEquals(linux.holder(sight.machine, sight.holdings, "next")?.names, ["next"]);
  // What is left is still that account's to take away.
  assertEquals(linux.holder(sight.machine, sight.holdings, "agent")?.exists, false);
  assertEquals(disableSteps(sight, ["agent"]).length, 6);
});

Deno.test("who was given a name that cannot be asked for is unlocked by the one that can", async () => {
  const sight = await sightWith({
    ...LOCKED,
    "ip -6 rule show": "0:\tfrom all lookup local\n",
    "getent passwd": "root:x:0:0::/root:/bin/sh\na.gent:x:1001:1001::/:/bin/sh\n",
  });
  const [account] = statusIn(sight, []).accounts;
  const line = "fishnet firewall disable --agent-user agent --apply";
  assertEquals([account!.name, account!.state], ["a.gent", "partial"]);
  assertEquals(account!.pieces.find(({ present }) => !present)!.remedy, line);
  assertEquals(account!.notes!.slice(0, 2), [
    "'a.gent' is no name that can be asked for here: rename the account first",
    `it was renamed, and has the rules of 'agent': ${line} removes them`,
  ]);
});

Deno.test("nobody is an account of the system's own", () => {
  const account = { state: "locked", pieces: [], survivesReboot: false, onlyPorts: [] } as const;
  const warned = systemAccounts([
    { ...account, name: "agent", uid: 1001 },
    { ...account, name: "nobody", uid: 65534 },
  ], linux.firstOrdinaryUid);
  assertEquals(warned.map(({ account }) => account), ["nobody"]);
});

Deno.test("an account that a directory service knows and does not list is no deleted one", async () => {
  const alone: Printed = {
    "getent passwd": "root:x:0:0::/root:/bin/sh\n",
    "getent passwd -- agent": "agent:x:1001:1001::/home/agent:/bin/sh\n",
    "getent passwd -- 1001": "agent:x:1001:1001::/home/agent:/bin/sh\n",
  };
  const accounts = async (printed: Printed) =>
    (await readStatus(linux, [], sessionWith(printed))).report.accounts;
  const [locked, ...others] = await accounts({ ...alone, ...LOCKED });
  assertEquals(others, []);
  assertEquals([locked!.name, locked!.state], ["agent", "locked"]);
  assertEquals(locked!.notes!.filter((note) => note.includes("no longer exists")), []);
  const rules = LOCKED["ip -4 rule show"];
  const [half] = await accounts({ ...alone, "ip -4 rule show": rules });
  assertEquals([half!.name, half!.uid, half!.state], ["agent", 1001, "partial"]);
  const [gone] = await accounts({ ...LOCKED, "getent passwd": alone["getent passwd"]! });
  assertEquals(gone!.notes!.filter((note) => note.includes("no longer exists")).length, 1);
});

Deno.test("a deleted account of which a part is left is not locked", async () => {
  const gone = { "getent passwd": "root:x:0:0::/root:/bin/sh\n" };
  const { "ip -6 rule show": _rules, "ip6tables-nft-save": _saved, ...withoutIpv6 } = LOCKED;
  const stateOf = (found: Printed) =>
    sightWith({ ...gone, ...found }).then((sight) => statusIn(sight, []).accounts[0]?.state);
  assertEquals(await stateOf(LOCKED), "locked");
  assertEquals(await stateOf(withoutIpv6), "partial");
});

Deno.test("subordinate uids that only a routing rule holds are told of whose they are", async () => {
  const rule = `0:\tfrom all lookup local\n77:\tfrom all uidrange ${RANGE} prohibit\n`;
  const given = "next:200000:65536\nagent:300000:65536\n";
  const sight = await sightWith({
    "getent passwd": passwd("next:x:1002:1002::/:/bin/sh"),
    "/etc/subuid": given,
    "ip -4 rule show": rule,
  });
  const accounts = statusIn(sight, []).accounts.map(({ name, state }) => [name, state]);
  assertEquals(accounts, [["next", "partial"]]);
  // What a locked account has is its own matter.
  const locked = await sightWith({
    ...WITH_RANGE,
    "getent passwd": passwd("next:x:1002:1002::/:/bin/sh"),
    "/etc/subuid": "next:265535:65536\nagent:200000:65536\n",
  });
  assertEquals(statusIn(locked, []).accounts.map(({ name }) => name), ["agent"]);
});

Deno.test("two locked accounts that swapped their uids are freed together, and so they are told", async () => {
  const both = Object.fromEntries(
    (["iptables-nft-save", "ip6tables-nft-save"] as const).map((name) => [
      name,
      LOCKED[name].replace(
        /^-A .*owner 1001.*$/gm,
        (rule) => `${rule}\n${rule.replace("1001", "1002").replace("agent", "other")}`,
      ),
    ]),
  );
  const sight = await sightWith({
    ...LOCKED,
    ...both,
    "getent passwd": "agent:x:1002:1002::/:/bin/sh\nother:x:1001:1001::/:/bin/sh\n",
  });
  const { machine, holdings } = sight;
  const free = (name: string, ...names: string[]) => {
    const holder = linux.holder(machine, holdings, name)!;
    linux.refuseToFree!(machine, holdings, { holder, own: holdings.of(holder), names });
  };
  for (const name of ["agent", "other"]) {
    assertThrows(() => free(name, name), FishnetError, "which had it: disable both in one call");
    free(name, "agent", "other");
  }
  const notes = statusIn(sight, []).accounts.map((account) => account.notes!.join());
  assertMatch(notes[0]!, /disable --agent-user agent --agent-user other --apply/);
  assertMatch(notes[1]!, /disable --agent-user other --agent-user agent --apply/);
});

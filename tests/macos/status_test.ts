/**
 * `status` on macOS: what it makes of pfctl's own words, and of a stand-in's state.
 *
 * The texts are written from public captures of macOS 26 (info, References, main
 * rules) and from pfctl's documented print form (an anchor's rules). None has been
 * printed for this test by a Mac: `real_test.ts` prints what one says.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { rulesFor } from "../../src/macos/pf.ts";
import { factsOf } from "../../src/macos/inspect.ts";
import { pfStatus, readRules } from "../../src/macos/status.ts";
import type { Section } from "../../src/sections.ts";
import { type AccountStatus, UnreadableError } from "../../src/status.ts";
import { parsePf, printedForm } from "./support/pf_language.ts";
import { AGENTS, standInTest } from "./support/stand_in.ts";

const CHATTER = "No ALTQ support in kernel\nALTQ related functions disabled\n";
const TOKEN = "15053025338191571182";
const CALL = 'anchor "com.fishnet.localonly/*" all\n';
const STOCK_RULES =
  `${CHATTER}scrub-anchor "com.apple/*" all fragment reassemble\nanchor "com.apple/*" all\n`;
const REFERENCES = `${CHATTER}TOKENS:
PID      Process Name                 TOKEN                    TIMESTAMP
4077     Internet Sharing             9084387343160548126      1 days 03:07:21
4063     pfctl                        ${TOKEN}     0 days 00:00:00
`;

/** The rules for uid 502 as pfctl prints them back. */
const printed = (onlyPorts: readonly number[] = [], uid = 502) =>
  parsePf(rulesFor(`${uid}`, onlyPorts).map((rule) => `${rule}\n`).join("")).flatMap(printedForm);

const LOCKED: Readonly<Record<string, Section>> = {
  info: {
    code: 0,
    text: `${CHATTER}Status: Enabled for 0 days 00:00:00           Debug: Urgent\n`,
  },
  rules: { code: 0, text: STOCK_RULES + CALL },
  interfaces: { code: 0, text: "en0\n\tCleared:     Thu Jan  1 00:00:00 1970\nlo0 (skip)\n" },
  references: { code: 0, text: REFERENCES },
  conf: { code: 0, text: 'anchor "com.apple/*"\nanchor "com.fishnet.localonly/*"\n' },
  "account agent": { code: 0, text: "502\n" },
  "loaded agent": { code: 0, text: CHATTER + printed().join("\n") + "\n" },
  "file agent": { code: 0, text: "" },
  "token agent": { code: 0, text: `${CHATTER}pf enabled\nToken : ${TOKEN}\n` },
  "plist agent": { code: 1, text: "" },
  "daemon agent": { code: 113, text: "Could not find service" },
};

const judged = (differences: Readonly<Record<string, Section>> = {}): AccountStatus =>
  pfStatus(factsOf(new Map(Object.entries({ ...LOCKED, ...differences }))), ["agent"])[0]!;
const ok = (text: string): Section => ({ code: 0, text });
const faults = ({ pieces }: AccountStatus) =>
  pieces.filter(({ present }) => !present).map(({ name, detail }) =>
    `${name}: ${detail ?? "missing"}`
  );

Deno.test("macOS: everything there is locked, and gone after a restart", () => {
  const status = judged();
  assertEquals([status.state, status.uid, status.survivesReboot], ["locked", 502, false]);
  assertEquals(faults(status), []);
});

Deno.test("macOS: whatever is missing makes it partial, and says so", async (t) => {
  const rows: readonly (readonly [string, Readonly<Record<string, Section>>, string])[] = [
    ["pf is off", {
      info: ok(`${CHATTER}Status: Disabled                              Debug: Urgent\n`),
    }, "pf is on: missing"],
    [
      "nobody holds a reference",
      { references: ok("No pf starter references held\n") },
      "a reference that keeps pf on: pf no longer knows ours: it ended with a restart, or with pfctl -d",
    ],
    [
      "a reference of somebody else's",
      { "token agent": ok("Token : 3557565746035151565\n") },
      "a reference that keeps pf on: pf no longer knows ours: it ended with a restart, or with pfctl -d",
    ],
    [
      "no token",
      { "token agent": { code: 1, text: "cat: no such file" } },
      "a reference that keeps pf on: none is recorded",
    ],
    [
      "pf.conf was replaced",
      { conf: ok('anchor "com.apple/*"\n') },
      "the line in /etc/pf.conf: missing",
    ],
    [
      "pf.conf has the page's line alone",
      { conf: ok('anchor "com.fishnet.localonly"\n') },
      "the line in /etc/pf.conf: missing",
    ],
    [
      "the running rules were replaced",
      { rules: ok(STOCK_RULES) },
      "the call of our anchors in the running rules: missing",
    ],
    [
      "shadowed",
      { rules: ok(`${STOCK_RULES}pass out quick on en0 all flags S/SA keep state\n${CALL}`) },
      'the call of our anchors in the running rules: before it stands "pass out quick on en0 all flags S/SA keep state", ' +
      "which decides first: move our line in /etc/pf.conf above it and restart",
    ],
    ["the anchor is empty", {
      "loaded agent": { code: 1, text: "pfctl: Anchor or Ruleset does not exist.\n" },
    }, "the rules in anchor com.fishnet.localonly/agent: there are none"],
    [
      "half the anchor",
      { "loaded agent": ok(printed().slice(1).join("\n")) },
      "the rules in anchor com.fishnet.localonly/agent: not all of them are there",
    ],
    [
      "a rule of somebody else's",
      { "loaded agent": ok(`pass quick all\n${printed().join("\n")}`) },
      'the rules in anchor com.fishnet.localonly/agent: "pass quick all" is none of ours',
    ],
    [
      "the account has another uid now",
      { "account agent": ok("503\n") },
      "the rules in anchor com.fishnet.localonly/agent: they are for uid 502",
    ],
    [
      "the file is gone",
      { "file agent": { code: 1, text: "" } },
      "the file with the rules: missing",
    ],
  ];
  for (const [name, differences, fault] of rows) {
    await t.step(name, () => {
      const status = judged(differences);
      assertEquals(status.state, "partial");
      assertEquals(faults(status), [fault]);
    });
  }
});

Deno.test("macOS: a pass quick below our call, or a pass above it without quick, is no shadow", () => {
  assertEquals(judged({ rules: ok(`${STOCK_RULES}${CALL}pass quick all\n`) }).state, "locked");
  assertEquals(judged({ rules: ok(`pass out all\n${STOCK_RULES}${CALL}`) }).state, "locked");
});

Deno.test("macOS: an interface that pf skips is open; lo0 may be, unless loopback is limited", () => {
  const open = judged({ interfaces: ok("en0 (skip)\n\tReferences: 3\nlo0 (skip)\n") });
  assertEquals(faults(open), [
    'pf looks at every interface: "set skip on en0" is in force: take it out of /etc/pf.conf and restart',
  ]);
  const limited = judged({ "loaded agent": ok(printed([3777]).join("\n")) });
  assertEquals(limited.state, "partial");
  assertEquals(limited.onlyPorts, [3777]);
});

Deno.test("macOS: a VPN's anchor above ours is noted, Apple's is not", () => {
  assertEquals(judged().notes, []);
  const rules = ok(`${STOCK_RULES}anchor "mullvad" all\n${CALL}`);
  const harmless = judged({ rules, "anchor mullvad": ok(`${CHATTER}block drop all\n`) });
  assertEquals(harmless.state, "locked");
  assert(harmless.notes![0]!.startsWith('the anchor "mullvad" is called before ours'));
});

Deno.test("macOS: an anchor above ours that passes quick, or cannot be told, makes a lock partial", () => {
  const rules = ok(`${STOCK_RULES}anchor "mullvad" all\n${CALL}`);
  for (
    const said of [
      ok(`${CHATTER}pass out quick on utun4 all flags S/SA keep state\n`),
      ok('anchor "mullvad/inner" all\n'),
      { code: 1, text: "pfctl: Anchor or Ruleset does not exist.\n" },
    ]
  ) {
    const status = judged({ rules, "anchor mullvad": said });
    assertEquals(status.state, "partial");
    assert(faults(status)[0]!.includes('before it stands the anchor "mullvad"'));
  }
  const after = ok(`${STOCK_RULES}${CALL}anchor "mullvad" all\n`);
  assertEquals(judged({ rules: after }).state, "locked");
});

standInTest("macOS: status reads the anchors that others call before ours", async (mac) => {
  const main = await mac.must("pfctl", "-s", "rules");
  await mac.feed(`${main}anchor "vpn" all\n`, "pfctl", "-R", "-f", "-");
  await mac.feed("pass quick on utun4 all\n", "pfctl", "-a", "vpn", "-f", "-");
  await mac.applied("enable", { accounts: [AGENTS[0]] });
  const { accounts: [status] } = await mac.status(AGENTS[0]);
  assertEquals(status!.state, "partial");
  assert(faults(status!)[0]!.includes('before it stands the anchor "vpn"'));
});

Deno.test("macOS: the ports of --only-port are read from the rules", async (t) => {
  for (const ports of [[3777], [1], [65535], [1, 65535], [3777, 3778, 8080], [2, 4, 6]]) {
    await t.step(`${ports}`, () => {
      assertEquals(readRules(printed(ports), 502), { onlyPorts: ports, fault: undefined });
    });
  }
  assertEquals(readRules(printed([3777]).slice(0, -1), 502).fault, "not all of them are there");
});

Deno.test("macOS: with its LaunchDaemon a lock survives a restart, unless pf.conf lost our line", () => {
  const daemon = { "plist agent": ok(""), "daemon agent": ok("state = not running") };
  assertEquals(judged(daemon).survivesReboot, true);
  assertEquals(judged({ ...daemon, conf: ok("") }).survivesReboot, false);
  const unloaded = judged({ "plist agent": ok("") });
  assertEquals(unloaded.survivesReboot, false);
  assertEquals(unloaded.notes!.length, 1);
});

Deno.test("macOS: nothing of ours is unlocked; pf that cannot be read is unknown, never unlocked", () => {
  const nothing = Object.fromEntries(
    ["loaded", "file", "token"].map((name) => [`${name} agent`, { code: 1, text: "" }]),
  );
  assertEquals(judged(nothing).state, "unlocked");
  const denied = { code: 1, text: "pfctl: /dev/pf: Permission denied\n" };
  assertThrows(() => judged({ info: denied, rules: denied }), UnreadableError, "Permission denied");
});

standInTest(
  "status finds every account that anything of ours is there for, as it is",
  async (mac) => {
    const [A, B] = AGENTS;
    assertEquals((await mac.status()).accounts, []);
    assertEquals((await mac.status(A)).state, "unlocked");
    await mac.applied("enable", { accounts: [A], onlyPorts: [3777], persist: true });
    await mac.applied("enable", { accounts: [B] });
    const states = async () =>
      (await mac.status()).accounts.map((
        { name, state, onlyPorts, survivesReboot },
      ) => [name, state, onlyPorts, survivesReboot]);
    assertEquals(await states(), [[B, "locked", [], false], [A, "locked", [3777], true]]);
    await mac.reboot();
    assertEquals(await states(), [[B, "partial", [], false], [A, "locked", [3777], true]]);
    await mac.remove(B);
    const [left] = (await mac.status(B)).accounts;
    assertEquals([left!.uid, left!.state], [undefined, "partial"]);
    assert(
      left!.pieces.some(({ remedy }) =>
        remedy === `fishnet firewall disable --agent-user ${B} --apply`
      ),
    );
    await mac.applied("disable", { accounts: [B] });
    assertEquals(await states(), [[A, "locked", [3777], true]]);
    await mac.applied("disable", { accounts: [A] });
    assertEquals(await states(), []);
  },
);

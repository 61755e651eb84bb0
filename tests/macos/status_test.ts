/**
 * `status` on macOS: what it makes of pfctl's own words.
 *
 * The texts are written from public captures of macOS 26 (info, References, main
 * rules) and from pfctl's documented print form (an anchor's rules). None has been
 * printed for this test by a Mac: `real_test.ts` prints what one says.
 */
import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { FishnetError } from "../../src/errors.ts";
import { sightOf, statusIn } from "../../src/lock/status.ts";
import type { AccountStatus } from "../../src/lock/report.ts";
import { call } from "../../src/macos/call.ts";
import { type Machine, readMachine } from "../../src/macos/machine.ts";
import { macos } from "../../src/macos/macos.ts";
import { readRules, writtenRules } from "../../src/macos/rules.ts";
import { type Answer, UnreadableError } from "../../src/root.ts";
import { fakeRoot } from "../support/fake_machine.ts";
import { parsePf, printedForm } from "./support/pf_language.ts";
import { faults } from "./support/stand_in.ts";

const CHATTER = "No ALTQ support in kernel\nALTQ related functions disabled\n";
const TOKEN = "15053025338191571182";
const CALL = 'anchor "com.fishnet.localonly" all\n';
const LINES = `anchor "com.fishnet.localonly"
load anchor "com.fishnet.localonly" from "/etc/pf.anchors/com.fishnet.localonly"\n`;
const STOCK_RULES =
  'scrub-anchor "com.apple/*" all fragment reassemble\nanchor "com.apple/*" all\n';

/** The lines for an account in the file, and its rules as pfctl prints them back. */
const written = (onlyPorts?: readonly number[], uid = 502) =>
  writtenRules({ uid, owner: "agent", base: true, onlyPorts }).map((line) => `${line}\n`).join("");
const printed = (onlyPorts?: readonly number[], uid = 502) =>
  parsePf(written(onlyPorts, uid)).flatMap(printedForm).map((line) => `${line}\n`);

/** What a command prints, or a file holds: its output, or all of its answer; null is not there. */
type Said = string | Partial<Answer> | null;

const failed = (stderr: string): Said => ({ exitCode: 1, stderr });
const missing = null;

const FILE = "/etc/pf.anchors/com.fishnet.localonly";
const LOADED = "pfctl -a com.fishnet.localonly -s rules";

const LOCKED: Readonly<Record<string, Said>> = {
  "pfctl -s info": "Status: Enabled for 0 days 00:00:00           Debug: Urgent\n",
  "pfctl -s rules": STOCK_RULES + CALL,
  "pfctl -s nat": 'nat-anchor "com.apple/*" all\nrdr-anchor "com.apple/*" all\n',
  "pfctl -s dummynet": 'dummynet-anchor "com.apple/*" all\n',
  "pfctl -a com.apple -v -s Anchors":
    "  com.apple/200.AirDrop\n  com.apple/250.ApplicationFirewall\n",
  "pfctl -a com.apple/200.AirDrop -s rules": "pass in quick on awdl0 all flags any keep state\n",
  "pfctl -a com.apple/250.ApplicationFirewall -s rules": "",
  "pfctl -v -s Interfaces": "en0\n\tCleared:     Thu Jan  1 00:00:00 1970\nlo0 (skip)\n",
  "pfctl -s References": `TOKENS:
PID      Process Name                 TOKEN                    TIMESTAMP
4077     Internet Sharing             9084387343160548126      1 days 03:07:21
4063     pfctl                        ${TOKEN}     0 days 00:00:00
`,
  "/etc/pf.conf": `anchor "com.apple/*"\n${LINES}`,
  "id -u agent": "502\n",
  "id -un 502": "agent\n",
  "id -un 503": failed("no such user"),
  [LOADED]: printed().join(""),
  [FILE]: written(),
  "/var/db/fishnet.token": `${CHATTER}pf enabled\nToken : ${TOKEN}\n`,
  "launchctl print system/com.fishnet.localonly": { exitCode: 113 },
};

/** Reads a Mac that prints this; several answers are given one after another. */
function reading(differences: Readonly<Record<string, Said | readonly Said[]>>) {
  const answers = { ...LOCKED, ...differences };
  const turns = new Map<string, number>();
  const given = (question: string) => {
    const said = answers[question];
    if (said === undefined) throw new Error(`nobody answers ${question}`);
    const turn = turns.get(question) ?? 0;
    turns.set(question, turn + 1);
    const now = Array.isArray(said) ? said[Math.min(turn, said.length - 1)] : said;
    if (now === null) return undefined;
    const answer = typeof now === "string" ? { stdout: now } : now;
    return { exitCode: 0, stdout: "", stderr: CHATTER, ...answer };
  };
  return readMachine(fakeRoot(given, Object.keys(answers)), ["agent"]);
}

async function judged(
  differences: Readonly<Record<string, Said | readonly Said[]>> = {},
): Promise<AccountStatus> {
  return statusIn(sightOf(macos, await reading(differences)), ["agent"]).accounts[0]!;
}

Deno.test("macOS: everything there is locked, and gone after a restart", async () => {
  const status = await judged();
  assertEquals(faults(status), []);
  assertEquals([status.state, status.uid, status.survivesReboot], ["locked", 502, false]);
  assertStringIncludes(status.notes![0]!, "without --persist nothing puts the lock back");
});

const CALL_PIECE = "the call of our anchor in the running rules";
const REFERENCE = "a reference of our own that keeps pf on";
const IN_ANCHOR = "the anchor com.fishnet.localonly: all but loopback is refused, uid 502";
const IN_FILE =
  "the file /etc/pf.anchors/com.fishnet.localonly: all but loopback is refused, uid 502";

Deno.test("macOS: whatever is missing makes it partial, and says so", async (t) => {
  const rows: readonly (readonly [string, Readonly<Record<string, Said>>, string])[] = [
    [
      "pf is off",
      { "pfctl -s info": "Status: Disabled                              Debug: Urgent\n" },
      `${REFERENCE}: pf is off`,
    ],
    [
      "nobody holds a reference",
      { "pfctl -s References": "No pf starter references held\n" },
      `${REFERENCE}: pf no longer knows it: it ended with a restart, or with pfctl -d`,
    ],
    [
      "a reference of somebody else's",
      { "/var/db/fishnet.token": "Token : 3557565746035151565\n" },
      `${REFERENCE}: pf no longer knows it: it ended with a restart, or with pfctl -d`,
    ],
    ["no token", { "/var/db/fishnet.token": missing }, `${REFERENCE}: missing`],
    [
      "pf.conf was replaced",
      { "/etc/pf.conf": 'anchor "com.apple/*"\n' },
      "the two lines of /etc/pf.conf: missing",
    ],
    [
      "pf.conf has the page's line alone",
      { "/etc/pf.conf": 'anchor "com.fishnet.localonly"\n' },
      'the two lines of /etc/pf.conf: missing: load anchor "com.fishnet.localonly" ' +
      'from "/etc/pf.anchors/com.fishnet.localonly"',
    ],
    [
      "the running rules were replaced",
      { "pfctl -s rules": STOCK_RULES },
      `${CALL_PIECE}: missing`,
    ],
    [
      "shadowed",
      {
        "pfctl -s rules": `${STOCK_RULES}pass out quick on en0 all flags S/SA keep state\n${CALL}`,
      },
      `${CALL_PIECE}: before it stands "pass out quick on en0 all flags S/SA keep state", ` +
      "which decides first what it passes quick",
    ],
    [
      "the anchor is empty, in the words of one version",
      { [LOADED]: { stderr: `${CHATTER}pfctl: DIOCGETRULES: Invalid argument\n` } },
      `${IN_ANCHOR}: missing`,
    ],
    [
      "and in those of another",
      { [LOADED]: failed("pfctl: Anchor or Ruleset does not exist.\n") },
      `${IN_ANCHOR}: missing`,
    ],
    [
      "half the anchor",
      { [LOADED]: printed().slice(1).join("") },
      `${IN_ANCHOR}: not all of the rules are there`,
    ],
    [
      "a rule of somebody else's",
      { [LOADED]: `pass quick all\n${printed().join("")}` },
      `${IN_ANCHOR}: "pass quick all" is none of our rules`,
    ],
    ["the file is gone", { [FILE]: missing }, `${IN_FILE}: missing`],
    [
      "an interface is skipped",
      { "pfctl -v -s Interfaces": "en0 (skip)\n\tReferences: 3\nlo0 (skip)\n" },
      `${IN_ANCHOR}: pf looks at no packet of en0: take "set skip" out of /etc/pf.conf and restart`,
    ],
    [
      "somebody's rules below com.apple, where macOS calls them, pass first",
      { "pfctl -a com.apple/250.ApplicationFirewall -s rules": "pass out quick on en0 all\n" },
      `${CALL_PIECE}: before it stands "anchor "com.apple/*" all", ` +
      "which decides first what it passes quick",
    ],
    [
      "a translation rule passes",
      { "pfctl -s nat": "nat pass on utun3 inet all -> 10.0.0.1\n" },
      `${IN_ANCHOR}: pf's rule "nat pass on utun3 inet all -> 10.0.0.1" passes packets before ` +
      'any other is asked: take "pass" out of it',
    ],
  ];
  for (const [name, differences, fault] of rows) {
    await t.step(name, async () => {
      const status = await judged(differences);
      assertEquals(faults(status), [fault]);
      assertEquals(status.state, "partial");
      assert(status.pieces.find(({ present }) => !present)!.remedy);
    });
  }
});

Deno.test("macOS: the account has another uid now: what is there holds the old one", async () => {
  const status = await judged({ "id -u agent": "503\n", "id -un 503": "agent\n" });
  assertEquals(status.state, "partial");
  assertStringIncludes(status.notes!.join("\n"), "rules of uid 502, which it had, are left");
});

Deno.test("macOS: with limited loopback, lo0 must not be skipped", async () => {
  const limited = { [LOADED]: printed([3777]).join(""), [FILE]: written([3777]) };
  const status = await judged(limited);
  assertEquals([status.state, status.onlyPorts], ["partial", [3777]]);
  assertStringIncludes(faults(status)[0]!, "pf looks at no packet of lo0");
  const looked = await judged({ ...limited, "pfctl -v -s Interfaces": "lo0\n" });
  assertEquals([looked.state, looked.onlyPorts], ["locked", [3777]]);
});

Deno.test("macOS: a pass quick below our call, or a pass above it without quick, is no shadow", async () => {
  const rules = (text: string) => judged({ "pfctl -s rules": text });
  assertEquals((await rules(`${STOCK_RULES}${CALL}pass quick all\n`)).state, "locked");
  assertEquals((await rules(`pass out all\n${STOCK_RULES}${CALL}`)).state, "locked");
  assertEquals((await rules(`anchor all {\n  pass quick all\n}\n${CALL}`)).state, "partial");
});

const VPN = { "pfctl -s rules": `${STOCK_RULES}anchor "mullvad" all\n${CALL}` };
const VPN_RULES = "pfctl -a mullvad -s rules";

Deno.test("macOS: a VPN's anchor above ours is noted, Apple's is not", async () => {
  const status = await judged({ ...VPN, [VPN_RULES]: "block drop all\n" });
  assertEquals(status.state, "locked");
  assertStringIncludes(status.notes!.at(-1)!, 'the anchor "mullvad" is called before ours');
  assertEquals((await judged()).notes!.length, 1);
});

Deno.test("macOS: what cannot be told of the rules below com.apple is noted", async () => {
  for (const question of ["com.apple -v -s Anchors", "com.apple/200.AirDrop -s rules"]) {
    const said = { stderr: "pfctl: DIOCGETRULE: Device busy\n" };
    const status = await judged({ [`pfctl -a ${question}`]: said });
    assertEquals(status.state, "locked");
    assertStringIncludes(status.notes!.at(-1)!, 'the anchor "com.apple/*" is called before ours');
  }
});

Deno.test("macOS: an anchor above ours that passes quick, or cannot be told, makes a lock partial", async () => {
  for (
    const said of [
      "pass out quick on utun4 all flags S/SA keep state\n",
      'anchor "mullvad/inner" all\n',
      failed("pfctl: Anchor or Ruleset does not exist.\n"),
      { stdout: "block drop all\n", stderr: "pfctl: DIOCGETRULE: Device busy\n" },
    ]
  ) {
    const status = await judged({
      ...VPN,
      [VPN_RULES]: said,
      "pfctl -a mullvad/inner -s rules": "",
    });
    assertEquals(status.state, "partial");
    assertStringIncludes(faults(status)[0]!, 'before it stands "anchor "mullvad" all"');
  }
});

Deno.test("macOS: a list that is cut off is read again, and one that never agrees is unknown", async () => {
  const cut = { stdout: "scrub\n", stderr: "pfctl: DIOCGETRULE: Device busy\n" };
  const whole = STOCK_RULES + CALL;
  assertEquals((await judged({ "pfctl -s rules": [cut, whole] })).state, "locked");
  assertEquals((await judged({ "pfctl -s rules": [STOCK_RULES, whole] })).state, "locked");
  await assertRejects(
    () => judged({ "pfctl -s rules": cut }),
    UnreadableError,
    "pf's state could not be read: its rules changed at each look",
  );
});

Deno.test("macOS: nothing of ours is unlocked; pf that cannot be read is unknown, never unlocked", async () => {
  const nothing = { [LOADED]: "", [FILE]: missing, "/var/db/fishnet.token": missing };
  assertEquals((await judged(nothing)).state, "unlocked");
  await assertRejects(
    () => judged({ "pfctl -s info": failed("pfctl: /dev/pf: Permission denied\n") }),
    UnreadableError,
    "Permission denied",
  );
  for (const question of Object.keys(LOCKED).filter((question) => question.startsWith("/"))) {
    await assertRejects(
      () => judged({ [question]: failed("Input/output error\n") }),
      UnreadableError,
      `${question.slice(4)} could not be read: Input/output error`,
    );
  }
});

Deno.test("macOS: what a plan was not to change, or did not make, is told", async () => {
  const before = await reading({});
  const lost = { tokens: new Set<string>(), tokenFile: "pfctl: no room\n" };
  const rows: readonly (readonly [Partial<Machine>, string | undefined])[] = [
    [{}, undefined],
    [{ beside: "nat on en0 all -> 10.0.0.1\n" }, "pf's translation or dummynet rules are no"],
    [{ rules: [...before.rules, "block drop all"] }, "pf's running rules are no longer those"],
    [{ rules: before.rules.slice(1) }, "pf's running rules are no longer those"],
    [{ rules: before.rules.slice(0, -1) }, "pf was not given the call of our anchor"],
    [{ pfConf: `${before.pfConf}pass all\n` }, "the lines of others in /etc/pf.conf are no"],
    [lost, `${REFERENCE}: it has no token (pfctl said: pfctl: no room)`],
    [{ ...lost, rulesFile: undefined, loaded: [] }, undefined], // no account is left
  ];
  for (const [change, says] of rows) {
    const said = macos.verifyAfter!(before, { ...before, ...change });
    assertEquals(said?.slice(0, says?.length), says);
  }
});

Deno.test("macOS: running rules that cannot be loaded again as they are printed are refused", async () => {
  const machine = await reading({});
  for (const rule of ['block drop all label "a\\b"', "-x"]) {
    const rules = [...machine.rules, rule];
    assertThrows(() => call.make({ ...machine, rules }), FishnetError, "cannot be loaded again");
  }
});

Deno.test("macOS: a text that is not UTF-8 could not be put back, and is refused", async () => {
  await assertRejects(() => judged({ "/etc/pf.conf": "# caf\ufffd\n" }), UnreadableError);
});

Deno.test("macOS: for any ports, what is written, and what pfctl prints of it, is read again", () => {
  const port = fc.integer({ min: 1, max: 65535 });
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.oneof(port, fc.constantFrom(1, 2, 65534, 65535)), {
        minLength: 1,
        maxLength: 15,
      }),
      fc.boolean(),
      (ports, base) => {
        const sorted = ports.toSorted((a, b) => a - b);
        const account = { uid: 502, owner: "agent", base, onlyPorts: sorted };
        const lines = writtenRules(account);
        assertEquals(readRules(lines), { accounts: [account], strange: [] });
        const rules = parsePf(lines.map((line) => `${line}\n`).join("")).flatMap(printedForm);
        assertEquals(readRules(rules).accounts, [{ ...account, owner: undefined }]);
        const longest = writtenRules({ ...account, uid: `$(id -u ${"a".repeat(32)})` });
        for (const line of longest) assert(line.length <= 160, line);
      },
    ),
  );
});

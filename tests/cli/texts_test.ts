/** The texts of status, verify and outcome, for every width, and for whatever comes from outside. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { setColorEnabled } from "@std/fmt/colors";
import { helpText } from "../../src/cli/help.ts";
import { columnsOf, type Width } from "../../src/cli/layout.ts";
import { COMMANDS, OPTIONS } from "../../src/cli/options.ts";
import {
  disableOutcome,
  enableOutcome,
  LIMITS_HINT,
  proxyHint,
} from "../../src/cli/outcome_text.ts";
import { statusLines } from "../../src/cli/status_text.ts";
import { verifyLines } from "../../src/cli/verify_text.ts";
import type { AccountStatus, PieceStatus } from "../../src/lock/report.ts";
import type { Try, Verification } from "../../src/lock/judge.ts";
import type { Warning } from "../../src/lock/report.ts";

const notCovered = [
  "a socket that another account opened and handed over",
  "setuid-root programs, sudo, and groups that give root, which act as another account",
];
const REMEDY = "fishnet firewall enable --agent-user agent_runner --apply";

const accountWith = (more: Partial<AccountStatus> = {}): AccountStatus => ({
  name: "agent_runner",
  uid: 1002,
  state: "locked",
  backend: "iptables",
  pieces: [{ name: "REJECT in OUTPUT, IPv4", present: true }],
  survivesReboot: true,
  onlyPorts: [],
  ...more,
});

/** The lines without their colours. */
function statusOf(
  accounts: readonly AccountStatus[],
  { warnings = [], explain = false, width, reason }: {
    warnings?: readonly Warning[];
    explain?: boolean;
    width?: Width;
    reason?: string;
  } = {},
): string[] {
  setColorEnabled(false);
  const report = {
    state: "locked",
    accounts,
    ...(reason === undefined ? {} : { reason }),
  } as const;
  return statusLines(report, { warnings, notCovered, explain }, width);
}

Deno.test("a note is shown whole: its command is to be copied", () => {
  const note = `it was renamed: ${"word ".repeat(60)}${REMEDY}`;
  assert(statusOf([accountWith({ notes: [note] })]).includes(`agent_runner: ${note}`));
});

Deno.test("status shows one account's pieces: in force, missing, or without effect and why", () => {
  const pieces: PieceStatus[] = [
    { name: "routing rule, IPv4", present: true },
    { name: "routing rule, IPv6", present: false, remedy: REMEDY },
    { name: "REJECT in OUTPUT, IPv4", present: false, detail: "below an ACCEPT", remedy: REMEDY },
  ];
  assertEquals(statusOf([accountWith({ state: "partial", pieces })]), [
    "ACCOUNT       UID   STATE    BACKEND   LOOPBACK  REBOOT",
    "agent_runner  1002  partial  iptables  open      kept",
    "",
    "PIECE                   STATE",
    "routing rule, IPv4      in force",
    "routing rule, IPv6      missing",
    "REJECT in OUTPUT, IPv4  without effect: below an ACCEPT",
    "agent_runner: to mend:",
    `  ${REMEDY}`,
    LIMITS_HINT,
  ]);
});

Deno.test("status of many accounts has a row for each, and a line for each fault", () => {
  const pieces = [{ name: "routing rule, IPv6", present: false, remedy: REMEDY }];
  assertEquals(
    statusOf([accountWith({ state: "partial", pieces }), accountWith({ name: "b", uid: 1003 })]),
    [
      "ACCOUNT       UID   STATE    BACKEND   LOOPBACK  REBOOT",
      "agent_runner  1002  partial  iptables  open      kept",
      "b             1003  locked   iptables  open      kept",
      "agent_runner: missing: routing rule, IPv6",
      "agent_runner: to mend:",
      `  ${REMEDY}`,
      LIMITS_HINT,
    ],
  );
});

Deno.test("a remedy of several lines is shown as it is to be pasted", () => {
  const remedy = "echo 'rule del pref 77 \x1b\nrule del pref 78' | sudo ip -batch -";
  const pieces = [{ name: "routing rule", present: false, remedy }];
  assertEquals(statusOf([accountWith({ state: "partial", pieces })]).slice(-4), [
    "agent_runner: to mend:",
    "  echo 'rule del pref 77 ",
    "rule del pref 78' | sudo ip -batch -",
    LIMITS_HINT,
  ]);
});

Deno.test("status has no limits to tell of an account that is not locked, unless it is asked to", () => {
  const unlocked = accountWith({ state: "unlocked", pieces: [] });
  assertEquals(statusOf([unlocked]).length, 2);
  assertEquals(statusOf([]), ["no account is locked"]);
  assertEquals(statusOf([], { reason: "sudo is refused" }), ["unknown: sudo is refused"]);
  for (const accounts of [[unlocked], [accountWith()], []]) {
    const text = statusOf(accounts, { explain: true }).join("\n");
    for (const limit of notCovered) assertStringIncludes(text, `- ${limit}`);
  }
});

Deno.test("status ends with the warnings, the most urgent first and equal ones as they came", () => {
  const warnings = [
    { reason: "can wait", remedy: "later", urgency: -1 },
    { reason: "first", remedy: "do" },
    { reason: "second", remedy: "do" },
    { account: "agent_runner", reason: "open", remedy: "at once", urgency: 1 },
  ];
  assertEquals(statusOf([accountWith()], { warnings }).slice(-4), [
    "warning: agent_runner: open; at once",
    "warning: first; do",
    "warning: second; do",
    "warning: can wait; later",
  ]);
});

const tries: Try[] = [
  { what: "IPv4: TCP", expected: "refused", verdict: "proven", did: "refused, as it should be" },
  { what: "IPv4: UDP", expected: "refused", verdict: "failed", did: "it got through" },
  {
    what: "IPv6: TCP",
    expected: "refused",
    verdict: "inconclusive",
    did: "the control failed too",
  },
  { what: "loopback", expected: "reached", verdict: "note", did: "nobody answers there" },
];

function verifyOf(more: Partial<Verification>, width?: Width): string[] {
  setColorEnabled(false);
  return verifyLines(
    { name: "agent_runner", state: "locked", proven: false, tries, ...more },
    width,
  );
}

Deno.test("verify is a table, with why only where a try is not as expected, and one verdict", () => {
  assertEquals(verifyOf({}), [
    "WHAT       EXPECTED  RESULT",
    "IPv4: TCP  refused   ok",
    "IPv4: UDP  refused   FAILED",
    "    it got through",
    "IPv6: TCP  refused   unclear",
    "    the control failed too",
    "loopback   reached   no answer",
    "    nobody answers there",
    "agent_runner: not proven: 1 failed, 1 unclear; " +
    "the way to the proxy could not be tried: nobody answers at its port yet",
  ]);
});

Deno.test("verify's verdict never calls proven what is not, and says what is still open", () => {
  const verdict = (more: Partial<Verification>) => verifyOf(more).at(-1);
  const [proven, failed, unclear, note] = tries as [Try, Try, Try, Try];
  const reached: Try = { ...proven, expected: "reached" };
  assertEquals(
    [
      verdict({ proven: true, tries: [proven, reached] }),
      verdict({ proven: true, tries: [proven, note] }),
      verdict({ tries: [proven, failed] }),
      verdict({ tries: [unclear, unclear, reached] }),
      verdict({ tries: [reached] }),
      verdict({ state: "partial", tries: [proven, note] }),
    ],
    [
      "locked, and proven to be refused outside",
      "locked, and proven to be refused outside; the way to the proxy could not be tried: nobody answers at its port yet",
      "not proven: 1 failed",
      "not proven: 2 unclear",
      "not proven: nothing was shown to be refused",
      "not proven: fishnet firewall status --agent-user agent_runner says partial",
    ].map((text) => `agent_runner: ${text}`),
  );
});

Deno.test("whatever an account or a rule is called, no control character reaches the terminal", () => {
  const evil = "a\x1b[2J\x9b31m\r\nFAKE\u202e\u200b";
  const pieces = [{ name: evil, present: false, detail: evil, remedy: evil }];
  const one = accountWith({ name: evil, state: "partial", pieces, notes: [evil] });
  const warnings = [{ account: evil, reason: evil, remedy: evil }];
  const evilTries: Try[] = tries.map((one) => ({ ...one, what: evil, did: evil }));
  for (const width of [undefined, 80, 40]) {
    const lines = [
      ...statusOf([one], { warnings, width, reason: evil }),
      ...statusOf([one, one], { warnings, width }),
      ...verifyOf({ name: evil, tries: evilTries }, width),
      ...enableOutcome([one], true),
      ...disableOutcome([evil], true),
    ];
    for (const line of lines) assert(!/[\p{Cc}\p{Cf}]/u.test(line), JSON.stringify(line));
  }
});

Deno.test("no text is cut short by a colour, and a long one from outside is", () => {
  const long = "x".repeat(100_000);
  const pieces = [{ name: "piece", present: false, detail: long }];
  const text = statusOf([accountWith({ state: "partial", pieces })]).join("\n");
  assert(text.length < 1000 && text.includes("…"));
});

Deno.test("an outcome is one line for all accounts of which the same is true", () => {
  assertEquals(enableOutcome([accountWith()], true), [
    "agent_runner (uid 1002): locked; loopback open; kept at reboot; by iptables",
  ]);
  const limited = accountWith({ onlyPorts: [3777, 8080], survivesReboot: false });
  assertEquals(enableOutcome([limited], false), [
    "agent_runner (uid 1002): already locked; loopback only on port 3777, 8080; lost at reboot; by iptables",
  ]);
  assertEquals(enableOutcome([accountWith({ state: "partial" })], true), [
    "agent_runner (uid 1002): not whole (partial); loopback open; kept at reboot; by iptables",
  ]);
  const many = Array.from(
    { length: 1000 },
    (_, i) => accountWith({ name: `a${i}`, uid: 2000 + i }),
  );
  const [line, ...others] = enableOutcome(many, true);
  assertEquals(others, []);
  assertStringIncludes(line!, "a4 (uid 2004) and 995 more: locked;");
  assertEquals(disableOutcome(["a", "b"], true), ["a, b: unlocked"]);
  assertEquals(disableOutcome(["a"], false), ["a: was not locked"]);
});

Deno.test("the hint for the agent names the port that its lock leaves open", () => {
  for (const [ports, port] of [[[], 3777], [[80, 3777], 3777], [[8080], 8080]] as const) {
    assertStringIncludes(proxyHint(ports), `HTTPS_PROXY=http://127.0.0.1:${port} `);
  }
});

Deno.test("every help fits 80 and 40 columns, but for what is to be copied, and loses nothing", () => {
  const letters = (text: string) => [...text.replace(/\s/g, "")].sort().join("");
  for (const topic of ["fishnet", "firewall", "completions", ...Object.keys(COMMANDS)] as const) {
    const whole = helpText(topic as "fishnet", Infinity);
    for (const width of [80, 40]) {
      const lines = helpText(topic as "fishnet", width).split("\n");
      assertEquals(letters(lines.join("")), letters(whole));
      for (const line of lines) {
        assert(columnsOf(line) <= width || /^ *fishnet firewall|https:/.test(line), line);
      }
    }
  }
});

Deno.test("a command's help names its options and no others", () => {
  for (
    const [command, name] of Object.keys(COMMANDS).flatMap((command) =>
      Object.keys(OPTIONS).map((name) => [command, name] as const)
    )
  ) {
    const help = helpText(command as keyof typeof COMMANDS);
    const lists = new RegExp(`^  --${name}( |$)`, "m").test(help);
    assertEquals(lists, OPTIONS[name]!.on.some((one) => one === command), `${command} --${name}`);
  }
});

/** The audit's pieces without a machine: the lines of a dry-run, and where `--log` is refused. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { FishnetError } from "../../src/errors.ts";
import { audit, refuseLog } from "../../src/linux/audit.ts";
import { auditAtBoot } from "../../src/linux/audit_at_boot.ts";
import type { Machine } from "../../src/linux/machine.ts";
import type { Lock } from "../../src/lock/piece.ts";

const LOCK: Lock = {
  name: "agent_runner",
  backend: "iptables",
  onlyPorts: [],
  persist: true,
  sessions: false,
  log: true,
};

Deno.test("a dry-run's lines name the account, and fit", () => {
  const steps = audit.make(audit.wanted(LOCK));
  assertEquals(
    steps[0]!.line,
    "sudo auditctl -a always,exit -F arch=b64 -S connect,sendto,sendmsg,sendmmsg " +
      "-F euid=agent_runner -F exit=-EACCES -k fishnet-agent_runner",
  );
  const atBoot = auditAtBoot.make(auditAtBoot.wanted(LOCK));
  for (const line of [...steps, ...atBoot].flatMap(({ line }) => line.split("\n"))) {
    assert(line.length <= 160, `${line.length}: ${line}`);
  }
});

Deno.test("without --log there is nothing to make", () => {
  assertEquals(audit.wanted({ ...LOCK, log: false }), []);
});

const STATUS = "enabled 1\nfailure 1\npid 411\nrate_limit 0\n";

/** What `auditctl -s` and `-l` printed, and what the refusal says. */
const REFUSED = [
  { status: "", code: 127, says: "auditctl is not installed: install the package auditd" },
  { status: "", code: 1, says: "auditctl -s failed" },
  { status: STATUS.replace("enabled 1", "enabled 2"), says: "locked until the next boot" },
  { status: STATUS.replace("enabled 1", "enabled 0"), says: "run sudo auditctl -e 1" },
  { status: STATUS.replace("pid 411", "pid 0"), says: "auditd is not running" },
  { status: STATUS, rules: "-a never,task\n", says: "-a never,task" },
];

for (const { status, code = 0, rules = "No rules\n", says } of REFUSED) {
  Deno.test(`--log is refused: ${says}`, () => {
    assertThrows(() => refuseLog(machine(status, rules, code), LOCK), FishnetError, says);
  });
}

Deno.test("--log is not refused where the audit runs", () => {
  refuseLog(machine(STATUS, "-w /etc/passwd -p wa -k identity\n"), LOCK);
});

const RULE = "-a always,exit -F arch=b64 -S connect,sendto,sendmsg,sendmmsg -F euid=1002 " +
  "-F exit=-EACCES -F key=fishnet-agent_runner\n";

Deno.test("a lock without --log is made whatever the audit says", () => {
  refuseLog(machine("", "", 127), { ...LOCK, log: false });
});

Deno.test("rules that are locked are there, and nobody's to take away", () => {
  const [rule] = audit.found(machine(STATUS.replace("enabled 1", "enabled 2"), RULE));
  assertEquals([rule?.owner, rule?.fault, rule?.foreign], ["agent_runner", undefined, true]);
});

Deno.test("rules have no effect while auditd does not run", () => {
  const [rule] = audit.found(machine(STATUS.replace("pid 411", "pid 0"), RULE));
  assertEquals(rule?.fault, "auditd is not running");
  assertEquals(rule?.mend, "sudo systemctl start auditd");
});

Deno.test("a rule of ours that somebody changed is found, and goes", () => {
  const changed = RULE.replace("connect,sendto,", "");
  const found = audit.found(machine(STATUS, changed));
  assertEquals(found.map(({ owner, fault }) => [owner, fault]), [[
    "agent_runner",
    "it was changed",
  ]]);
  const [step] = audit.unmake(found, machine(STATUS, changed));
  assertEquals(step!.line, `sudo auditctl -d ${changed.slice("-a ".length).trim()}`);
});

Deno.test("a rule that records nothing, or no end of uids, is none of a lock", () => {
  for (const uids of ["euid=1002 -F euid<=5", "euid>=1002"]) {
    const changed = RULE.replace("euid=1002", uids);
    assertEquals(audit.found(machine(STATUS, changed))[0]?.fault, "it was changed", uids);
  }
});

Deno.test("the rules of others are none of ours", () => {
  const rules = "-w /etc/passwd -p wa -k identity\n" + RULE.replace("fishnet-", "our-");
  assertEquals(audit.found(machine(STATUS, rules)), []);
});

function machine(status: string, rules: string, exitCode = 0): Machine {
  const answer = (stdout: string, exitCode = 0) => ({ exitCode, stdout, stderr: "" });
  return {
    answers: new Map([
      ["audit status", answer(status, exitCode)],
      ["audit rules", answer(rules)],
    ]),
    files: new Map(),
    passwd: [],
    subuid: { ranges: [], unclear: [] },
    families: [4, 6],
  };
}

/** What a person reads: the lines of a dry-run, whatever system and options it is for. */
import { assert, assertEquals } from "@std/assert";
import { linux } from "../src/linux/linux.ts";
import { stepsByName } from "../src/lock/difference.ts";
import type { Lock, Step } from "../src/lock/piece.ts";
import { run } from "./support/process.ts";
import { program } from "./support/world.ts";

const EVERY_LOCK: Lock[] = (["iptables", "nftables"] as const).flatMap((backend) =>
  [[], [3777], [53, 3777]].flatMap((onlyPorts) =>
    [false, true].map((persist) => ({
      ...{ name: "agent_runner", backend, onlyPorts, persist },
      ...{ sessions: false, log: false },
    }))
  )
);

const planOf = (lock: Lock, action: "enable" | "disable", more: readonly Lock[] = []): Step[] =>
  stepsByName(linux, [lock, ...more], action);

const EVERY_PLAN = EVERY_LOCK.flatMap((lock) =>
  (["enable", "disable"] as const).map((action) => ({ lock, action, steps: planOf(lock, action) }))
);

/** A text without what stands in single quotes, which is what a file or a table will be. */
const unquoted = (text: string) => text.replace(/'[^']*'|"'"/g, "''");

/** The commands of a plan: those inside the loop too. */
function commandsOf(steps: readonly Step[]): string[] {
  return steps.flatMap(({ line, loop }) =>
    loop
      ? line.split("\n").map((one) => one.trim()).filter((one) => one.startsWith("sudo"))
      : [unquoted(line)]
  );
}

Deno.test("no line of a plan is longer than 160 characters", () => {
  for (const { steps } of EVERY_PLAN) {
    for (const { line } of steps) {
      for (const one of line.split("\n")) assert(one.length <= 160, `${one.length}: ${one}`);
    }
  }
});

Deno.test("every command is one that an administrator knows, and goes through sudo", () => {
  const known = ["ip", "iptables", "ip6tables", "iptables-restore", "ip6tables-restore", "nft"];
  const files = ["systemctl", "tee", "sync", "mv", "mkdir", "chmod", "rm", "rmdir", "install"];
  for (const { steps } of EVERY_PLAN) {
    for (const command of commandsOf(steps)) {
      assert(!/\b(sh|bash|sed|awk|test|eval) /.test(command), command);
      for (const part of command.split(/\|\||&&|\||;/).map((part) => part.trim())) {
        const [first, second] = part.split(" ");
        if (first === "echo" || first === "printf") continue;
        assertEquals(first, "sudo", command);
        assert([...known, ...files].includes(second!), command);
      }
    }
  }
});

Deno.test("a plan decides nothing: no condition, variable or loop but the one for ranges", () => {
  for (const { steps } of EVERY_PLAN) {
    assertEquals(steps.filter(({ loop }) => loop).length, 1);
    for (const command of commandsOf(steps)) {
      const plain = unquoted(command).replaceAll(/\$\(id -u agent_runner\)|\$range\b/g, "");
      assert(!/\$|`|\bif\b|\bwhile\b|\bfor\b|\bcase\b|\|\|/.test(plain), command);
    }
  }
});

Deno.test("enable of one account with iptables is ten commands and the loop", () => {
  for (const { lock, action, steps } of EVERY_PLAN) {
    if (lock.backend !== "iptables" || lock.onlyPorts.length > 0 || lock.persist) continue;
    assertEquals(steps.length, 10 + 1, action);
  }
});

Deno.test("the page's own rule is there to the letter, for both families, and first in its chain", () => {
  const [lock] = EVERY_LOCK;
  const lines = planOf(lock!, "enable").map(({ line }) => line);
  for (const command of ["iptables", "ip6tables"]) {
    const rule =
      `sudo ${command} -w -I OUTPUT 1 -m owner --uid-owner agent_runner ! -o lo -j REJECT`;
    assertEquals(lines.filter((line) => line.startsWith(`sudo ${command} -w -I OUTPUT`)), [rule]);
  }
  const removed = planOf(lock!, "disable").map(({ line }) => line);
  for (const command of ["iptables", "ip6tables"]) {
    assert(
      removed.includes(
        `sudo ${command} -w -D OUTPUT -m owner --uid-owner agent_runner ! -o lo -j REJECT`,
      ),
    );
  }
});

Deno.test("each step says in one line why it is there, and how it is taken back", () => {
  for (const { steps } of EVERY_PLAN) {
    for (const { line, why, undo } of steps) {
      assert(why.length > 0 && !why.includes("\n"), why);
      // What was written reaches the disk: that changes nothing, and needs no undo.
      if (!line.startsWith("sudo sync ")) assert(undo.some((one) => one !== ""), line);
    }
  }
});

Deno.test("what a reboot needs is on the disk after a power cut: each file, then its folder", () => {
  for (const { lock, action, steps } of EVERY_PLAN) {
    if (!lock.persist || action === "disable") continue;
    const lines = steps.map(({ line }) => unquoted(line));
    const written = lines.flatMap((line, i) => {
      const [, beside] = / \| sudo tee (.+\.new) >\/dev\/null$/.exec(line) ?? [];
      return beside === undefined ? [] : [{ i, beside, path: beside.slice(0, -".new".length) }];
    });
    assert(written.length >= 7, `${written.length}`);
    for (const { i, beside, path } of written) {
      assertEquals(lines[i + 1], `sudo sync ${beside}`);
      assertEquals(lines[i + 2], `sudo mv ${beside} ${path}`);
    }
    const changes = (line: string) => /^sudo (mv|install|systemctl enable) /.test(line);
    const last = lines.slice(lines.findLastIndex(changes) + 1).find((line) => /sync/.test(line));
    const folders = last?.split(" ").slice(2);
    for (const { path } of written) assert(folders?.includes(path.replace(/\/[^/]*$/, "")), path);
    assert(folders?.includes("/etc/systemd/system/sysinit.target.wants"), "the links");
  }
});

Deno.test("disable is the same list backwards", () => {
  for (const { lock, action, steps } of EVERY_PLAN) {
    if (action === "disable") continue;
    const made = commandsOf(steps).filter((line) => / -I |rule add/.test(line));
    const gone = commandsOf(planOf(lock, "disable")).filter((line) => / -D |rule del/.test(line));
    const back = (line: string) =>
      line.replace(/-I (\S+) 1 /, "-D $1 ").replace("rule add", "rule del");
    assertEquals(gone, made.map(back).toReversed());
    // What would put it in force again goes last: a run that is cut off leaves it.
    if (!lock.persist) continue;
    const lines = planOf(lock, "disable").map(({ line }) => unquoted(line));
    const first = lines.findIndex((line) => /systemctl|\/etc\//.test(line) && !/while/.test(line));
    assert(
      first > lines.findLastIndex((line) => / -D |rule del|nft /.test(line)),
      lines.join("\n"),
    );
  }
});

Deno.test("what accounts share is made first and once, and goes last and once", () => {
  for (const { lock, action } of EVERY_PLAN) {
    const steps = planOf(lock, action, [{ ...lock, name: "b-2" }]);
    const lines = steps.map(({ line }) => line);
    assertEquals(new Set(lines).size, lines.length);
    assertEquals(steps.filter(({ loop }) => loop).length, 2, "each has ranges of its own");
    const isShared = (line: string) => !line.includes("agent_runner") && !line.includes("b-2");
    const own = (line: string) => /agent_runner|b-2/.test(line);
    const last = action === "enable" ? lines.findLastIndex(isShared) : lines.findIndex(isShared);
    if (lock.backend === "nftables" && lock.onlyPorts.length === 0 && !lock.persist) {
      const first = lines.findIndex((line) => own(line) && line.includes("nft"));
      assert(action === "enable" ? last < first : last > first, lines.join("\n"));
    }
  }
});

Deno.test("planning the same twice gives the same lines", () => {
  for (const { lock, action, steps } of EVERY_PLAN) assertEquals(planOf(lock, action), steps);
});

Deno.test("a dry-run reads nothing, on any machine, for any account", async () => {
  for (const action of ["enable", "disable"]) {
    const args = ["firewall", action, "--os", "linux", "--agent-user", "nobody_has_this_name"];
    // Without any right at all, sudo included.
    const { code, stdout, stderr } = await run(
      [Deno.execPath(), "run", "--no-prompt", "--allow-env=USER", program().at(-1)!, ...args],
    );
    if (Deno.env.has("FISHNET_BIN")) return;
    assertEquals([code, stderr], [0, ""]);
    assert(stdout.startsWith(`Firewall ${action}: dry-run\n  `), stdout);
  }
});

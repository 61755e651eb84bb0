/** What the program prints, to the letter of the reference page, as a process of its own. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { COMMANDS } from "../../src/cli/options.ts";
import type { Step } from "../../src/lock/piece.ts";
import { run } from "../support/process.ts";
import { program } from "../support/world.ts";

const OUTPUT = new URL("../../src/cli/output.ts", import.meta.url).href;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

const fishnet = (...args: readonly string[]) => run([...program(), ...args]);

Deno.test("the dry-run has the page's header, its indent and its last line", async () => {
  for (const action of ["enable", "disable"]) {
    const { code, stdout, stderr } = await fishnet(
      "firewall",
      action,
      "--agent-user",
      "nobody_yet",
    );
    assertEquals([code, stderr], [0, ""]);
    // A text is shown over as many lines as it has.
    const lines = stdout.replace(/echo '[^']*'/g, "echo …").split("\n");
    assertEquals(lines[0], `Firewall ${action}: dry-run`);
    assertEquals(lines.slice(-2), ["Re-run with --apply (or --apply-system) to execute.", ""]);
    const commands = lines.slice(1, -2);
    assert(commands.length > 0);
    // The one loop is indented further, and ends with its last word.
    for (const command of commands) assertMatch(command, /^ {2}(sudo |echo |grep | {2}|done$)/);
  }
});

Deno.test("a disable's dry-run says whose the table is that it deletes", async () => {
  const { stdout, stderr } = await fishnet(
    ...["firewall", "disable", "--agent-user", "a", "--backend", "nftables"],
  );
  assertMatch(stdout, /^ {2}sudo nft delete table inet fishnet$/m);
  assertMatch(stderr, /^\[fishnet\] other accounts may be locked by that table: /);
  const mac = await fishnet("firewall", "disable", "--agent-user", "a", "--os", "macos");
  assertMatch(mac.stderr, /^\[fishnet\] other accounts may be locked by that anchor: /);
});

Deno.test("a dry-run says what it cannot show: files that only --apply knows of, others' rules", async () => {
  const enable = ["firewall", "enable", "--agent-user", "a"];
  const { stderr } = await fishnet(...enable, "--only-port", "3777");
  assertMatch(stderr, /^\[fishnet\] --apply also shuts .*\/etc\/sudoers\.d, /);
  const mac = await fishnet(...enable, "--os", "macos");
  assertMatch(mac.stderr, /^\[fishnet\] the line with pfctl -R takes the running rules /);
});

Deno.test("the page's own rule stands in the Linux plan to the letter, for both families", async () => {
  const { stdout } = await fishnet(
    ...["firewall", "enable", "--agent-user", "agent_runner", "--os", "linux"],
  );
  for (const command of ["iptables", "ip6tables"]) {
    const rule = "OUTPUT 1 -m owner --uid-owner agent_runner ! -o lo -j REJECT\n";
    assert(stdout.includes(`sudo ${command} -w -I ${rule}`), stdout);
  }
});

Deno.test("--explain puts a reason before each line, and changes no line", async () => {
  const plain = await fishnet("firewall", "enable", "--agent-user", "a");
  const explained = await fishnet("firewall", "enable", "--agent-user", "a", "--explain");
  const lines = explained.stdout.split("\n");
  // Nobody has to scroll for a reason.
  assert(lines.every((line) => !line.startsWith("  # ") || line.length <= 100));
  assertEquals(lines.filter((line) => !line.startsWith("  # ")).join("\n"), plain.stdout);
  lines.forEach((line, i) => {
    if (/^ {2}(sudo|echo|grep) /.test(line)) assertMatch(lines[i - 1]!, /^ {2}# \S/);
  });
});

Deno.test("nothing that is printed speaks of the page that the program follows", async () => {
  for (const args of [["enable"], ["disable"], ["enable", "--backend", "nftables"]]) {
    const { stdout } = await fishnet("firewall", ...args, "--agent-user", "a", "--explain");
    assert(stdout.includes("dry-run") && !/\bpage\b/.test(stdout), stdout);
  }
  const helps = [["--help"], ["firewall"], ...Object.keys(COMMANDS).map((name) => ["help", name])];
  for (const args of helps) {
    assert(!/\bpage\b/.test((await fishnet(...args)).stdout), args.join(" "));
  }
});

/** Runs a few lines that call the printers, as a process of its own. */
function printing(code: string) {
  const module = `import * as output from ${JSON.stringify(OUTPUT)};\n${code}`;
  const url = `data:text/typescript,${encodeURIComponent(module)}`;
  return run([Deno.execPath(), "run", "--quiet", "--no-prompt", "--config", CONFIG, url]);
}

Deno.test("a plan pasted into a shell writes each text as it is, and runs each loop", async () => {
  const plan: Pick<Step, "line" | "why">[] = [
    { line: "echo 'table inet fishnet {\n  set locked {\n}\n}'", why: "a text over several lines" },
    { line: "for i in 1 2; do\n  echo $i\ndone", why: "a loop" },
    { line: `for i in 1; do\n  echo "$i \\"is\n'it\n" |\n  cat\ndone`, why: "a text in a loop" },
    { line: "printf %s 'a\\\nb\\' |\n  cat", why: "backslashes before a line's end, and a text's" },
    { line: "echo end", why: "a command" },
  ];
  const dryRun = async (explain: boolean) =>
    (await printing(`output.printDryRun("enable", ${JSON.stringify(plan)}, ${explain});`)).stdout;
  const plain = await dryRun(false);
  assertEquals(plain.split("\n"), [
    "Firewall enable: dry-run",
    "  echo 'table inet fishnet {",
    "  set locked {",
    "}",
    "}'",
    "  for i in 1 2; do",
    "    echo $i",
    "  done",
    "  for i in 1; do",
    '    echo "$i \\"is',
    "'it",
    '" |',
    "    cat",
    "  done",
    "  printf %s 'a\\",
    "b\\' |",
    "    cat",
    "  echo end",
    "Re-run with --apply (or --apply-system) to execute.",
    "",
  ]);
  for (const text of [plain, await dryRun(true)]) {
    const input = text.split("\n").slice(1, -2).join("\n");
    const { code, stdout } = await run(["sh"], { input });
    const table = "table inet fishnet {\n  set locked {\n}\n}\n";
    assertEquals([code, stdout], [0, `${table}1\n2\n1 "is\n'it\n\na\\\nb\\end\n`]);
  }
});

Deno.test("what enable says beside its lines goes to stderr, marked as the program's", async () => {
  const { stdout, stderr } = await printing(`
    output.printCommand("sudo ip rule add", "no route");
    output.printCommand("echo 'a\\nb\x1b[2J' | sudo tee /x");
    output.printWaiting("another run has not ended");
    output.printOutcome(["agent_runner: locked", "loopback open"]);`);
  assertEquals(stdout, "");
  assertEquals(stderr.split("\n"), [
    "[fishnet] # no route",
    "[fishnet] sudo ip rule add",
    "[fishnet] echo 'a",
    "b\\x1b[2J' | sudo tee /x",
    "[fishnet] waiting: another run has not ended",
    "[fishnet] agent_runner: locked",
    "[fishnet] loopback open",
    "",
  ]);
});

Deno.test("an error goes to stderr behind [fishnet], with exit code 1", async () => {
  const { code, stdout, stderr } = await fishnet("firewall", "enable", "--agent-user", "bad-user!");
  assertEquals([code, stdout], [1, ""]);
  assertEquals(
    stderr,
    "[fishnet] invalid unix username 'bad-user!': " +
      "only alphanumeric, underscore, and hyphen are allowed\n",
  );
});

Deno.test("an error with --json is a document as well", async () => {
  const { code, stdout } = await fishnet("firewall", "enable", "--agent-user", "1", "--json");
  assertEquals(code, 1);
  const document = JSON.parse(stdout);
  assertEquals(Object.keys(document)[0], "formatVersion");
  assertMatch(document.error.message, /^invalid unix username '1'/);
});

Deno.test("--json gives the same lines as the dry-run", async () => {
  const args = ["firewall", "enable", "--agent-user", "a", "--agent-user", "b"];
  const trimmed = (line: string) => line.trim();
  const plain = await fishnet(...args);
  const document = JSON.parse((await fishnet(...args, "--json")).stdout);
  assertEquals(
    document.steps.flatMap(({ line }: { line: string }) => line.split("\n")).map(trimmed),
    plain.stdout.split("\n").slice(1, -2).map(trimmed),
  );
  assertEquals(document.applied, false);
});

Deno.test("--version and --help answer on stdout, without colour in a pipe", async () => {
  const version =
    JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url))).version;
  assertEquals((await fishnet("--version")).stdout, `fishnet ${version}\n`);
  for (const args of [[], ["--help"], ["help"], ["firewall"], ["help", "firewall", "enable"]]) {
    const { code, stdout, stderr } = await fishnet(...args);
    assertEquals([code, stderr], [0, ""]);
    assert(stdout.includes("Usage: fishnet "));
    assert(!stdout.includes("\x1b"));
  }
});

Deno.test("control characters of a bad name do not reach the terminal", async () => {
  const { stderr } = await fishnet("firewall", "enable", "--agent-user", "a\x1b[2J\x9b1m");
  assert(!stderr.includes("\x1b"), JSON.stringify(stderr));
  assert(stderr.includes("invalid unix username 'a\\x1b[2J\\x9b1m'"), stderr);
});

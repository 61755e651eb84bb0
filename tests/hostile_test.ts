/** A hostile caller, and odd surroundings: the program refuses, or does right, but never guesses. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { parseCommandLine } from "../src/cli/command_line.ts";
import { FishnetError } from "../src/errors.ts";
import { linux } from "../src/linux/linux.ts";
import { stepsByName } from "../src/lock/difference.ts";
import type { LockOptions } from "../src/lock/piece.ts";
import { macos } from "../src/macos/macos.ts";
import { must, run } from "./support/process.ts";
import { PROGRAM, program, worldTest } from "./support/world.ts";

const PLACEHOLDER = "agent_runner";

/** All the lines of a lock and of its release, undo lines too. */
function linesFor(name: string, options: LockOptions, onMac: boolean): string[] {
  const lock = { ...options, name };
  const steps = (["enable", "disable"] as const).flatMap((action) =>
    onMac ? stepsByName(macos, [lock], action) : stepsByName(linux, [lock], action)
  );
  return steps.flatMap(({ line, undo }) => [line, ...undo]);
}

const lockOptions = fc.record({
  backend: fc.constantFrom("iptables" as const, "nftables" as const),
  onlyPorts: fc.uniqueArray(fc.integer({ min: 1, max: 65535 }), { maxLength: 15 }),
  persist: fc.boolean(),
  sessions: fc.constant(false),
  log: fc.boolean(),
});

const name = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.string({ unit: fc.constantFrom(..."ab_-Z09$;'\"`|&<>(){}\\ \n\0"), maxLength: 34 }),
  fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_-]{0,31}$/),
);

Deno.test("10,000 names: a line never holds more of one than the name itself, which is a word", () => {
  let accepted = 0;
  fc.assert(
    fc.property(name, lockOptions, fc.boolean(), (name, options, onMac) => {
      let account: string;
      try {
        const command = parseCommandLine(["firewall", "enable", `--agent-user=${name}`], {
          user: undefined,
          os: "linux",
        });
        if (command.kind !== "enable") return false;
        account = command.accounts[0]!;
      } catch (error) {
        return error instanceof FishnetError;
      }
      accepted++;
      assertMatch(account, /^[A-Za-z_][A-Za-z0-9_-]*$/);
      // A name that is a word of the lines themselves ("sudo", "a") cannot be told from them.
      const marked = `Xq${account.slice(0, 26)}qX`;
      assertEquals(
        linesFor(marked, options, onMac).map((line) => line.replaceAll(marked, PLACEHOLDER)),
        linesFor(PLACEHOLDER, options, onMac),
      );
      return true;
    }),
    { numRuns: 10_000 },
  );
  assert(accepted > 1000, `${accepted} names were accepted`);
});

Deno.test("dozens of hostile names through the real program: exit 1, one line, no stack", async () => {
  const names = fc.sample(name.filter((text) => !text.includes("\0")), { numRuns: 40, seed: 7 });
  await Promise.all(names.map(async (name) => {
    const { code, stdout, stderr } = await run([
      ...program(),
      ...["firewall", "enable", `--agent-user=${name}`],
    ]);
    if (/^[A-Za-z_][A-Za-z0-9_-]{0,31}$/.test(name) && name !== "root") {
      assertEquals([code, stderr], [0, ""], name);
    } else {
      assertEquals([code, stdout], [1, ""], JSON.stringify(name));
      assertMatch(stderr, /^\[fishnet\] invalid unix username '[^]*': [a-z0-9 ,-]+\n$/);
      assert(!stderr.includes("    at "), stderr);
    }
  }));
});

const FLUSH = `
nft flush ruleset
ip -4 rule flush pref 77
ip -6 rule flush pref 77
`;

worldTest("hostile and odd surroundings", async (world, t) => {
  const agent = await world.account();
  const unlocked = await world.state();
  const enable = ["firewall", "enable", "--agent-user", agent, "--apply"];
  const shell = (words: string) => world.exec("bash", "-c", words, "bash", ...program(), ...enable);
  await world.fishnet(...enable);
  const locked = await world.state();
  // The world has no other rules: faster than to have the program take its own away.
  const disable = () => world.must("sh", "-ec", FLUSH);
  await disable();
  assertEquals(await world.state(), unlocked);

  await t.step("a sudo of somebody else's, first in PATH, is refused and not run", async () => {
    const directory = await Deno.makeTempDir();
    await Deno.writeTextFile(`${directory}/sudo`, `#!/bin/sh\ntouch ${directory}/ran\n`);
    await Deno.chmod(`${directory}/sudo`, 0o755);
    const { code, stderr } = await shell(`PATH=${directory}:$PATH "$@"`);
    assertEquals(code, 1);
    assertMatch(stderr, /^\[fishnet\] PATH names no sudo, or one that is not the system's/);
    assertEquals((await must("ls", directory)).trim(), "sudo");
    assertEquals(await world.state(), unlocked);
    await Deno.remove(directory, { recursive: true });
  });

  const SURROUNDINGS: Readonly<Record<string, string>> = {
    "LD_PRELOAD and LD_LIBRARY_PATH": 'LD_PRELOAD=/nonexistent.so LD_LIBRARY_PATH=/tmp "$@"',
    "a TERM that does not exist": 'TERM=$(printf "x%.0s" {1..500}) "$@"',
    "a locale that does not exist": 'LC_ALL=xx_YY.none LANG=tr_TR.UTF-8 "$@"',
    "BASH_ENV, ENV, IFS and functions of the caller's":
      'env IFS=x BASH_ENV=/nonexistent ENV=/nonexistent "BASH_FUNC_iptables%%=() { false; }" "$@"',
    "closed standard input": '"$@" <&-',
    "closed standard error": '"$@" 2>&-',
    "a standard output that nobody reads": '"$@" | head -c 0',
    "no HOME": 'env -u HOME DENO_DIR="${DENO_DIR:-$HOME/.cache/deno}" "$@"',
  };
  for (const [name, words] of Object.entries(SURROUNDINGS)) {
    await t.step(`${name}: the lock is taken all the same`, async () => {
      const { code, stderr } = await shell(words);
      assertEquals(code, 0, stderr);
      assertEquals(await world.state(), locked);
      await disable();
    });
  }

  await t.step("a full standard output: the lock is taken, and the rest is told", async () => {
    const { code, stderr } = await shell('"$@" >/dev/full');
    assertEquals(code, 1);
    assertMatch(stderr, /^\[fishnet\] could not print to standard output, and went on: .*\n/);
    assertEquals(await world.state(), locked);
    await disable();
  });

  await t.step("every stream closed or full: the lock is taken", async () => {
    for (const streams of ["<&- >&- 2>&-", "</dev/null >/dev/full 2>/dev/full"]) {
      await shell(`"$@" ${streams}`);
      assertEquals(await world.state(), locked);
      await disable();
    }
  });
});

Deno.test("the program's permissions allow sudo and USER, and nothing else", async () => {
  const flags = PROGRAM.slice(0, -1);
  const probes = {
    "read": 'Deno.readTextFileSync("/etc/hostname")',
    "write": 'Deno.writeTextFileSync("/tmp/fishnet-must-not-be", "")',
    "net": "Deno.listen({ port: 0 })",
    "another program": 'new Deno.Command("/bin/sh", { args: ["-c", "true"] }).outputSync()',
    "another sudo": 'new Deno.Command("/tmp/sudo").outputSync()',
    "sudo with LD_PRELOAD": 'new Deno.Command("sudo", { env: { LD_PRELOAD: "x" } }).outputSync()',
    "another variable": 'Deno.env.get("HOME")',
    "the whole environment": "Deno.env.toObject()",
    "system information": "Deno.hostname()",
    "ffi": 'Deno.dlopen("/lib/x86_64-linux-gnu/libc.so.6", {})',
  };
  for (const [what, probe] of Object.entries(probes)) {
    const source = `try { ${probe}; console.log("allowed"); } catch (e) { console.log(e.name); }`;
    const url = `data:application/javascript,${encodeURIComponent(source)}`;
    const { stdout, stderr } = await run([...flags, url]);
    assertEquals(stdout, "NotCapable\n", `${what}: ${stdout}${stderr}`);
  }
  const control = 'Deno.env.get("USER"); new Deno.Command("sudo", { args: ["-V"] }).outputSync()';
  const url = `data:application/javascript,${encodeURIComponent(control)}`;
  assertEquals((await run([...flags, url])).code, 0, "the control");
});

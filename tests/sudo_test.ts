/** The one session of root of a run: what goes in and comes out is the same, and it undoes by itself. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { $ } from "dax";
import * as fc from "fast-check";
import { feed, printed, quoted, sudo } from "../src/line.ts";
import { UnreadableError } from "../src/root.ts";
import { Session } from "../src/sudo.ts";
import { linesOf, must, run } from "./support/process.ts";

/** Why no session can be opened here; undefined where one can. */
const why = Deno.build.os === "windows"
  ? "needs a Unix"
  : (await run(["sh", "-c", "command -v sudo && sudo -n true"])).code !== 0
  ? "needs sudo without a password"
  : undefined;

function sessionTest(name: string, body: () => Promise<void>): void {
  if (why === undefined) Deno.test(name, body);
  else Deno.test.ignore(`${name} (skipped: ${why})`, () => {});
}

/** Any characters but NUL, which no argument can hold. */
const anyWord = fc.string({ unit: "binary" }).filter((text) => !text.includes("\0"));
const nasty = fc.array(
  fc.constantFrom(
    "'",
    '"',
    "\\",
    "$",
    "`",
    "\n",
    "\r",
    " ",
    "!",
    "-",
    "a",
    "é",
    "\t",
    "*",
    "$(id)",
  ),
).map((parts) => parts.join(""));
const word = fc.oneof(anyWord, nasty);

Deno.test("a word is quoted as dax quotes it, wherever it has to be", () => {
  fc.assert(fc.property(word, (text) => {
    const daxes = $.escapeArg(text);
    // dax leaves plain words as they are; so does a line, and quoting one more harms nothing.
    if (daxes !== text) assertEquals(quoted(text), daxes);
    const inLine = sudo("x", text).slice("sudo x ".length);
    assert(inLine === text || inLine === quoted(text) || text.includes("$range"), inLine);
    if (inLine === text) assert(text === "!" || /^\$\(id -u |^[\w@%+=:,./-]+$/.test(text), text);
  }));
});

Deno.test("lines are read by sh as the words that they were made of", async () => {
  const samples = fc.sample(
    fc.array(word.filter((text) => !text.includes("$range")), { maxLength: 4 }),
    40,
  );
  const lines = samples.map((words) =>
    `set -- ${words.map(quoted).join(" ")}; printf "%s\\0" "$#" "$@"`
  );
  const { stdout } = await run(["sh", "-c", lines.join("\n")]);
  assertEquals(
    stdout,
    samples.flatMap((words) => [`${words.length}`, ...words]).map((w) => `${w}\0`).join(""),
  );
  const text = "{\n\tx 'y' \"z\"\n}";
  assertEquals(
    (await run(["sh", "-c", `sudo() { "$@"; }; ${feed(text, "cat")}`])).stdout,
    `${text}\n`,
  );
  assertEquals((await run(["sh", "-c", printed("a\\b\n'c'")])).stdout, "a\\b\n'c'");
});

sessionTest("whatever words and input go in, come out as they are", async () => {
  await using session = await Session.open();
  await fc.assert(
    fc.asyncProperty(fc.array(word, { maxLength: 3 }), word, async (words, input) => {
      const echoed = await session.ask(["printf", "%s\\n", ...words, "end"]);
      assertEquals(echoed.stdout, [...words, "end"].map((one) => `${one}\n`).join(""));
      assertEquals([echoed.exitCode, echoed.stderr], [0, ""]);
      const read = await session.ask(["cat"], { input });
      assertEquals(read.stdout, input);
    }),
    { numRuns: 60 },
  );
});

sessionTest(
  "exit codes, both outputs, and a command that is not there, are told apart",
  async () => {
    await using session = await Session.open();
    const both = await session.ask(["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assertEquals(both, { exitCode: 7, stdout: "out\n", stderr: "err\n" });
    assertEquals((await session.ask(["no_such_command"])).exitCode, 127);
    assertEquals(await session.ask(["true"]), { exitCode: 0, stdout: "", stderr: "" });
    const unended = await session.ask(["printf", "no newline"]);
    assertEquals(unended.stdout, "no newline");
    const input = await session.ask(["cat"]);
    assertEquals(input.stdout, "", "without an input there is none");
  },
);

sessionTest("an output that looks like a mark ends nothing", async () => {
  await using session = await Session.open();
  const forged = `\n${crypto.randomUUID()} 0\n\nmark 0\nend-mark\n`;
  const { stdout } = await session.ask(["printf", "%s", forged]);
  assertEquals(stdout, forged);
  // What a command can see of its environment and of its parent's arguments holds no mark.
  const seen = await session.ask(["sh", "-c", "env; tr '\\0' ' ' </proc/$PPID/cmdline"]);
  for (const uuid of seen.stdout.match(/[0-9a-f]{8}-[0-9a-f-]{27}/g) ?? []) {
    assertEquals((await session.ask(["printf", "\n%s 9\n", uuid])).exitCode, 0);
  }
});

sessionTest("many questions at once are answered each with its own", async () => {
  await using session = await Session.open();
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) => session.ask(["echo", `${i}`])),
  );
  assertEquals(answers.map(({ stdout }) => stdout), answers.map((_, i) => `${i}\n`));
});

sessionTest("a command that hangs is ended after its limit, and the next one runs", async () => {
  await using session = await Session.open();
  const start = performance.now();
  const { exitCode } = await session.ask(["sh", "-c", "trap '' TERM; sleep 100"], { seconds: 1 });
  assertEquals(exitCode, 137);
  assert(performance.now() - start < 60_000);
  assertEquals((await session.ask(["echo", "on"])).stdout, "on\n");
});

/** A step that makes a file, and its undo. */
const making = (file: string) => ({
  line: sudo("touch", file),
  why: "a test",
  undo: [sudo("rm", file)],
});

const exists = async (file: string) => (await run(["test", "-e", file])).code === 0;

sessionTest(
  "what was changed and committed stays; what was not is undone, last first",
  async () => {
    const folder = await Deno.makeTempDir();
    const [one, two, log] = ["one", "two", "log"].map((name) => `${folder}/${name}`);
    {
      await using session = await Session.open();
      await session.perform(making(one!));
      await session.commit("test");
      await session.perform({
        line: `echo '1' | ${sudo("tee", "-a", log!)} >/dev/null`,
        why: "a test",
        undo: [`echo 'back 1' | ${sudo("tee", "-a", log!)} >/dev/null`],
      });
      await session.perform({
        line: `echo '2' | ${sudo("tee", "-a", log!)} >/dev/null && ${sudo("touch", two!)}`,
        why: "a test",
        undo: [`echo 'back 2' | ${sudo("tee", "-a", log!)} >/dev/null`, sudo("rm", two!)],
      });
      assert(await exists(two!));
    }
    assertEquals([await exists(one!), await exists(two!)], [true, false]);
    assertEquals(await must("cat", log!), "1\n2\nback 2\nback 1\n");
    await must("rm", "-rf", folder);
  },
);

sessionTest("taking back tells which lines could not be carried out", async () => {
  const folder = await Deno.makeTempDir();
  await using session = await Session.open();
  await session.perform(making(`${folder}/file`));
  await session.perform({ line: sudo("true"), why: "a test", undo: ["sudo no_such_command"] });
  assertEquals(await session.takeBack(), ["sudo no_such_command"]);
  assertEquals(await exists(`${folder}/file`), false);
  await Deno.remove(folder);
});

sessionTest("an undo of any length is carried out, by word and at the end of input", async () => {
  const folder = await Deno.makeTempDir();
  const [one, two] = [`${folder}/one`, `${folder}/two`];
  // Linux takes no argument of 128 KiB and more (execve(2)).
  const long = "x".repeat(300_000);
  const step = (file: string) => ({
    ...making(file),
    undo: [`${printed(long)} | ${sudo("wc", "-c")} && ${sudo("rm", file)}`],
  });
  {
    await using session = await Session.open();
    await session.perform(step(one));
    assertEquals(await session.takeBack(), []);
    assertEquals(await exists(one), false);
    await session.perform(step(two));
    assert(await exists(two));
  }
  assertEquals(await exists(two), false);
  await Deno.remove(folder);
});

/** A program that changes a file through the session, says so, and waits for its end, or brings it. */
const CHANGES = (file: string, end: "waits" | "is killed by a command") => `
  import { Session } from ${JSON.stringify(new URL("../src/sudo.ts", import.meta.url).href)};
  const session = await Session.open();
  await session.lockOutOtherRuns(() => console.log("waiting"), new Promise(() => {}));
  await session.perform(${JSON.stringify(making(file))});
  console.log("changed");
  ${
  end === "waits" ? "" : `const kill = "kill -KILL " + Deno.pid;
  await session.perform({ line: "sudo sh -c '" + kill + "'", why: "a test", undo: ["sudo true"] });`
}
  await new Promise((resolve) => setTimeout(resolve, 600_000));
`;

/** Starts a program with the project's imports. */
function started(file: string): Deno.ChildProcess {
  const config = new URL("../deno.json", import.meta.url).pathname;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-lock", "-A", "--config", config, file],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
}

sessionTest("SIGKILL while a command runs, whose answer nobody reads: all is undone", async () => {
  const folder = await Deno.makeTempDir();
  const file = `${folder}/file`;
  await Deno.writeTextFile(`${folder}/run.ts`, CHANGES(file, "is killed by a command"));
  const child = started(`${folder}/run.ts`);
  const [said, { success }] = await Promise.all([
    Array.fromAsync(child.stdout.pipeThrough(new TextDecoderStream())),
    child.status,
  ]);
  // Where another run is under way on this machine, it waits for that first.
  assertEquals([said.join("").replace("waiting\n", ""), success], ["changed\n", false]);
  await must("flock", "-w", "60", "/etc/sudoers", "true");
  assertEquals(await exists(file), false);
  await must("rm", "-rf", folder);
});

sessionTest(
  "SIGKILL of the program: root's session undoes what was not committed, and ends",
  async () => {
    const folder = await Deno.makeTempDir();
    const file = `${folder}/file`;
    await Deno.writeTextFile(`${folder}/run.ts`, CHANGES(file, "waits"));
    const start = () => started(`${folder}/run.ts`);
    const first = start();
    const said = linesOf(first.stdout);
    const isFirst = (await said.read()).value;
    // Where another run is under way on this machine, it waits for that first.
    assertEquals(isFirst === "waiting" ? (await said.read()).value : isFirst, "changed");
    assert(await exists(file));

    // Another run is told at once that it waits, and goes on when the first has undone all.
    const second = start();
    const saidBySecond = linesOf(second.stdout);
    assertEquals((await saidBySecond.read()).value, "waiting");
    first.kill("SIGKILL");
    await first.status;
    await said.cancel();
    assertEquals((await saidBySecond.read()).value, "changed");
    second.kill("SIGKILL");
    await second.status;
    await saidBySecond.cancel();
    // The lock is free when root's session has ended: then nothing is left.
    await must("flock", "-w", "60", "/etc/sudoers", "true");
    assertEquals(await exists(file), false);
    await must("rm", "-rf", folder);
  },
);

sessionTest(
  "what is looked at comes as it is: names, links, texts, and what can't be read",
  async () => {
    await using session = await Session.open();
    const folder = await Deno.makeTempDir();
    const file = (name: string) => `${folder}/${name}`;
    await Deno.mkdir(file("a b"));
    const text = "no newline\r\n\ttwo \u00e9 $(id) 'x' *";
    await Deno.writeTextFile(file("a b/one.conf"), text, { mode: 0o640 });
    await Deno.writeTextFile(file("a b/.hidden.conf"), "");
    await Deno.writeTextFile(file("a b/one.config"), "");
    await Deno.symlink(file("a b/one.conf"), file("link"));
    await Deno.symlink("nowhere", file("dangling"));
    await must("mkfifo", file("pipe"));
    const seen = await session.look([
      ...["a*/*.conf", "link", "dangling", "pipe", "none", "none/*", "link/x"].map(file),
      folder,
    ]);
    const one = { type: "f", mode: "640", uid: Deno.uid() ?? 0, target: "", text };
    const { uid } = one;
    const link = { type: "l", mode: "777", uid };
    assertEquals(
      Object.fromEntries([...seen].map(([path, is]) => [path.slice(folder.length), is])),
      {
        "/a b/one.conf": one,
        "/link": { ...link, target: file("a b/one.conf"), text },
        "/dangling": { ...link, target: "nowhere", text: "" },
        "/pipe": { type: "-", mode: seen.get(file("pipe"))!.mode, uid, target: "", text: "" },
        "": { type: "d", mode: "700", uid, target: "", text: "" },
      },
    );
    // It is there, and the kernel does not let it be read, even by root.
    const error = await assertRejects(() => session.look(["/proc/self/mem"]), UnreadableError);
    assertMatch(error.message, /^\/proc\/self\/mem could not be read: /);
    await must("rm", "-r", folder);
  },
);

sessionTest("the session's script has no fault that perl knows of", async () => {
  const path = new URL("../src/session.pl", import.meta.url).pathname;
  assertEquals((await run(["perl", "-wc", path])).stderr, `${path} syntax OK\n`);
});

/**
 * Root's session by itself: what it does when the program that feeds it is gone. It works here on
 * files of the test's own.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { FishnetError } from "../src/errors.ts";
import { carryOut } from "../src/lock/apply.ts";
import { SignalTrap } from "../src/signals.ts";
import { statement } from "../src/statements.ts";
import { Session } from "../src/sudo.ts";
import script from "../src/session.pl" with { type: "text" };

const START = new TextEncoder().encode(`${script}\n__END__\nm\n`);

/** What a run that changed one thing, and is about to change another, says to the session. */
function statements(folder: string, second: string): [Uint8Array, Uint8Array] {
  const [one, two] = [`${folder}/one`, `${folder}/two`];
  const said = (words: string[]) => new TextEncoder().encode(statement(words));
  return [
    said(["feed", "text\n", "9", `rm ${one}`, "tee", one]),
    said(["feed", "it's\ntwo\nlines", "9", `rm ${two}`, "sh", "-c", second, "sh", two]),
  ];
}

/** Perl, which the session is written in. */
const perl = (output: "piped" | "null") =>
  new Deno.Command("perl", { stdin: "piped", stdout: output, stderr: output }).spawn();

async function write(input: WritableStreamDefaultWriter<Uint8Array>, ...parts: Uint8Array[]) {
  for (const part of parts) await input.write(part);
}

async function left(folder: string): Promise<string[]> {
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
  return names.toSorted();
}

Deno.test("all is undone where the program dies while a command runs", async () => {
  const folder = await Deno.makeTempDir();
  const shell = perl("piped");
  // The command itself waits until nobody reads its answer any more.
  await Deno.writeTextFile(`${folder}/wait`, "");
  const input = shell.stdin.getWriter();
  const waits = 'while [ -e "${1%two}wait" ]; do sleep 0.01; done; cat >"$1"';
  await write(input, START, ...statements(folder, waits));
  await Promise.all([shell.stdout.cancel(), shell.stderr.cancel()]);
  await input.close();
  await Deno.remove(`${folder}/wait`);
  await shell.status;
  assertEquals(await left(folder), []);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a command that the program could not say to its end is not begun", async () => {
  const folder = await Deno.makeTempDir();
  const tried = `${folder}-tried`;
  const [one, two] = statements(folder, `echo x >${tried}; cat >"$1"`);
  for (let said = 1; said < two.length; said++) {
    // What is cut elsewhere ends in the middle of a word, as what is cut here does.
    if (!" '\n".includes(String.fromCharCode(two[said]!)) && said < two.length - 1) continue;
    const session = perl("null");
    const input = session.stdin.getWriter();
    await write(input, START, one, two.slice(0, said));
    await input.close();
    await session.status;
    const files = [
      ...await left(folder),
      ...await Deno.stat(tried).then(() => ["tried"], () => []),
    ];
    assertEquals(files, [], `after ${said} bytes`);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("what can't be undone because root's session was killed is told", async () => {
  const folder = await Deno.makeTempDir();
  const session = await Session.open();
  using signals = new SignalTrap();
  const look = async () => {
    await session.ask(["true"]);
    return [];
  };
  const line = (...words: string[]) => ({
    line: words.join(" "),
    why: "",
    undo: [`sudo rm ${folder}/one`],
  });
  const steps = [
    line("sudo", "tee", `${folder}/one`),
    line("sudo sh -c 'kill -KILL $PPID'"),
  ];
  const run = { session, signals, before: [], look };
  const error = await assertRejects(
    () => carryOut(steps, run, { onStep() {}, onLong() {} }),
    FishnetError,
  );
  const told = "this could not be undone; when the cause is gone, run:\n" +
    `  sudo rm ${folder}/one\nwhat is there now could not be read: could not run as root: `;
  assertEquals(error.message.includes(told), true, error.message);
  await session[Symbol.asyncDispose]();
  await Deno.remove(folder, { recursive: true });
});

Deno.test("the next run begins when this one has committed, while it still looks for doors", async () => {
  const never = new Promise(() => {});
  await using first = await Session.open();
  await using second = await Session.open();
  await first.lockOutOtherRuns(() => {}, never);
  const waits = Promise.withResolvers<void>();
  const locked = second.lockOutOtherRuns(waits.resolve, never);
  await waits.promise;
  await first.commit("test");
  await locked;
  assertEquals((await first.ask(["echo", "still here"])).stdout, "still here\n");
});

Deno.test("where root's session ends before it has committed, nobody is told that nothing changed", async () => {
  const session = await Session.open();
  await session.perform({ line: "sudo sh -c 'kill -KILL $PPID'", why: "", undo: [] }).catch(
    () => {},
  );
  const { message } = await assertRejects(() => session.commit("test"), FishnetError);
  assertEquals(
    message.endsWith("\nall had been done, and it is not known whether it stays: run status"),
    true,
  );
  await session[Symbol.asyncDispose]();
});

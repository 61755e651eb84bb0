/**
 * The root shell by itself: what it does when the program that feeds it is gone. It works here on
 * files of the test's own.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { FishnetError } from "../src/errors.ts";
import { carryOut, SignalTrap } from "../src/lock/apply.ts";
import { statement } from "../src/statements.ts";
import { Session } from "../src/sudo.ts";
import script from "../src/session.sh" with { type: "text" };

const START = `mark=m\n${script}\n`;

/** What a run that changed one thing, and is about to change another, says to the shell. */
function statements(folder: string, second: string): string[] {
  const [one, two] = [`${folder}/one`, `${folder}/two`];
  return [
    statement("m", ["tee", one], `rm ${one}`, "text\n", 9),
    statement("m", ["sh", "-c", second, "sh", two], `rm ${two}`, "it's\ntwo\nlines", 9),
  ];
}

async function left(folder: string): Promise<string[]> {
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
  return names.toSorted();
}

Deno.test("all is undone where the program dies while a command runs", async () => {
  const folder = await Deno.makeTempDir();
  const shell = new Deno.Command("sh", { stdin: "piped", stdout: "piped", stderr: "piped" })
    .spawn();
  // The command itself waits until nobody reads its answer any more.
  await Deno.writeTextFile(`${folder}/wait`, "");
  const input = shell.stdin.getWriter();
  const waits = 'while [ -e "${1%two}wait" ]; do sleep 0.01; done; cat >"$1"';
  await input.write(new TextEncoder().encode(START + statements(folder, waits).join("")));
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
  // The last character is the newline behind what is whole already.
  for (let said = 1; said < two!.length - 1; said++) {
    // What is cut elsewhere ends in the middle of a word.
    if (!" '\n".includes(two![said]!)) continue;
    const shell = new Deno.Command("sh", { stdin: "piped", stdout: "null", stderr: "null" })
      .spawn();
    const input = shell.stdin.getWriter();
    await input.write(new TextEncoder().encode(START + one + two!.slice(0, said)));
    await input.close();
    await shell.status;
    const files = [
      ...await left(folder),
      ...await Deno.stat(tried).then(() => ["tried"], () => []),
    ];
    assertEquals(files, [], `after ${JSON.stringify(two!.slice(0, said))}`);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("what can't be undone because root's shell was killed is told", async () => {
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
    // The parent of its parent, timeout(1).
    line("sudo sh -c 'read -r _ _ _ shell _ </proc/$PPID/stat; kill -KILL $shell'"),
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

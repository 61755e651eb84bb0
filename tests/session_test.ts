/**
 * The root shell by itself: what it does when the program that feeds it is gone. It runs here without
 * root, on files of the test's own.
 */
import { assertEquals } from "@std/assert";
import { statement } from "../src/sudo.ts";
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

/** dax's shell, in which a plan's lines run: it is loaded when it is needed. */
import type { CommandContext } from "dax";
import type { Answer } from "./root.ts";

/** Runs a line, where `sudo` is what is given: it gets its words, and what it reads. */
export async function runInShell(
  line: string,
  sudo: (words: readonly string[], input: string | undefined) => Promise<Answer>,
): Promise<Answer> {
  const { CommandBuilder } = await import("dax");
  const run = async (context: CommandContext) => {
    const input = typeof context.stdin === "string" ? undefined : await readAll(context.stdin);
    const answer = await sudo(context.args, input);
    // An empty write ends a pipe for its reader, and with 2>&1 both outputs are one.
    for (const output of ["stdout", "stderr"] as const) {
      if (answer[output] !== "") await context[output].writeText(answer[output]);
    }
    return { code: answer.exitCode };
  };
  const { code, stdout, stderr } = await new CommandBuilder()
    .clearEnv()
    .cwd("/")
    .registerCommand("sudo", run)
    .command(line)
    .noThrow()
    .stdout("piped")
    .stderr("piped");
  return { exitCode: code, stdout, stderr };
}

/** All of what a command of the shell is given as its input. */
async function readAll(
  from: { read(p: Uint8Array): Promise<number | null> | number | null },
): Promise<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(65536);
  let text = "";
  for (let n = await from.read(buffer); n !== null && n > 0; n = await from.read(buffer)) {
    text += decoder.decode(buffer.subarray(0, n), { stream: true });
  }
  return text;
}

/**
 * dax's shell, in which a plan's lines run: it is loaded when it is needed.
 *
 * @module
 */
import type { CommandHandler, CommandResult } from "dax";

/** Runs a line in dax's shell, where `sudo` is what is given. */
export async function runInShell(line: string, sudo: CommandHandler): Promise<CommandResult> {
  const { CommandBuilder } = await import("dax");
  return await new CommandBuilder()
    .clearEnv()
    .cwd("/")
    .registerCommand("sudo", sudo)
    .command(line)
    .noThrow()
    .stdout("piped")
    .stderr("piped");
}

/** All of what a command of the shell is given as its input. */
export async function readAll(
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

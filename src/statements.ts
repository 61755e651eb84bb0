/**
 * What the root shell is told: one command of a plan, or many that change nothing, and how the answers
 * of those stand in what it prints.
 *
 * @module
 */
import { quoted } from "./lock/line.ts";
import type { Answer } from "./lock/piece.ts";

/**
 * What the shell is told to run one command. One that this program did not live to say to its end is
 * not begun: a shell reads what is in braces as a whole.
 */
export function statement(
  mark: string,
  words: readonly string[],
  undo: string,
  input: string | undefined,
  seconds: number,
): string {
  const end = `end-${mark}`;
  const document = input === undefined
    ? "</dev/null\n"
    : `<<'${end}'\n${input}${input.endsWith("\n") ? "" : "\n"}${end}\n`;
  return `{\nrun ${seconds} ${[undo, ...words].map(quoted).join(" ")} ${document}}\n`;
}

/** The commands one after another, for a shell, each with a line of the mark on both outputs behind it. */
export function askingScript(asked: readonly (readonly string[])[], mark: string): string {
  const end = `printf "\\n%s %s\\n" ${mark} $?; printf "\\n%s\\n" ${mark} >&2`;
  return asked.map((words) => `${words.map(quoted).join(" ")} </dev/null; ${end}\n`).join("");
}

/** The answers of {@link askingScript}; fewer than were asked for where it did not come to its end. */
export function answersIn({ stdout, stderr }: Answer, mark: string): Answer[] {
  const errors = stderr.split(`\n${mark}\n`);
  const [first, ...others] = stdout.split(`\n${mark} `);
  let text = first!;
  return others.map((other, i) => {
    const [code, ...rest] = other.split("\n");
    const stderr = errors[i] ?? "";
    // dash says 127 also of a program that is there and may not be run, and the loader of one that lacks a library.
    const isThere = code === "127" && !/(: |command )not found\s*$/.test(stderr);
    const answer = { exitCode: isThere ? 126 : Number(code), stdout: text, stderr };
    text = rest.join("\n");
    return answer;
  });
}

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

/**
 * The commands in two halves that run side by side, for a shell. The answers of the first half stand
 * first; those of the other wait in a pipe.
 */
export function askingScript(asked: readonly (readonly string[])[], mark: string): string {
  const [first, second] = inTwo(
    asked.map((words) =>
      `{ e=$(${words.map(quoted).join(" ")} </dev/null 2>&1 >&3 3>&-); answer $? "$e"; } 3>&1`
    ),
  );
  return `answer() { printf "\n%s %s\n%s\n%s\n" ${mark} "$1" "$2" ${mark}; }
{
:
${second.join("\n")}
} | {
${first.join("\n")}
cat
}
`;
}

/** Every other one, and the rest. */
function inTwo<T>(all: readonly T[]): readonly [T[], T[]] {
  return [all.filter((_, i) => i % 2 === 0), all.filter((_, i) => i % 2 === 1)];
}

/**
 * The answers in what {@link askingScript} printed, in the order in which they were asked for; undefined
 * where it did not come to its end. Of the errors, the last newlines are gone.
 */
export function answersIn(text: string, mark: string, asked: number): Answer[] | undefined {
  // Of each command: what it printed, the mark with its exit code and its errors, and the mark.
  const parts = text.split(`\n${mark}`);
  if (parts.length <= 2 * asked) return undefined;
  const answers: Answer[] = [];
  inTwo(Array.from({ length: asked }, (_, i) => i)).flat().forEach((place, i) => {
    const [code, ...errors] = parts[2 * i + 1]!.trimStart().split("\n");
    const stderr = errors.join("\n");
    // dash says 127 also of a program that is there and may not be run, and the loader of one that lacks a library.
    const isThere = code === "127" && !/(: |command )not found\s*$/.test(stderr);
    const stdout = parts[2 * i]!.slice(i === 0 ? 0 : 1);
    answers[place] = { exitCode: isThere ? 126 : Number(code), stdout, stderr };
  });
  return answers;
}

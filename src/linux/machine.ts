/**
 * One reading of a Linux machine: what root's commands printed, and what every kind of piece needs
 * of it: the accounts, their subordinate uids, and the families that there are.
 *
 * @module
 */
import type { Answer, Answers, Kind, Questions } from "../lock/piece.ts";
import { type Ask, UnreadableError } from "../sudo.ts";
import type { PasswdEntry, Subuid } from "./accounts.ts";

/** IPv4 or IPv6. */
export type Family = 4 | 6;

/** Both of them. */
export const FAMILIES: readonly Family[] = [4, 6];

/** The machine's state, as its own tools print it. */
export interface Machine {
  /** What was printed, by the names of the kinds' questions. */
  readonly answers: Answers;
  /** The files that are this program's, by their paths. */
  readonly files: ReadonlyMap<string, string>;
  readonly passwd: readonly PasswdEntry[];
  readonly subuid: Subuid;
  /** A kernel without IPv6 has none to lock. */
  readonly families: readonly Family[];
}

/** Asks all of it at once. */
export async function askAll(ask: Ask, questions: Questions): Promise<Map<string, Answer>> {
  return new Map(
    await Promise.all(
      Object.entries(questions).map(async ([name, words]) => [name, await ask(words)] as const),
    ),
  );
}

/** What shows the files of these kinds, in one command; `files` is the question's name. */
export function filesQuestion(kinds: readonly Pick<Kind<Machine>, "files">[]): Questions {
  const places = kinds.flatMap(({ files = [] }) => files.map((path) => path.split(/\/(?=[^/]*$)/)));
  const names = new Set(places.map(([, name]) => `--include=${name}`));
  const folders = new Set(places.map(([folder]) => folder!));
  return { files: ["grep", "-RasH", ...names, "", ...folders] };
}

/**
 * The texts that `grep -Hs ""` printed, by the paths of their files.
 *
 * @throws {UnreadableError} where one that is there could not be read.
 */
export function textsIn({ exitCode, stdout, stderr }: Answer): Map<string, string> {
  // It is silent of files that are not there, and answers 2 for them as well (grep(1)).
  if (exitCode > 1 && stderr.trim() !== "") {
    throw new UnreadableError(`a file could not be read: ${stderr.trim()}`);
  }
  const texts = new Map<string, string>();
  for (const line of stdout.split("\n")) {
    const [, path, text] = /^(\/[^:]+):(.*)$/s.exec(line) ?? [];
    if (path !== undefined) texts.set(path, `${texts.get(path) ?? ""}${text}\n`);
  }
  return texts;
}

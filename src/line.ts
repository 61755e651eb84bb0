/** Lines of shell, written so that a person, `sh` and dax's own shell read the same. */

import { FishnetError } from "./errors.ts";

/** What no shell reads as anything but itself; a lone `!` is only a word where no command begins. */
const PLAIN = /^(?:[\w@%+=:,./-]+|!)$/;

/** A dry-run does not know uids: the shell that it is pasted into asks for them. */
const ASKED = /^(?:[\w/.-]*(?:\$\(id -u [\w-]+\)[\w/.-]*)+|\$range)$/;

/** Quotes a word as dax does (`escapeArg`; a test compares the two), which loading it would cost 16 ms. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", `'"'"'`)}'`;
}

/** One word of a line, quoted where it has to be. */
export function wordOf(word: string): string {
  if (PLAIN.test(word) || ASKED.test(word)) return word;
  // In the one loop of a dry-run a variable stands inside a word.
  return word.includes("$range") ? `"${word.replaceAll('"', '\\"')}"` : quoted(word);
}

/** `sudo WORD…` */
export function sudo(...words: readonly string[]): string {
  return ["sudo", ...words].map(wordOf).join(" ");
}

/** `echo 'TEXT' | sudo WORD…`, over as many lines as the text has. */
export function feed(text: string, ...words: readonly string[]): string {
  // What echo would take for an option or, in some shells, for an escape has no place in our texts.
  if (/^-|\\/.test(text)) {
    throw new FishnetError(`a file of ours holds what is not ours: ${JSON.stringify(text)}`);
  }
  return `echo ${quoted(text)} | ${sudo(...words)}`;
}

/** `printf %s 'TEXT'`: prints a text as it is, whatever it holds. */
export function printed(text: string): string {
  return `printf %s ${quoted(text)}`;
}

/** Text from elsewhere, made fit to be read on a terminal: it must not act there. */

/** More of somebody else's text than this is not read anyway. */
const LONGEST = 200;

/**
 * What a terminal obeys or does not show: control characters (C0, C1, DEL), format characters
 * (overrides of the direction among them), line separators, half surrogates, private and
 * unassigned characters, fillers and selectors (Unicode's Cc, Cf, Zl, Zp, Cs, Co, Cn, DI).
 */
const UNFIT = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}]/gu;

/** Marks that are put over the character before them: a few of them are a letter, many a stain. */
const STAIN = /(\p{M}{3})\p{M}+/gu;

/** Without what a terminal obeys or hides, so colours as well: they are to be added afterwards. */
export function shown(text: string, longest = LONGEST): string {
  const fit = text.replace(/[\t\n\r]+/g, " ").replace(UNFIT, "").replace(STAIN, "$1");
  const characters = [...fit];
  return characters.length <= longest ? fit : `${characters.slice(0, longest - 1).join("")}…`;
}

/** The first of many words; the others are counted, so that a line stays one that is read. */
export function someOf(words: readonly string[], most: number): string {
  const more = words.length > most ? ` and ${words.length - most} more` : "";
  return words.slice(0, most).join(", ") + more;
}

/** JSON whose strings hold such characters as `\\u…` alone: a program reads the same text. */
export function json(value: unknown, indent?: number): string {
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value, null, indent)
    .replace(UNFIT, (found) => found === "\n" ? found : found.replace(/[^]/g, escaped));
}

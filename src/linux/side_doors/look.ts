/**
 * Reads what the warnings are made of, in one command of root's.
 *
 * @module
 */
import type { Ask } from "../../sudo.ts";
import LOOK from "./look.sh" with { type: "text" };
import MAY from "./may.pl" with { type: "text" };

/** What one command printed, errors included; undefined where it failed. */
export type Looked = (name: string) => string | undefined;

/** `sudo -l` asks a directory service, where there is one. */
const SECONDS = 20;

/**
 * Runs `look.sh`.
 *
 * @param lines what it is told: see there
 * @returns undefined where it did not come to its end
 */
export async function look(ask: Ask, lines: readonly string[]): Promise<Looked | undefined> {
  // The mark cannot be guessed, so nothing that an account wrote can pass for a section.
  const mark = crypto.randomUUID();
  const { stdout } = await ask(["sh", "-c", LOOK, "sh", MAY], {
    input: [mark, ...lines, ""].join("\n"),
    seconds: SECONDS,
  });
  const sections = parseSections(stdout, mark);
  if (!sections.has("end")) return undefined;
  return (name) => {
    const section = sections.get(name);
    return section?.code === 0 ? section.text : undefined;
  };
}

interface Section {
  readonly code: number;
  readonly text: string;
}

/** Cuts what the script printed at its marks; the first section of a name counts. */
export function parseSections(text: string, mark: string): Map<string, Section> {
  const sections = new Map<string, Section>();
  for (const part of text.split(`\n${mark} begin `).slice(1)) {
    const [name, ...lines] = part.split("\n");
    const end = lines.findLastIndex((line) => line.startsWith(`${mark} end `));
    if (end < 0 || sections.has(name!)) continue; // it was cut off, or is none of ours
    const code = Number(lines[end]!.slice(`${mark} end `.length));
    sections.set(name!, { code, text: lines.slice(0, end).join("\n") });
  }
  return sections;
}

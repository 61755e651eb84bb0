/**
 * Reads the machine in one call of `sudo`: a script runs many commands, and
 * what each printed comes back by itself.
 *
 * @module
 */
import { UnreadableError } from "./status.ts";
import { readAsRoot } from "./sudo.ts";

/** What one command printed, errors included, and its exit code. */
export interface Section {
  readonly code: number;
  readonly text: string;
}

/** `section NAME COMMAND…` runs a command between two marks. */
const SECTION = `
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
mark=$1
shift
section() {
  name=$1
  shift
  printf '\\n%s begin %s\\n' "$mark" "$name"
  "$@" 2>&1
  printf '\\n%s end %s\\n' "$mark" "$?"
}
`;

/**
 * Runs a script of `section NAME COMMAND…` lines as root; its arguments are `$@`.
 *
 * @throws {UnreadableError} where sudo is refused, or the script does not come to its end.
 */
export async function readSections(
  script: string,
  args: readonly string[],
): Promise<Map<string, Section>> {
  // The mark cannot be guessed, so nothing that an account wrote can pass for a section.
  const mark = crypto.randomUUID();
  const whole = `${SECTION}${script}section end true\n`;
  const { stdout, stderr } = await readAsRoot("sh", "-c", whole, "sh", mark, ...args);
  const sections = parseSections(stdout, mark);
  if (!sections.has("end")) {
    const said = stderr.trim().split("\n").at(-1) || "sudo ended at once";
    throw new UnreadableError(`could not run as root: ${said}`);
  }
  return sections;
}

/** Cuts what the script printed at its marks. */
export function parseSections(text: string, mark: string): Map<string, Section> {
  const sections = new Map<string, Section>();
  for (const part of text.split(`\n${mark} begin `).slice(1)) {
    const [name, ...lines] = part.split("\n");
    const end = lines.findLastIndex((line) => line.startsWith(`${mark} end `));
    if (end < 0) continue; // it was cut off
    const code = Number(lines[end]!.slice(`${mark} end `.length));
    sections.set(name!, { code, text: lines.slice(0, end).join("\n") });
  }
  return sections;
}

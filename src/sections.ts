/**
 * Reads the machine in one call of `sudo`: a script runs many commands, and
 * what each printed comes back by itself.
 *
 * @module
 */
import { UnreadableError } from "./status.ts";
import { runAsRoot } from "./sudo.ts";

/** What one command printed, errors included, and its exit code. */
export interface Section {
  readonly code: number;
  readonly text: string;
}

/** `section NAME COMMAND…` runs a command between two marks. */
const SECTION = `
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
IFS= read -r mark
exec </dev/null
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
  // The mark goes by standard input: everybody may read a command line, and name a socket after it.
  const mark = crypto.randomUUID();
  const whole = `${SECTION}${script}section end true\n`;
  const { stdout, stderr } = await runAsRoot(["sh", "-c", whole, "sh", ...args], {
    input: `${mark}\n`,
  });
  const sections = parseSections(stdout, mark);
  if (!sections.has("end")) {
    const said = stderr.trim().split("\n").at(-1) || "sudo ended at once";
    throw new UnreadableError(`could not run as root: ${said}`);
  }
  return sections;
}

/** Cuts what the script printed at its marks; the first section of a name counts, up to its first end. */
export function parseSections(text: string, mark: string): Map<string, Section> {
  const sections = new Map<string, Section>();
  for (const part of text.split(`\n${mark} begin `).slice(1)) {
    const [name, ...lines] = part.split("\n");
    const end = lines.findIndex((line) => line.startsWith(`${mark} end `));
    if (end < 0 || sections.has(name!)) continue; // it was cut off, or is not the first
    const code = Number(lines[end]!.slice(`${mark} end `.length));
    sections.set(name!, { code, text: lines.slice(0, end).join("\n") });
  }
  return sections;
}

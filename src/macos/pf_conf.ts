/** Our two lines of /etc/pf.conf: the call of the anchor, and the load of its file. */
import { FishnetError } from "../errors.ts";
import { restoreFile } from "../lock/file.ts";
import { feed, sudo } from "../line.ts";
import type { Step } from "../lock/piece.ts";
import { type Machine, PF_CONF, type Shared } from "./machine.ts";
import { ANCHOR, RULES_FILE } from "./rules.ts";

const CALL = `anchor "${ANCHOR}"`;
const LOAD = `load anchor "${ANCHOR}" from "${RULES_FILE}"`;

/** What stands behind our first line where the one above it had no newline, to take it out exactly. */
const NO_NEWLINE_MARK = "# the line above had no newline";

/** The two lines. */
export const pfConf: Shared = {
  piece: {
    is: `the two lines of ${PF_CONF}`,
    why: "each start of macOS loads the file, and calls the anchor",
  },
  found({ pfConf = "" }) {
    if (!pfConf.split("\n").some(isOurs)) return undefined;
    const missing = missingIn(pfConf);
    return missing.length === 0 ? {} : { fault: `missing: ${missing.join(", ")}` };
  },
  make(machine) {
    refuseLink(machine);
    const text = machine?.pfConf ?? "";
    const missing = missingIn(text);
    // A file for pfctl ends in a newline; where this one does not, a mark remembers that.
    const added = text === "" || text.endsWith("\n")
      ? missing
      : ["", `${missing[0]} ${NO_NEWLINE_MARK}`, ...missing.slice(1)];
    return [{
      line: `${feed(added.join("\n"), "tee", "-a", PF_CONF)} >/dev/null`,
      why: "call our anchor, and load its file, at each start of macOS",
      undo: [restoreFile(PF_CONF, machine?.pfConf)],
    }, CHECK];
  },
  unmake(machine) {
    refuseLink(machine);
    const text = machine?.pfConf ?? "";
    const undo = restoreFile(PF_CONF, text);
    const why = "take our two lines out again, and nothing else";
    const first = text.split("\n").find(isOurs);
    const kept = machine && first?.includes(NO_NEWLINE_MARK) && pfConfWithoutOurs(text);
    if (!kept || !text.startsWith(kept)) {
      return [{
        line: sudo("sed", "-i", "", `/^${ANCHOR_LINE}/d`, PF_CONF),
        why,
        undo: [machine === undefined ? "" : undo],
      }];
    }
    // sed would end the last line with the newline that was not there.
    const length = new TextEncoder().encode(kept).length;
    const draft = `${PF_CONF}.new`;
    return [{
      line: `${sudo("cp", "-p", PF_CONF, draft)} && ${
        sudo("dd", `if=${PF_CONF}`, `of=${draft}`, `bs=${length}`, "count=1")
      } && ${sudo("mv", draft, PF_CONF)}`,
      why: `${why}: before them, the file ended without a newline`,
      undo: [sudo("rm", "-f", draft), "", undo],
    }];
  },
};

const CHECK: Step = {
  line: sudo("pfctl", "-nf", PF_CONF),
  why: "check that pfctl understands it",
  undo: [""],
};

/** Either line, as sed and JavaScript read it. */
const ANCHOR_LINE = `\\(load \\)*anchor "${ANCHOR.replaceAll(".", "[.]")}"`;
const OUR_LINE = new RegExp(`^(load )*anchor "${ANCHOR.replaceAll(".", "[.]")}"`);

const isOurs = (line: string) => OUR_LINE.test(line);

function missingIn(text: string): string[] {
  return [CALL, LOAD].filter((line) => !text.split("\n").some((there) => there.startsWith(line)));
}

/** The file without our lines, byte for byte what it was before them. */
export function pfConfWithoutOurs(text: string): string {
  const lines = text.split("\n");
  const rest = lines.filter((line) => !isOurs(line));
  const last = lines.findLastIndex((line) => line !== "");
  const isMarked = lines.some((line) => isOurs(line) && line.includes(NO_NEWLINE_MARK));
  // Behind what somebody has written below our lines, the newline is needed.
  const wasCut = isMarked && isOurs(lines[last] ?? "") && rest.at(-1) === "";
  return (wasCut ? rest.slice(0, -1) : rest).join("\n");
}

function refuseLink(machine: Machine | undefined): void {
  if (machine?.pfConfIsLink) {
    throw new FishnetError(
      `${PF_CONF} is a link: put the file itself in its place, then run this again`,
    );
  }
}

/**
 * Reads all that `status` judges on macOS, in one call of `sudo`: what pfctl
 * prints, our files, and what launchd knows.
 *
 * @module
 */
import { readSections, type Section } from "../sections.ts";
import { UnreadableError } from "../status.ts";
import { ANCHOR_ROOT, anchorOf, daemonFileOf, daemonOf, ruleFileOf, tokenFileOf } from "./pf.ts";

/** What is there for one account. */
export interface AccountFacts {
  readonly name: string;
  /** Undefined where there is no such account (any more). */
  readonly uid: number | undefined;
  /** The rules in its anchor, as pfctl prints them back. */
  readonly loaded: readonly string[];
  readonly hasFile: boolean;
  /** The token that we recorded. */
  readonly token: string | undefined;
  readonly hasDaemonFile: boolean;
  readonly daemonIsLoaded: boolean;
}

/** The machine's state, parsed and not yet judged. */
export interface PfFacts {
  readonly enabled: boolean;
  /** The running main rules, in their order. */
  readonly mainRules: readonly string[];
  /** The rules of the anchors that they call, where pfctl could print them. */
  readonly called: ReadonlyMap<string, readonly string[]>;
  /** The interfaces that pf looks at no packet of (`set skip`). */
  readonly skipped: readonly string[];
  /** The tokens of all references that pf knows. */
  readonly tokens: ReadonlySet<string>;
  /** The lines of /etc/pf.conf. */
  readonly pfConf: readonly string[];
  /** Those that were asked for, or else every one that anything of ours is there for. */
  readonly accounts: readonly AccountFacts[];
}

/**
 * Reads the machine.
 *
 * @throws {UnreadableError} where sudo is refused, or pf's state cannot be read.
 */
export async function readPf(names: readonly string[]): Promise<PfFacts> {
  return factsOf(await readSections(SCRIPT, names));
}

/** An account's name, put where a file is named after it. */
const N = "$n";

/** Without arguments: every name that a file or an anchor of ours has. */
const SCRIPT = `
section info pfctl -s info
section rules pfctl -s rules
section interfaces pfctl -v -s Interfaces
section references pfctl -s References
section conf cat /etc/pf.conf
pfctl -s rules 2>/dev/null | sed -n 's/^anchor "\\([^"]*\\)".*/\\1/p' | while IFS= read -r a; do
  section "anchor $a" pfctl -a "$a" -s rules
done
if test $# -eq 0; then
  set -- $({
    ls ${ruleFileOf("*")} ${tokenFileOf("*")} ${daemonFileOf("*")} 2>/dev/null |
      sed -n 's|^/etc/pf.anchors/${ANCHOR_ROOT}[.]||p;s|.*/\\([^/]*\\)[.]token$|\\1|p;s|.*/${ANCHOR_ROOT}[.]\\(.*\\)[.]plist$|\\1|p'
    pfctl -a ${ANCHOR_ROOT} -s Anchors 2>/dev/null | sed -n 's|^ *${ANCHOR_ROOT}/[.]*||p'
  } | sort -u)
fi
for n; do
  section "account $n" id -u "$n"
  # anchorOf, in shell
  case $n in _*) a=${anchorOf("_")}\${n#_} ;; *) a=${anchorOf("")}$n ;; esac
  section "loaded $n" pfctl -a "$a" -s rules
  section "file $n" test -e ${ruleFileOf(N)}
  section "token $n" cat ${tokenFileOf(N)}
  section "plist $n" test -e ${daemonFileOf(N)}
  section "daemon $n" launchctl print system/${daemonOf(N)}
done
`;

/**
 * Parses every section. pfctl's chatter, which its errors go with too, is no rule.
 *
 * @throws {UnreadableError} where pfctl did not print pf's state.
 */
export function factsOf(sections: ReadonlyMap<string, Section>): PfFacts {
  const text = (name: string) => sections.get(name)?.text ?? "";
  const succeeded = (name: string) => sections.get(name)?.code === 0;
  const status = /^Status: (Enabled|Disabled)\b/m.exec(text("info"))?.[1];
  if (status === undefined || !succeeded("rules")) {
    const said = `${text("info")}\n${text("rules")}`.split("\n").findLast((line) =>
      line.startsWith("pfctl:")
    );
    throw new UnreadableError(`pf's state could not be read: ${said ?? "pfctl said nothing"}`);
  }
  const names = [...sections.keys()].flatMap((name) =>
    name.startsWith("account ") ? [name.slice("account ".length)] : []
  );
  return {
    enabled: status === "Enabled",
    mainRules: rulesIn(text("rules")),
    called: new Map(
      [...sections.keys()].filter((name) => name.startsWith("anchor ") && succeeded(name))
        .map((name) => [name.slice("anchor ".length), rulesIn(text(name))]),
    ),
    skipped: [...text("interfaces").matchAll(/^(\S+) \(skip\)/gm)].map(([, name]) => name!),
    tokens: new Set(
      [...text("references").matchAll(/^\d+ .* (\d+) +\d+ days /gm)].map(([, t]) => t!),
    ),
    pfConf: text("conf").split("\n"),
    accounts: names.map((name) => ({
      name,
      uid: succeeded(`account ${name}`) ? Number(text(`account ${name}`)) : undefined,
      loaded: rulesIn(text(`loaded ${name}`)),
      hasFile: succeeded(`file ${name}`),
      token: /^Token : (\d+)$/m.exec(text(`token ${name}`))?.[1],
      hasDaemonFile: succeeded(`plist ${name}`),
      daemonIsLoaded: succeeded(`daemon ${name}`),
    })),
  };
}

/** The lines that are rules, by the word that each begins with (pf.conf(5)). */
function rulesIn(text: string): string[] {
  return text.split("\n").map((line) => line.trim()).filter((line) =>
    /^(pass|block|match|antispoof|scrub|no|anchor|scrub-anchor)\b/.test(line)
  );
}

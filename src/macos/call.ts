/**
 * The call of our anchor among the running main rules.
 *
 * `pfctl -R` loads the filter rules alone. Without `-o none` its optimizer fails under it wherever
 * two rules are alike (`Must enable table loading for optimizations`), frees every rule, and pfctl
 * ends with 0: then a Mac has no rules at all.
 */
import { FishnetError } from "../errors.ts";
import { feed, quoted, sudo } from "../line.ts";
import type { Step } from "../lock/piece.ts";
import { APPLES, calledIn, type Machine, type Shared } from "./machine.ts";
import { ANCHOR } from "./rules.ts";

/** The call, as pfctl prints it and reads it back. */
const CALL = `anchor "${ANCHOR}" all`;

/**
 * The call before all others, since nobody knows what those will come to pass; without the first line pfctl
 * takes no scrub rule behind it (pf.conf(5)), which pf has a list of its own for.
 */
const FIRST = ["set require-order no", CALL];

/** The call. */
export const call: Shared = {
  piece: {
    is: "the call of our anchor in the running rules",
    why: "pf asks our anchor about each packet",
  },
  found(machine) {
    const place = machine.rules.indexOf(CALL);
    if (place < 0) return undefined;
    const shadow = shadowIn(machine.rules.slice(0, place), machine);
    return shadow === undefined
      ? {}
      : { fault: `before it stands "${shadow}", which decides first what it passes quick` };
  },
  make(machine) {
    const why = "call our anchor from the rules that are running, all of which stay";
    if (machine === undefined) {
      const first = FIRST.map((line) => `echo ${quoted(line)}`).join("; ");
      const line = `( ${first}; ${sudo("pfctl", "-s", "rules")} ) | ${sudo(...LOAD)}`;
      return [{ line, why, undo: ["", ""] }];
    }
    return [load([...FIRST, ...rulesWithoutCall(machine)], why, machine)];
  },
  unmake(machine) {
    const why = "take the call out of the rules that are running, all of which stay";
    if (machine !== undefined) return [load(rulesWithoutCall(machine), why, machine)];
    const line = `${sudo("pfctl", "-s", "rules")} | grep -v ${ANCHOR} | ${sudo(...LOAD)}`;
    return [{ line, why, undo: ["", ""] }];
  },
};

/** The running rules of others. */
export function rulesWithoutCall({ rules }: Machine): string[] {
  return rules.filter((rule) => rule !== CALL);
}

/** The first rule that may let pass at once what our anchor should judge. */
const shadowIn = (rules: readonly string[], { called }: Machine) =>
  rules.find((rule) =>
    PASSES_QUICK.test(rule) ||
    calledIn([rule]).some((anchor) => mayPassQuick(called.get(anchor))) ||
    // What Apple itself loads below its own passes only what comes in.
    rule === APPLES_CALL && called.get(APPLES)?.some((one) => PASSES_OUT_QUICK.test(one))
  );

const PASSES_QUICK = /^\s*pass\b.* quick\b/;
const PASSES_OUT_QUICK = /^\s*pass (?!in\b).*\bquick\b/;
const APPLES_CALL = `anchor "${APPLES}" all`;

/** Rules that pfctl did not print, or that call others, may do anything. */
function mayPassQuick(rules: readonly string[] | undefined): boolean {
  return rules?.some((rule) => PASSES_QUICK.test(rule) || /^\s*anchor\b/.test(rule)) ?? true;
}

/** What is called before our anchor, and may pass at once later what cannot be seen there now. */
export function calledBefore({ rules, called }: Machine): string[] {
  const before = rules.slice(0, Math.max(rules.indexOf(CALL), 0));
  const isUntold = called.get(APPLES) === undefined && before.includes(APPLES_CALL);
  return [...calledIn(before), ...(isUntold ? [APPLES] : [])];
}

const LOAD = ["pfctl", "-o", "none", "-R", "-f", "-"];

function load(rules: readonly string[], why: string, machine: Machine): Step {
  const strange = [...rules, ...machine.rules].find((rule) => /^-|\\/.test(rule));
  if (strange !== undefined) {
    throw new FishnetError(
      `the running rules cannot be loaded again: "${strange}" has a backslash`,
    );
  }
  const back = undoOf(machine);
  return { line: feed(rules.join("\n"), ...LOAD), why, undo: [`${back} || { sleep 2; ${back}; }`] };
}

/**
 * Loads what was read, since pfctl may have lost some of it. Where a rule runs that was not there,
 * another program has come in between: then its rules stay, and only our call is put right. Before
 * all others, where it was called: nobody knows what the new rule passes.
 */
function undoOf(machine: Machine): string {
  const [known, ours] = [[...machine.rules, CALL].join("\n"), CALL].map(quoted);
  const now = 'printf "%s\\n" "$now"';
  const first = machine.rules.includes(CALL)
    ? FIRST.map((line) => `echo ${quoted(line)}; `).join("")
    : "";
  const put = `{ ${first}${now} | grep -vxF ${ours}; }`;
  return `now=$(${sudo("pfctl", "-s", "rules")}); ` +
    `if [ -n "$now" ] && ${now} | grep -qvxF ${known}; then ${put} | ${sudo(...LOAD)}; ` +
    `else echo ${quoted(machine.rules.join("\n"))} | ${sudo(...LOAD)}; fi`;
}

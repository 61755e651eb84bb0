/**
 * The judgement of `verify`: what a try shows beside its control, and what all of them
 * show together. Nothing is run here.
 *
 * @module
 */
import { type Attempt, type Family, isReset } from "./attempt.ts";
import type { LockState } from "./report.ts";

/** What one line of a verification comes to; a `note` proves nothing and hurts nothing. */
export type Verdict = "proven" | "failed" | "inconclusive" | "note";

/** One thing that was tried. */
export interface Try {
  /** What was tried, and where. */
  readonly what: string;
  readonly expected: "refused" | "reached";
  readonly verdict: Verdict;
  /** What the account's try did, and what the control's did. */
  readonly did: string;
}

/** What was tried for one account, and what it shows. */
export interface Verification {
  readonly name: string;
  /** What `status` says: a lock with a piece missing is not proven by tries that happen to fail. */
  readonly state: LockState;
  /** Fully locked, and every try of every family refused by the very call, beside its control. */
  readonly proven: boolean;
  readonly tries: readonly Try[];
}

/** The ways out, each of which has to be shut in every family. */
export type Way = "tcp" | "udp" | "device";

/** What a try is part of the proof for. */
export interface Part {
  readonly family: Family;
  readonly way: Way;
}
export type Judged = Try & { readonly part?: Part | undefined };

/**
 * Whether the tries show what the state says: none failed or stayed open, and every way out of
 * every family was refused. A family that has no route for anybody needs none, if another has.
 */
export function isProven(
  state: LockState,
  tries: readonly Judged[],
  families: readonly Family[],
  ways: readonly Way[],
): boolean {
  if (state !== "locked") return false;
  if (tries.some(({ verdict }) => verdict === "failed" || verdict === "inconclusive")) return false;
  const verdicts = (family: Family) =>
    ways.map((way) =>
      tries.filter(({ part }) => part?.family === family && part.way === way)
        .map(({ verdict }) => verdict)
    );
  const isShut = (family: Family) => verdicts(family).every((way) => way.includes("proven"));
  const isNowhere = (family: Family) => verdicts(family).every((way) => way.includes("note"));
  return families.some(isShut) && families.every((family) => isShut(family) || isNowhere(family));
}

/** Judges a try that the lock must refuse. */
export function judgeRefusal(what: string, own: Attempt, control: Attempt): Try {
  const verdict = refusalVerdict(own, control);
  return { what, expected: "refused", verdict, did: describe(own, control) };
}

function refusalVerdict(own: Attempt, control: Attempt): Verdict {
  switch (own.outcome) {
    case "reached":
    case "unanswered": // a lock refuses at once: what waits for an answer was sent
      return own.silent ? "inconclusive" : "failed";
    case "refused":
      if (control.outcome === "reached") return "proven";
      // The account has a word of its own; where nobody has a route, there is nothing to reach.
      return control.word === "ENETUNREACH" || isNowhereOnMac(own) && isNowhereOnMac(control)
        ? "note"
        : "inconclusive";
    case "broken":
      return "inconclusive";
  }
}

/** What macOS says where there is no route. On Linux this is no word of a refusal. */
const isNowhereOnMac = ({ outcome, word }: Attempt) =>
  outcome === "refused" && word === "EHOSTUNREACH";

/** Judges a connection on loopback to a port that is not allowed: only a reset refuses it. */
export function judgeReset(what: string, own: Attempt, control: Attempt): Try {
  const otherwise = own.outcome === "refused" ? "broken" : own.outcome;
  return judgeCall(what, { ...own, outcome: isReset(own) ? "refused" : otherwise }, control);
}

/** Judges a call of a service that is refused, where it runs. */
export function judgeCall(what: string, own: Attempt, control: Attempt): Try {
  return isReset(own) && isReset(control)
    ? nobodyListens(what, "refused", control)
    : judgeRefusal(what, own, control);
}

/**
 * Judges a try that must work. Where nobody listens, or the account itself, nothing is shown: that is
 * a note.
 *
 * @param isOwn whether a uid is the account's own, or one of its subordinate uids
 */
export function judgeReach(
  isOwn: (uid: number) => boolean,
): (what: string, own: Attempt, control: Attempt) => Try {
  return (what, own, control) => {
    const open = [own, control].some(({ listeners }) => listeners?.some(isOwn))
      ? `${own.by} itself listens there: whether it reaches a proxy is open`
      // It may listen for so short a time that nobody sees it.
      : own.outcome === "reached" && own.listeners?.length === 0
      ? "it was answered, but nobody was seen to listen there: who it was is open"
      : undefined;
    if (open !== undefined) return note(what, "reached", open);
    if (isReset(own) && isReset(control)) return nobodyListens(what, "reached", control);
    const verdict = own.outcome === "reached"
      ? "proven"
      : control.outcome === "reached"
      ? "failed"
      : "inconclusive";
    return { what, expected: "reached", verdict, did: describe(own, control) };
  };
}

function nobodyListens(what: string, expected: Try["expected"], control: Attempt): Try {
  const who = `control ${control.by}: ${control.said}`;
  return note(what, expected, `nobody listens there, so this could not be tried (${who})`);
}

const note = (what: string, expected: Try["expected"], did: string): Try => ({
  what,
  expected,
  verdict: "note",
  did,
});

function describe(own: Attempt, control: Attempt): string {
  return `${own.by}: ${own.said}; control ${control.by}: ${control.said}`;
}

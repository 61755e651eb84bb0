/** The judgement of `verify`: what a try shows beside its control, and all of them together. */
import { type Attempt, type Family, isReset } from "./tries.ts";
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

/** A try, and which way out it is part of the proof for. */
export type Judged = Try & { readonly part?: { family: Family; way: Way } | undefined };

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
  const areAll = (family: Family, wanted: Verdict) =>
    ways.every((way) =>
      tries.some(({ part, verdict }) =>
        part?.family === family && part.way === way && verdict === wanted
      )
    );
  return families.some((family) => areAll(family, "proven")) &&
    families.every((family) => areAll(family, "proven") || areAll(family, "note"));
}

/** Judges a try that the lock must refuse. */
export function judgeRefusal(what: string, own: Attempt, control: Attempt): Try {
  const verdict = refusalVerdict(own, control);
  return { what, expected: "refused", verdict, did: describe(own, control) };
}

function refusalVerdict(own: Attempt, control: Attempt): Verdict {
  if (own.outcome === "broken") return "inconclusive";
  // A lock refuses at once: what waits for an answer was sent.
  if (own.outcome !== "refused") return own.silent ? "inconclusive" : "failed";
  if (control.outcome === "reached") return "proven";
  // The account has a word of its own; where nobody has a route, there is nothing to reach.
  return control.word === "ENETUNREACH" || isNowhereOnMac(own) && isNowhereOnMac(control)
    ? "note"
    : "inconclusive";
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
  return nobodyListens(what, "refused", own, control) ?? judgeRefusal(what, own, control);
}

/** Judges whether a file is shut: one that others may not write to either is no door. */
export function judgeWriting(what: string, own: Attempt, control: Attempt): Try {
  const isNoDoor = [own, control].every(({ outcome }) => outcome === "refused");
  const judged = judgeRefusal(what, own, control);
  return isNoDoor ? { ...judged, verdict: "note" } : judged;
}

/** Judges what must work; where nobody listens, or the account (`isOwn`), it is a note. */
export function judgeReach(
  isOwn: (uid: number) => boolean,
): (what: string, own: Attempt, control: Attempt) => Try {
  return (what, own, control) => {
    const expected = "reached";
    const hasReached = own.outcome === expected;
    if ([own, control].some(({ listeners }) => listeners?.some(isOwn))) {
      const did = `${own.by} itself listens there: whether it reaches a proxy is open`;
      return { what, expected, verdict: "note", did };
    }
    // It may listen for so short a time that nobody sees it.
    if (hasReached && own.listeners?.length === 0) {
      const did = "it was answered, but nobody was seen to listen there: who it was is open";
      return { what, expected, verdict: "note", did };
    }
    const otherwise = control.outcome === "reached" ? "failed" : "inconclusive";
    const verdict = hasReached ? "proven" : otherwise;
    return nobodyListens(what, expected, own, control) ??
      { what, expected, verdict, did: describe(own, control) };
  };
}

/** A note where both were reset. */
function nobodyListens(
  what: string,
  expected: Try["expected"],
  own: Attempt,
  control: Attempt,
): Try | undefined {
  if (!isReset(own) || !isReset(control)) return undefined;
  const who = `control ${control.by}: ${control.said}`;
  const did = `nobody listens there, so this could not be tried (${who})`;
  return { what, expected, verdict: "note", did };
}

const describe = (own: Attempt, control: Attempt) =>
  `${own.by}: ${own.said}; control ${control.by}: ${control.said}`;

/** A verification as a person reads it: a row a try, why only where it failed, and the verdict. */
import { bold, dim, green, red, yellow } from "@std/fmt/colors";
import type { Try, Verdict, Verification } from "../lock/judge.ts";
import { table, type Width, wrap } from "./layout.ts";
import { shown } from "../shown.ts";

/** What became of a try. */
const RESULTS: Readonly<Record<Verdict, (expected: Try["expected"]) => string>> = {
  proven: () => green("ok"),
  failed: () => red("FAILED"),
  inconclusive: () => yellow("unclear"),
  note: (expected) => dim(expected === "reached" ? "no answer" : "note"),
};

/** The lines of a verification. */
export function verifyLines(verification: Verification, width: Width): string[] {
  const { name, tries } = verification;
  const rows = tries.map((
    { what, expected, verdict },
  ) => [shown(what), expected, RESULTS[verdict](expected)]);
  const [header, ...lines] = table([["WHAT", "EXPECTED", "RESULT"], ...rows], width);
  const why = ({ verdict, did }: Try) =>
    verdict === "proven" ? [] : wrap(`    ${shown(did)}`, width, 4);
  return [
    ...header!,
    ...tries.flatMap((one, i) => [...lines[i]!, ...why(one)]),
    ...wrap(`${bold(shown(name))}: ${verdictOf(verification)}`, width, 2),
  ];
}

function verdictOf({ name, proven, state, tries }: Verification): string {
  const unanswered = ({ verdict, expected }: Try) => verdict === "note" && expected === "reached";
  const half = tries.some(unanswered)
    ? yellow("; the way to the proxy could not be tried: nobody answers at its port yet")
    : "";
  if (proven) return `${green("locked, and proven to be refused outside")}${half}`;
  if (state !== "locked") {
    return red(`not proven: fishnet firewall status --agent-user ${shown(name)} says ${state}`);
  }
  const count = (wanted: Verdict) => tries.filter(({ verdict }) => verdict === wanted).length;
  const counts = [[count("failed"), "failed"], [count("inconclusive"), "unclear"]] as const;
  const why = counts.filter(([n]) => n > 0).map(([n, what]) => `${n} ${what}`).join(", ");
  return `${red(`not proven: ${why || "nothing was shown to be refused"}`)}${half}`;
}

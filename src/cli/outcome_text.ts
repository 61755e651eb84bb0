/** What `enable` and `disable` say when they are done, and what an administrator should know. */
import { PROXY_PORT } from "../account.ts";
import type { AccountStatus, Warning } from "../lock/report.ts";
import { shown, someOf } from "../shown.ts";

/** How an agent's programs are pointed at the proxy, each by a variable of its own. */
export const PROXY_VARIABLES = [
  `HTTPS_PROXY=http://127.0.0.1:${PROXY_PORT} (for Node.js with NODE_USE_ENV_PROXY=1)`,
  "OPENAI_BASE_URL, ANTHROPIC_BASE_URL: where the proxy stands in for an API",
];

/** The same in one line, after an enable; the proxy is at the one port that is left, if one is. */
export function proxyHint(onlyPorts: readonly number[]): string {
  const port = onlyPorts.includes(PROXY_PORT) ? PROXY_PORT : onlyPorts[0] ?? PROXY_PORT;
  return `for the agent: HTTPS_PROXY=http://127.0.0.1:${port} and NODE_USE_ENV_PROXY=1, ` +
    "or OPENAI_BASE_URL and ANTHROPIC_BASE_URL";
}

/** Where the limits of every packet filter are said in full. */
export const LIMITS_HINT = "its limits: fishnet firewall status --explain";

/** Each warning in one line: whose, why, and what to do; the most urgent first, else as they came. */
export function warningTexts(warnings: readonly Warning[]): string[] {
  const sorted = warnings.toSorted((a, b) => (b.urgency ?? 0) - (a.urgency ?? 0));
  return sorted.map(({ account, reason, remedy }) => {
    const whose = account === undefined ? "" : `${shown(account)}: `;
    return `${whose}${shown(reason)}; ${shown(remedy, Infinity)}`;
  });
}

/** What is said of a plan without a command. */
export const NOTHING_TO_DO = { enable: "already in force", disable: "nothing to take away" };

/** A line for all accounts of which the same is true: `agent (uid 1002): locked; loopback open`. */
export function enableOutcome(accounts: readonly AccountStatus[], changed: boolean): string[] {
  const textOf = ({ state, onlyPorts, survivesReboot, backend }: AccountStatus) =>
    [
      state === "locked" ? `${changed ? "" : "already "}locked` : `not whole (${state})`,
      onlyPorts.length === 0 ? "loopback open" : `loopback only on port ${onlyPorts.join(", ")}`,
      survivesReboot ? "kept at reboot" : "lost at reboot",
      ...(backend === undefined ? [] : [`by ${backend}`]),
    ].join("; ");
  return [...Map.groupBy(accounts, textOf)].map(([text, group]) => {
    const names = group.map(({ name, uid }) => `${shown(name)} (uid ${uid})`);
    return `${someOf(names, 5)}: ${text}`;
  });
}

/** The same after a disable, for names: a deleted account has no status any more. */
export function disableOutcome(accounts: readonly string[], changed: boolean): string[] {
  const names = someOf(accounts.map((name) => shown(name)), 5);
  return [`${names}: ${changed ? "unlocked" : "was not locked"}`];
}

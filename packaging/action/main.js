/** Locks the accounts, proves it, and notes for the end of the job which ones were not locked before. */
"use strict";
const { fishnet, install, put, run, words } = require("./fishnet.js");

run(() => {
  const accounts = words("agent-user");
  if (accounts.length === 0) throw new Error("agent-user is empty: name the account to lock");
  install();
  const users = accounts.map((name) => `--agent-user=${name}`);
  const ports = words("only-port").map((port) => `--only-port=${port}`);
  const backend = words("backend").map((name) => `--backend=${name}`);

  const before = status(fishnet("status", "--json", ...users));
  const unlocked = before.accounts.filter(({ state }) => state === "unlocked");
  // Noted before anything happens: what fails half-way is let go as well.
  put("GITHUB_STATE", "accounts", unlocked.map(({ name }) => name).join(" "));

  const locking = fishnet("enable", "--json", "--apply", ...backend, ...ports, ...users);
  if (locking.status !== 0) throw new Error(`not locked: ${message(locking)}`);
  const root = JSON.parse(locking.stdout).warnings.find(({ reason }) =>
    reason.startsWith("may use sudo")
  );
  if (root) throw new Error(`${root.account} ${root.reason}; ${root.remedy}`);
  const proof = fishnet("verify", ...users);
  process.stdout.write(proof.stdout);
  if (proof.status !== 0) {
    throw new Error(`not proven to be locked: see above (exit code ${proof.status})`);
  }
  put("GITHUB_OUTPUT", "status", fishnet("status", "--json", ...users).stdout.trim());
});

function status(result) {
  const document = result.stdout === "" ? undefined : JSON.parse(result.stdout);
  if (document?.accounts === undefined) throw new Error(message(result));
  if (document.state === "unknown") throw new Error(`the state is unknown: ${message(result)}`);
  return document;
}

function message({ status, stdout }) {
  try {
    const { error, reason } = JSON.parse(stdout);
    return error?.message ?? reason ?? `exit code ${status}`;
  } catch {
    return `exit code ${status}`;
  }
}

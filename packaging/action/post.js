/** Lets go of the accounts that the action locked, at the end of the job, however it ends. */
"use strict";
const { fishnet, run } = require("./fishnet.js");

run(() => {
  const accounts = (process.env.STATE_accounts ?? "").split(" ").filter(Boolean);
  if (accounts.length === 0) return;
  const users = accounts.map((name) => `--agent-user=${name}`);
  const { status, stdout } = fishnet("disable", "--apply", ...users);
  process.stdout.write(stdout);
  if (status !== 0) throw new Error(`still locked: ${accounts.join(", ")} (exit code ${status})`);
});

/** What the two halves of the action share: the program, and the files that talk to the runner. */
"use strict";
const { spawnSync } = require("node:child_process");
const { appendFileSync, existsSync } = require("node:fs");
const { join } = require("node:path");

const ROOT = join(__dirname, "..", "..");
const DENO = join(ROOT, "packaging", "deno");
const BINARY = join(DENO, "node_modules", ".bin", "deno");

/** Installs Deno beside the sources, by the checksums of its lock file, once. */
function install() {
  if (existsSync(BINARY)) return;
  const { status, error } = spawnSync("npm", ["ci", "--silent", "--prefix", DENO], {
    stdio: "inherit",
  });
  if (status !== 0) {
    throw new Error(`Deno could not be installed: npm ${error ?? `ended with ${status}`}`);
  }
}

/**
 * Runs the program from its sources, under the permissions that it ships with.
 * What it says to people is in the log; standard output is returned.
 */
function fishnet(...args) {
  const { status, stdout, error } = spawnSync(
    BINARY,
    [
      ...["run", "--quiet", "--no-prompt", "--frozen", "--allow-run=sudo", "--allow-env=USER"],
      ...[join(ROOT, "main.ts"), "firewall", ...args],
    ],
    {
      stdio: ["ignore", "pipe", "inherit"],
      encoding: "utf8",
      env: { ...process.env, DENO_NO_UPDATE_CHECK: "1" },
    },
  );
  if (error) throw error;
  return { status, stdout };
}

/** The words of an input, as the runner hands it over. */
function words(input) {
  return (process.env[`INPUT_${input.toUpperCase()}`] ?? "").split(/[\s,]+/).filter(Boolean);
}

/** Writes a value that may have several lines to one of the runner's files. */
function put(file, name, value) {
  const end = `end-of-${name}-${process.hrtime.bigint()}`;
  appendFileSync(process.env[file], `${name}<<${end}\n${value}\n${end}\n`);
}

/** Ends a half of the action; a failure is shown at the step. */
function run(half) {
  try {
    half();
  } catch (error) {
    const text = error.message.replaceAll("%", "%25").replaceAll("\n", "%0A");
    process.stdout.write(`::error title=fishnet firewall::${text}\n`);
    process.exitCode = 1;
  }
}

module.exports = { fishnet, install, put, run, words };

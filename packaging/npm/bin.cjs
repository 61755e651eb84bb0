#!/usr/bin/env node
/**
 * Runs the program beside this file by the Deno that npm installed with it,
 * under the two permissions that it ever has, and ends as it ends.
 */
"use strict";
const { spawn } = require("node:child_process");
const { createRequire } = require("node:module");
const { join } = require("node:path");

/** The packages of the npm package `deno`, each of which holds the binary of one system. */
const SYSTEMS = {
  "linux-x64": "@deno/linux-x64-glibc",
  "linux-arm64": "@deno/linux-arm64-glibc",
  "darwin-x64": "@deno/darwin-x64",
  "darwin-arm64": "@deno/darwin-arm64",
};

const ARGUMENTS = [
  ...["run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--no-remote"],
  // What it imports is what npm has put here; nothing is downloaded, nothing is looked up elsewhere.
  ...["--node-modules-dir=manual", "--deny-import", "--no-code-cache"],
  ...["--allow-run=sudo", "--allow-env=USER"],
  join(__dirname, "main.js"),
];

/**
 * Nobody's environment may add to what Deno is told above, nor lay compiled code in its way. Deno
 * itself asks nobody whether there is a newer one.
 */
const environment = {
  ...Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(DENO|NODE|V8)_/.test(name)),
  ),
  DENO_NO_UPDATE_CHECK: "1",
};

function denoBinary() {
  const system = SYSTEMS[`${process.platform}-${process.arch}`];
  if (system === undefined) {
    throw new Error(`there is no Deno for ${process.platform} on ${process.arch}`);
  }
  try {
    const beside = createRequire(require.resolve("deno/package.json"));
    return join(beside.resolve(`${system}/package.json`), "..", "deno");
  } catch {
    throw new Error(
      `${system} is missing: install without --omit=optional, on a system with glibc`,
    );
  }
}

function main() {
  const deno = spawn(denoBinary(), [...ARGUMENTS, ...process.argv.slice(2)], {
    stdio: "inherit",
    env: environment,
  });
  // A terminal sends these to the program as well, which undoes what it did before it ends: wait for it.
  for (const signal of ["SIGINT", "SIGHUP", "SIGQUIT"]) process.on(signal, () => {});
  process.on("SIGTERM", () => deno.kill("SIGTERM"));
  deno.on("error", fail);
  deno.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

function fail(error) {
  process.stderr.write(`[fishnet] ${error.message}\n`);
  process.exit(1);
}

try {
  main();
} catch (error) {
  fail(error);
}

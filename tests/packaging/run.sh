#!/bin/sh
# Compiles the program, tests the ways in which users get it, and repeats the
# end-to-end tests with the binary: `deno task test:packaging`.
set -eu
cd "$(dirname "$0")/../.."
sh tests/setup.sh
sh tests/packaging/setup.sh
deno=deno
# The runtime that DENORT_BIN names is Deno 2.6's, on which no newer Deno can build.
if [ -n "${DENORT_BIN:-}" ]; then deno='npx --yes deno@2.6.8'; fi
code=0
FISHNET_BIN=$($deno task --quiet compile) || code=$?
if [ "$code" -eq 0 ]; then
  export FISHNET_BIN
elif [ "$code" -ne 3 ] && [ -z "${DENORT_BIN:-}" ]; then
  # Where the base that Deno builds on can't be had. One that is there and broken is an error.
  echo "the program cannot be compiled here: what needs the binary is skipped" >&2
  unset FISHNET_BIN
else
  exit 1
fi
# shellcheck disable=SC2086 # a list of files
$deno test --lock=tests/deno.lock --no-prompt --allow-all ${PACKAGING_TESTS:-tests/packaging}
[ -n "${FISHNET_BIN:-}" ] || exit 0
# What differs between the sources and the binary is how it starts: one of each kind is enough.
exec deno test --lock=tests/deno.lock --no-prompt --allow-all tests/linux/lock_test.ts \
  tests/linux/json_test.ts tests/cli/words_test.ts tests/cli/terminal_test.ts

#!/bin/sh
# What the measurements need beside what the tests need: time(1).
set -eu
tests=$(dirname "$0")/../tests
sh "$tests/setup.sh"
exec sh "$tests/install.sh" time

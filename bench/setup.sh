#!/bin/sh
# What the measurements use beside what the tests use: time(1), and the tools compared with.
set -eu
sh "$(dirname "$0")/../tests/setup.sh"
command -v apt-get >/dev/null || exit 0
[ "$(id -u)" -eq 0 ] || exit 0
for package in time ufw; do
  dpkg -s "$package" >/dev/null 2>&1 ||
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$package"
done

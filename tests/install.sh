#!/bin/sh
# Installs the Debian packages that are named and not there yet: on Debian, as root.
# Elsewhere nothing happens: what lacks something then says so, and is counted as skipped.
set -eu
command -v apt-get >/dev/null || exit 0
[ "$(id -u)" -eq 0 ] || exit 0
missing=''
for package; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
apt-get update -q
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

#!/bin/sh
# Installs what boots a machine for the tests, where that is possible: on Debian, as root.
set -eu
command -v apt-get >/dev/null || exit 0
[ "$(id -u)" -eq 0 ] || exit 0
missing=''
for package in mmdebstrap systemd-container debian-archive-keyring; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

#!/bin/sh
# Installs what the tests need, where that is possible: on Debian, as root.
# Elsewhere the tests that lack something say so, and are counted as skipped.
set -eu
packages='iptables nftables iproute2 sudo tcpdump python3 uidmap util-linux procps zsh ufw'
command -v apt-get >/dev/null || exit 0
[ "$(id -u)" -eq 0 ] || exit 0
missing=''
for package in $packages; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

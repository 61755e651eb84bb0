#!/bin/sh
# Installs what the packaging tests need, where that is possible: on Debian, as root.
# Elsewhere the tests that lack something say so, and are counted as skipped.
set -eu
packages='lintian reprepro gnupg ruby fish zsh bash bash-completion ansible-core mmdebstrap
  cloud-init mandoc man-db groff strace shellcheck dpkg-dev systemd-container
  debian-archive-keyring jq'
command -v apt-get >/dev/null || exit 0
[ "$(id -u)" -eq 0 ] || exit 0
missing=''
for package in $packages; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
apt-get update -q
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

#!/bin/sh
# What the packaging tests need beside what the tests need.
exec sh "$(dirname "$0")/../install.sh" lintian reprepro gnupg ruby fish zsh bash bash-completion \
  ansible-core mmdebstrap cloud-init mandoc man-db groff strace shellcheck dpkg-dev \
  systemd-container debian-archive-keyring jq

#!/bin/sh
# What the packaging tests need beside what the tests need.
exec sh "$(dirname "$0")/../install.sh" lintian apt-utils gnupg ruby fish zsh bash bash-completion \
  ansible-core ansible-lint mmdebstrap cloud-init mandoc man-db groff strace shellcheck dpkg-dev \
  systemd-container debian-archive-keyring jq

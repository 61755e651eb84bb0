#!/bin/sh
# What boots a machine for the tests.
exec sh "$(dirname "$0")/../install.sh" mmdebstrap systemd-container debian-archive-keyring

#!/bin/bash
# The scenario `locked`: an account of its own, and NET_ADMIN for root.
set -e
# shellcheck source=/dev/null # the tool puts it beside this file
source dev-container-features-test-lib

check "the user is locked" grep -qx 'locked: node' /run/fishnet-firewall/report
check "opening the container succeeds" /usr/local/share/fishnet-firewall/report.sh
check "the kernel denies it a route" bash -c \
  "ip route get 203.0.113.9 uid \$(id -u node) 2>&1 | grep 'Permission denied'"
reportResults

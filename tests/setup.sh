#!/bin/sh
# What the tests need.
exec sh "$(dirname "$0")/install.sh" iptables nftables iproute2 sudo tcpdump python3 uidmap \
  util-linux procps zsh ufw auditd curl iputils-ping bind9-dnsutils acl libcap2-bin shellcheck \
  busybox dbus-daemon

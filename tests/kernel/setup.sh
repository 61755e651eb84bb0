#!/bin/sh
# What boots Debian's own kernel in an emulated machine.
exec sh "$(dirname "$0")/../install.sh" mmdebstrap debian-archive-keyring qemu-system-x86 \
  busybox cpio

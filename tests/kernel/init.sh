#!/bin/busybox sh
# The first program of the emulated machine: takes the Debian tree for its root, and starts inside.sh.
/bin/busybox mkdir -p /proc /sys /new /low /top
/bin/busybox mount -t proc proc /proc
while read -r module; do /bin/busybox insmod "/modules/$module"; done </modules/order
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro tree /low
/bin/busybox mount -t tmpfs tmpfs /top
/bin/busybox mkdir /top/up /top/work
/bin/busybox mount -t overlay -o lowerdir=/low,upperdir=/top/up,workdir=/top/work overlay /new
/bin/busybox mkdir -p /new/work
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 work /new/work
/bin/busybox umount /proc
exec /bin/busybox switch_root /new /bin/sh /work/inside.sh

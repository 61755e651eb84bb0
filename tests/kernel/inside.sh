# Runs in the emulated machine as its only program, and leaves what it saw in /work. Uid 5001 is the
# account that gets locked, 5101 the one beside it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec >/work/log 2>&1
set -u
trap 'sync; echo b >/proc/sysrq-trigger' EXIT
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
echo 1 >/proc/sys/kernel/sysrq

# The machine and its outside, joined by a cable. Its neighbour is known: nothing has to be asked.
ip link set lo up
ip netns add outside
ip -n outside link set lo up
ip link add out0 type veth peer in0 netns outside
ip link set out0 address 02:00:00:00:00:01
ip -n outside link set in0 address 02:00:00:00:00:02
ip addr add 10.77.0.1/24 dev out0
ip -n outside addr add 10.77.0.2/24 dev in0
for ns in '' '-n outside'; do
  # shellcheck disable=SC2086 # words, or none
  ip $ns link set "$(test -z "$ns" && echo out0 || echo in0)" up
done
# Without a wait for duplicate addresses; what has no other way leaves by the cable.
ip addr add fd77::1/64 dev out0 nodad
ip -n outside addr add fd77::2/64 dev in0 nodad
ip -6 route add default via fd77::2
ip neigh add fd77::2 lladdr 02:00:00:00:00:02 dev out0 nud permanent
ip neigh add 10.77.0.2 lladdr 02:00:00:00:00:02 dev out0 nud permanent
ip -n outside neigh add 10.77.0.1 lladdr 02:00:00:00:00:01 dev in0 nud permanent

# As the program asks.
look() {
  ss -HtunaeS >"/work/sockets.$1"
  cat /proc/net/protocols /proc/modules >"/work/protocols.$1"
  # shellcheck disable=SC2046 # words
  modprobe --all --dry-run --verbose -- $(cat /work/aliases) >"/work/autoload.$1" || true
}
tries() {
  for way in $2; do
    for uid in 5001 5101; do perl /work/tries.pl "$uid" "$way"; done
  done >"/work/tries.$1"
}

# Before anybody has asked for a family; with the remedy; and without it again.
look fresh
sh -c "$(cat /work/remedy)"
tries remedied 'sctp pppoe smc l2tp_eth'
look remedied
rm /etc/modprobe.d/*
ip netns exec outside perl /work/outside.pl >/work/frames &
until grep -q ready /work/frames; do sleep 0.1; done
modprobe mac80211_hwsim radios=0
tries open 'sctp pppoe smc sctp_loopback sctp_forged l2tp_eth hwsim'
look open

# An association from before the lock is told; one from after it can't be made.
mkfifo /run/held
perl /work/tries.pl 5001 sctp_held </run/held >/work/held &
exec 9>/run/held
until grep -q held /work/held; do sleep 0.1; done
look held
sudo() { "$@"; }
# shellcheck disable=SC1091 # the lock's own commands
. /work/lock.sh
echo "locked $?"
perl /work/tries.pl 0 mark
tries locked 'sctp pppoe smc sctp_loopback sctp_forged l2tp_eth'
perl /work/tries.pl 0 mark
until test "$(grep -c mark /work/frames)" = 2; do sleep 0.1; done
echo "done" >/work/done

# Does --sessions have an effect here? systemd takes the setting, and answers 0, also where it has none (without the
# right to load BPF programs, in many containers). So a packet is sent from inside the slice, to an address of a
# network namespace of its own, which no packet leaves: from another slice it goes, from this one it has to be refused.
# The addresses are for documentation (RFC 5737, RFC 3849).
slice=$1
refused=77

send() {
  try="ip address add $2 dev lo && { echo >/dev/udp/$2/9 || exit $refused; }"
  systemd-run --quiet --wait --collect --property=PrivateNetwork=yes --slice="$1" bash -c "$try"
}

cannot_tell() {
  echo "cannot tell whether --sessions has an effect here" >&2
  exit 1
}

addresses=192.0.2.1
if test -e /proc/net/if_inet6; then addresses="192.0.2.1 2001:db8::1"; fi
for address in $addresses; do
  send system.slice "$address" || cannot_tell
  # One of before may still be ending, unshut: it is the next that counts.
  for pause in 0.1 0.2 0.4 0; do
    send "$slice" "$address" 2>/dev/null
    answer=$?
    if test $answer -ne 0; then break; fi
    sleep $pause
  done
  case $answer in
    "$refused") ;;
    0)
      echo "--sessions has no effect on this system: leave it out" >&2
      exit 1
      ;;
    *) cannot_tell ;; # a slice that starts nothing, say
  esac
done

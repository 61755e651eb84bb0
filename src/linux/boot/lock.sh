#!/bin/sh
# Puts the lock of every account in force that fishnet firewall enable --persist has left a file of:
#   /etc/fishnet-firewall/UID.account
# The units fishnet-*.service run it, as root: at boot, and whenever another firewall starts, reloads or stops; with
# "watch" it looks for a while. What is in force already stays as it is.
# It holds no single quote and no backslash, so that a person can print it with echo. It starts as few programs as it
# can: until the first rule is there again, packets leave.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 077
set -f # no word here is ever a pattern for file names, except where accounts are listed
folder=${0%/*}

read -r quote <<END
"
END
newline="
"
tab="	"

say() {
  echo "fishnet: $*" >&2
  failed=1
}

# Whether it is a number in plain decimals that a uid can be.
is_uid() {
  case $1 in
    "" | *[!0-9]* | 0?* | ???????????*) return 1 ;;
  esac
  [ "$1" -le 4294967294 ]
}

# Sets $word to the range FIRST-LAST as every tool prints it: one uid alone is itself.
print() {
  word=$1
  if [ "${1%-*}" = "${1#*-}" ]; then word=${1%-*}; fi
}

# Cuts $1, a uid or a range, out of the ranges $parts.
cut() {
  rest=""
  for part in $parts; do
    if [ "${1#*-}" -lt "${part%-*}" ] || [ "${1%-*}" -gt "${part#*-}" ]; then
      rest="$rest $part"
      continue
    fi
    if [ "${1%-*}" -gt "${part%-*}" ]; then rest="$rest ${part%-*}-$((${1%-*} - 1))"; fi
    if [ "${1#*-}" -lt "${part#*-}" ]; then rest="$rest $((${1#*-} + 1))-${part#*-}"; fi
  done
  parts=$rest
}

# Sets $ranges to the subordinate uids of the account, FIRST-LAST each and each uid once, out of /etc/subuid, which has
# lines NAME:FIRST:COUNT and UID:FIRST:COUNT. A line that is none of these is said, and hides no other.
read_ranges() {
  ranges=
  [ -e /etc/subuid ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      "$name":* | "$uid":*) ;;
      *) continue ;;
    esac
    numbers=${line#*:}
    first=${numbers%%:*} count=${numbers#*:}
    if is_uid "$first" && is_uid "$count" && [ "$count" -gt 0 ] && is_uid $((first + count - 1)); then
      parts=$first-$((first + count - 1))
      for range in "$uid" $ranges; do cut "$range"; done
      ranges="$ranges$parts"
    else
      say "cannot read this line of /etc/subuid: $line"
    fi
  done </etc/subuid
}

# ip: all that is to be locked, of every account, where no rule has it yet. $1: the family.
routing_rules() {
  rules=$(ip -"$1" rule show) || { say "cannot list the routing rules of IPv$1"; return; }
  parts=$(merged "$wanted")
  while read -r preference from all uidrange range prohibit rest; do
    case "$preference $from $all $uidrange $prohibit $rest" in
      "77: from all uidrange prohibit " | "77: from all uidrange prohibit proto "*) cut "$range" ;;
    esac
  done <<END
$rules
END
  for part in $parts; do
    ip -"$1" rule add pref 77 uidrange "$part" prohibit protocol kernel || say "IPv$1: no routing rule for $part"
  done
}

# Prints ranges, each in a line of $1, in order, and what overlaps or adjoins as one.
merged() {
  echo "$1" | sort -n | {
    low="" high=""
    while IFS=- read -r first last; do
      if [ -n "$low" ] && [ "$first" -le $((high + 1)) ]; then
        if [ "$last" -gt "$high" ]; then high=$last; fi
      else
        [ -z "$low" ] || echo "$low-$high"
        low=$first high=$last
      fi
    done
    echo "$low-$high"
  }
}

# Notes one command of a transaction.
note() {
  changes=$changes${changes:+$newline}$1
}

# Does what was noted, by $1: all of it at once, or else, since half a lock is better than none, each by itself.
change() {
  if [ -z "$changes" ] || $1 "$changes"; then return; fi
  while IFS= read -r line; do
    $1 "$line" || say "$tool did not take: $line"
  done <<END
$changes
END
}

# Both families at once.
lock_with_iptables() {
  (
    lock_family iptables icmp-port-unreachable
    exit $failed
  ) &
  job=$!
  [ "$families" = 4 ] || lock_family ip6tables icmp6-port-unreachable
  wait $job || failed=1
}

# The tables of one family: first that where packets leave. Each rule is as iptables lists it, and goes on top of its
# chain. $2: how it refuses.
lock_family() {
  tool=$1
  if list mangle; then
    for owner in $owners; do
      owner="-m owner --uid-owner $owner"
      rule POSTROUTING "! -o lo $owner -m comment --comment ${quote}fishnet:$name$quote -j DROP"
      rule OUTPUT "-o lo -p tcp $owner -m tcp --tcp-flags SYN SYN -j TCPOPTSTRIP --strip-options 30"
      rule OUTPUT "-p sctp $owner -j DROP"
    done
    change restore
  fi
  list filter || return
  if [ -n "$commas" ]; then
    make_chain "$2"
    for owner in $owners; do
      owner="-m owner --uid-owner $owner"
      rule OUTPUT "-o lo -p tcp $owner -m multiport ! --dports $commas -j fishnet"
      rule OUTPUT "-o lo ! -p tcp $owner -j fishnet"
    done
  fi
  rule OUTPUT "! -o lo -m owner --uid-owner $uid -j REJECT --reject-with $2"
  change restore
}

# Sets $listed to the rules of a table. A list that cannot be had is no empty list.
list() {
  table=$1 changes=""
  listed=$($tool -w 30 -t "$table" -S) && return
  say "$tool cannot list its table $table: if it is incompatible, nft has put rules there, which only nft can remove"
  return 1
}

# Notes what has to be done for one rule. It is in force where it stands and nothing above it can let a packet go.
# One that others have come before is moved to the top, in one transaction.
rule() {
  change="-I $1 1 $2" first=yes
  while IFS= read -r line; do
    case $line in
      "-A $1 $2")
        [ $first = no ] || return 0
        change="-D $1 $2$newline$change"
        break
        ;;
      "-A $1 "*" -j DROP" | "-A $1 "*" -j REJECT "* | "-A $1 "*" -j TCPOPTSTRIP "* | "-A $1 "*" -j fishnet") ;;
      "-A $1 "*) first=no ;;
    esac
  done <<END
$listed
END
  note "$change"
}

# The same for the chain of ours, which is made anew where it is not as it has to be.
make_chain() {
  chain="-A fishnet -m conntrack --ctdir REPLY -j RETURN
-A fishnet -p tcp -j REJECT --reject-with tcp-reset
-A fishnet -j REJECT --reject-with $1"
  case $newline$listed$newline in
    *"-A fishnet "*"$newline$chain$newline"* | *"$newline$chain$newline-A fishnet "*) ;;
    *"$newline$chain$newline"*) return ;;
  esac
  note ":fishnet - [0:0]$newline$chain"
}

restore() {
  "$tool-restore" -w 30 --noflush <<END
*$table
$1
COMMIT
END
}

lock_with_nftables() {
  tool=nft
  if read_table fishnet 10; then
    element locked "$uid-$uid"
    for one in $ranges; do
      if [ "${one%-*}" -lt 65536 ]; then say "subordinate uids below 65536 need --backend iptables: $name has $one"; fi
      element subordinate "$one"
    done
    change feed_nft
  fi
  if [ -z "$ports" ] || ! read_table fishnet_loopback 6; then return; fi
  for allowed in $ports; do element allowed "$uid-$uid" "$allowed"; done
  for one in $ranges; do
    for allowed in $ports; do element allowed_subordinate "$one" "$allowed"; done
  done
  for one in "$uid-$uid" $ranges; do element narrowed "$one"; done
  change feed_nft
}

# Notes what has to be done for a table: to make it, or its rules again, out of its file; what is in its sets stays.
# $1: its name, $2: how many rules it has.
read_table() {
  table=$1 changes="include $quote$folder/$1.nft$quote" rules=0
  if ! listed=$(nft list table inet "$1" 2>&1); then
    case $listed in
      *"No such file or directory"*) return 0 ;;
    esac
    say "nft cannot list the table inet $1: $listed"
    return 1
  fi
  while IFS= read -r line; do
    case $line in
      *comment*) ;;
      *"flags dormant"*) rules=-99 ;;
      *@* | *"reject with"* | *"reset tcp option"* | *accept | *drop) rules=$((rules + 1)) ;;
    esac
  done <<END
$listed
END
  if [ $rules -eq "$2" ]; then changes=; else changes="flush table inet $1; $changes"; fi
}

# Notes what of the range $2 is not in the set $1 yet, since no uid can be there twice. $3: the port beside it, if any.
element() {
  parts=$2 beside=${3:+ . $3} held=${listed#*"set $1 {"} dot=""
  if [ "$held" = "$listed" ]; then held=; fi
  for word in ${held%%"$newline$tab}"*}; do
    case $dot$word in
      .[0-9]*) port=" . $word" ;;
      [0-9]*) range=$word port="" ;;
      comment) if [ "$port" = "$beside" ]; then cut "$range"; fi ;;
    esac
    dot=${word%%[!.]*}
  done
  for part in $parts; do
    print "$part"
    note "add element inet $table $1 { $word$beside comment $quote$name$quote }"
  done
}

feed_nft() {
  nft -f - <<END
$1
END
}

# Locks the account of one file.
lock_account() {
  uid=${1##*/} name="" backend="" ports="" commas=""
  uid=${uid%.account}
  while IFS="=" read -r key value; do
    case $key in
      name) name=$value ;;
      backend) backend=$value ;;
      ports) ports=$value ;;
    esac
  done <"$1"
  case $name in
    "" | *[!A-Za-z0-9_-]*) say "$1 names no account"; return ;;
  esac
  case $ports in
    *[!0-9" "]*) say "$1 has ports that are no numbers"; return ;;
  esac
  if ! is_uid "$uid" || [ "$uid" -eq 0 ]; then say "$1 is of no uid that can be locked"; return; fi
  for port in $ports; do commas=$commas${commas:+,}$port; done
  read_ranges
  owners=
  for range in $uid-$uid $ranges; do
    print "$range"
    owners="$owners $word" wanted=$wanted${wanted:+$newline}$range
  done
  case $backend in
    iptables) lock_with_iptables ;;
    nftables) lock_with_nftables ;;
    *) say "$1 names no backend" ;;
  esac
}

# One look at all of them, each whether or not another failed; no other run of this, nor of the program, at a time.
look() (
  lock=/etc/sudoers
  [ -e $lock ] || lock=/root
  exec 9<$lock
  flock 9 || { say "cannot get the lock $lock"; exit 1; }
  failed=0 families="4 6" wanted=""
  # A kernel without IPv6 has none to lock; one that has not loaded it yet does so now.
  [ -e /proc/net/if_inet6 ] || modprobe -q net-pf-10
  [ -e /proc/net/if_inet6 ] || families=4
  set +f
  set -- "$folder"/*.account
  set -f
  for file; do
    if [ -e "$file" ]; then lock_account "$file"; fi
  done
  [ -n "$wanted" ] || families=
  for family in $families; do routing_rules "$family"; done
  exit $failed
)

# Looks for 40 s, every second and whenever nft tells of a change, whoever made it. Of changes by iptables-legacy nothing
# tells: then it looks every 0.1 s for the first 5 s, in which another firewall starts. It goes on for as long as
# firewalld runs beside rules of iptables, because nobody else hears firewall-cmd --reload.
watch() {
  told=yes
  case $(iptables --version 2>&1) in
    *legacy*) told=no ;;
  esac
  start_others &
  keep_looking | listen
  look
}

# Others that run already get the unit that hears of them. Nobody waits for longer, whether nft can be heard or not.
start_others() {
  sleep 5
  systemd-notify --ready
  for other in nftables ufw firewalld netfilter-persistent iptables ip6tables; do
    unit=fishnet-beside@$other # it starts this anew: one that failed would do so for ever
    if systemctl --quiet is-active $other && ! systemctl --quiet is-failed $unit; then systemctl --no-block start $unit; fi
  done
}

keep_looking() {
  nft monitor &
  monitor=$! age=0
  read -r start _ </proc/uptime
  while [ $age -lt 40 ] || firewalld_flushes; do
    look >&2
    kill -0 $monitor || told=no
    case $told$age in
      no[0-4]) sleep 0.1 ;;
      yes[4-9]? | yes???*) sleep 30 ;;
      *) sleep 1 ;;
    esac
    read -r now _ </proc/uptime
    age=$((${now%.*} - ${start%.*}))
  done
  kill $monitor
}

firewalld_flushes() {
  grep -rqsx --include=*.account backend=iptables "$folder" && systemctl --quiet is-active firewalld
}

# Says that it is ready when an event of its own has come: from then on it misses none, and other firewalls may start.
listen() {
  while nft "add table inet fishnet_ready; delete table inet fishnet_ready"; do sleep 0.1; done &
  poke=$!
  grep --line-buffered "^# new generation" | {
    read -r _
    kill $poke
    systemd-notify --ready
    while read -r _; do look; done
  }
}

if [ "${1-}" = watch ]; then watch; else look; fi

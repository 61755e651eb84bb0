#!/bin/sh
# Puts the lock of every account in force that fishnet firewall enable --persist has left a file of:
#   /etc/fishnet-firewall/UID.account
# The units fishnet-*.service run it, as root: at boot, and with "watch" for as long as the machine runs, so that what
# another firewall flushes is back at once. What is in force already stays as it is.
# It holds no single quote and no backslash, so that a person can print it with echo. It starts as few programs as it
# can: until the first rule is there again, packets leave.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 077
set -f # no word here is ever a pattern for file names, except where accounts are listed
folder=${0%/*}

# Seconds that another program may hold the lock of iptables.
patience=30

# The tables as nft reads them, which are those of the plan, and how many rules each has.
table_fishnet() {
  cat <<END
table inet fishnet {
	set locked {
		type uid
	}

	set subordinate {
		type uid
		flags interval
	}

	chain jail {
		oif "lo" tcp flags syn reset tcp option mptcp
		oif "lo" meta l4proto sctp drop
		oif "lo" accept
		meta l4proto tcp reject with tcp reset
		reject with icmpx admin-prohibited
	}

	chain out {
		type filter hook output priority filter - 10; policy accept;
		meta skuid @locked goto jail
		meta skuid >= 65536 meta skuid @subordinate goto jail
	}

	chain post {
		type filter hook postrouting priority srcnat + 10; policy accept;
		oif "lo" accept
		meta skuid @locked drop
		meta skuid >= 65536 meta skuid @subordinate drop
	}
}
END
}
rules_in_fishnet=10

table_fishnet_loopback() {
  cat <<END
table inet fishnet_loopback {
	set narrowed {
		type uid
		flags interval
	}

	set allowed {
		type uid . inet_service
	}

	set allowed_subordinate {
		type uid . inet_service
		flags interval
	}

	chain out {
		type filter hook output priority filter - 10; policy accept;
		oif != "lo" accept
		meta skuid != @narrowed accept
		ct direction reply accept
		meta skuid . tcp dport @allowed accept
		meta skuid . tcp dport @allowed_subordinate accept
		meta l4proto tcp reject with tcp reset
		reject with icmpx admin-prohibited
	}
}
END
}
rules_in_fishnet_loopback=7

# The rules of iptables, as iptables lists them. Each goes on top of its chain. $1: the uid, or the range of uids.
mangle_rules() {
  rule POSTROUTING "! -o lo -m owner --uid-owner $1 -m comment --comment ${quote}fishnet:$name$quote -j DROP"
  rule OUTPUT "-o lo -p tcp -m owner --uid-owner $1 -m tcp --tcp-flags SYN SYN -j TCPOPTSTRIP --strip-options 30"
  rule OUTPUT "-p sctp -m owner --uid-owner $1 -j DROP"
}
loopback_rules() {
  rule OUTPUT "-o lo -p tcp -m owner --uid-owner $1 -m multiport ! --dports $commas -j fishnet"
  rule OUTPUT "-o lo ! -p tcp -m owner --uid-owner $1 -j fishnet"
}
last_rule() {
  rule OUTPUT "! -o lo -m owner --uid-owner $1 -j REJECT --reject-with $unreachable"
}
# The chain that loopback_rules lead to.
loopback_chain() {
  chain="-A fishnet -m conntrack --ctdir REPLY -j RETURN
-A fishnet -p tcp -j REJECT --reject-with tcp-reset
-A fishnet -j REJECT --reject-with $unreachable"
}

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

# Sets $ranges to the subordinate uids of the account, FIRST-LAST each, out of /etc/subuid, which has lines
# NAME:FIRST:COUNT and UID:FIRST:COUNT. A line that is none of these is said, and hides no other.
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
      case " $ranges " in
        *" $first-$((first + count - 1)) "*) ;;
        *) ranges="$ranges $first-$((first + count - 1))" ;;
      esac
    else
      say "cannot read this line of /etc/subuid: $line"
    fi
  done </etc/subuid
}

# ip: all that is to be locked, of every account, where no rule has it yet. $1: the family.
routing_rules() {
  rules=$(ip -"$1" rule show) || { say "cannot list the routing rules of IPv$1"; return; }
  for range in $(merged "$wanted"); do
    if has_routing_rule "${range%-*}" "${range#*-}"; then continue; fi
    ip -"$1" rule add pref 77 uidrange "$range" prohibit protocol kernel || say "IPv$1: no routing rule for $range"
  done
}

# A rule that holds more uids counts as well.
has_routing_rule() {
  while read -r preference from all uidrange held prohibit rest; do
    [ "$preference $from $all $uidrange $prohibit" = "77: from all uidrange prohibit" ] || continue
    case $rest in
      "" | "proto "*) ;;
      *) continue ;;
    esac
    if [ "${held%-*}" -le "$1" ] && [ "${held#*-}" -ge "$2" ]; then return 0; fi
  done <<END
$rules
END
  return 1
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

# Both families at once.
lock_with_iptables() {
  (
    lock_family iptables icmp-port-unreachable
    exit "$failed"
  ) &
  job=$!
  [ "$families" = 4 ] || lock_family ip6tables icmp6-port-unreachable
  wait $job || failed=1
}

# The tables of one family: first that where packets leave.
lock_family() {
  tool=$1 unreachable=$2
  if list mangle; then
    for owner in $owners; do mangle_rules "$owner"; done
    change_rules
  fi
  if list filter; then
    if [ -n "$commas" ]; then
      loopback_chain
      make_chain
      for owner in $owners; do loopback_rules "$owner"; done
    fi
    last_rule "$uid"
    change_rules
  fi
}

# Sets $listed to the rules of a table. A list that cannot be had is no empty list.
list() {
  table=$1 changes=""
  listed=$($tool -w $patience -t "$table" -S) && return
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
  changes=$changes${changes:+$newline}$change
}

# The same for the chain of ours, which is made anew where it is not as it has to be.
make_chain() {
  found=
  while IFS= read -r line; do
    case $line in
      "-A fishnet "*) found=$found${found:+$newline}$line ;;
    esac
  done <<END
$listed
END
  [ "$found" = "$chain" ] || changes=":fishnet - [0:0]$newline$chain"
}

# Does what was noted: all of it at once, or else, since half a lock is better than none, each by itself.
change_rules() {
  if [ -z "$changes" ] || restore "$changes"; then return; fi
  while IFS= read -r change; do
    restore "$change" || say "$tool did not take: $change"
  done <<END
$changes
END
}

restore() {
  "$tool-restore" -w $patience --noflush <<END
*$table
$1
COMMIT
END
}

lock_with_nftables() {
  if read_table fishnet $rules_in_fishnet; then
    nft_element locked "$uid-$uid"
    for range in $ranges; do
      if [ "${range%-*}" -lt 65536 ]; then say "subordinate uids below 65536 need --backend iptables: $name has $range"; fi
      nft_element subordinate "$range"
    done
    change_table
  fi
  if [ -z "$ports" ] || ! read_table fishnet_loopback $rules_in_fishnet_loopback; then return; fi
  for port in $ports; do nft_element allowed "$uid-$uid" "$port"; done
  for range in $ranges; do
    for port in $ports; do nft_element allowed_subordinate "$range" "$port"; done
  done
  for range in "$uid-$uid" $ranges; do nft_element narrowed "$range"; done
  change_table
}

# Reads a table of ours, and notes what has to be done: to make it, or its rules again; what is in its sets stays.
# $1: its name, $2: how many rules it has.
read_table() {
  table=$1 changes="" listed="" elements="" noted="" set=""
  tables=$newline$(nft list tables)$newline || { say "nft cannot list the tables"; return 1; }
  case $tables in
    *"${newline}table inet $1$newline"*) ;;
    *)
      changes=$(table_"$1")
      return
      ;;
  esac
  listed=$(nft list table inet "$1") || { say "nft cannot list the table inet $1"; return 1; }
  rules=0
  while IFS= read -r line; do
    case $line in
      *comment*) ;;
      *"flags dormant"*) rules=-99 ;;
      *@* | *"reject with"* | *"reset tcp option"* | *accept | *drop) rules=$((rules + 1)) ;;
    esac
  done <<END
$listed
END
  [ $rules -eq "$2" ] || changes="flush table inet $1$newline$(table_"$1")"
}

# Notes those parts of the range $2 that are not in the set $1 yet; $3 is the port that stands beside them, if any.
# An interval set takes no two elements with a uid in common.
nft_element() {
  [ "$set" = "$1" ] || noted=
  set=$1 parts=$2 port=${3:+ . $3}
  held=${listed#*"set $set {"}
  if [ "$held" = "$listed" ]; then held=; fi
  held="${held%%"$newline$tab}"*} $noted "
  print "$2"
  case $held in
    *" $word$port comment "*) return ;;
  esac
  # shellcheck disable=SC2086 # words
  set -- $held
  while [ $# -gt 0 ]; do
    element=${1%,} beside=
    if [ "${2-}" = . ]; then beside=" . ${3%,}"; fi
    shift
    case $element$beside in
      [0-9]*"$port") cut ;;
    esac
    if [ -n "$beside" ]; then shift 2; fi
  done
  for part in $parts; do
    print "$part"
    elements="$elements${elements:+$newline}add element inet $table $set { $word$port comment $quote$name$quote }"
    noted="$noted $word$port comment"
  done
}

# Cuts what $element has out of $parts.
cut() {
  [ "$beside" = "$port" ] || return
  rest="" from=${element%-*} to=${element#*-}
  for part in $parts; do
    low=${part%-*} high=${part#*-}
    if [ "$to" -lt "$low" ] || [ "$from" -gt "$high" ]; then
      rest="$rest $part"
      continue
    fi
    if [ "$from" -gt "$low" ]; then rest="$rest $low-$((from - 1))"; fi
    if [ "$to" -lt "$high" ]; then rest="$rest $((to + 1))-$high"; fi
  done
  parts=$rest
}

# Does what was noted: all of it at once, or else the table, and then each element by itself.
change_table() {
  if [ -z "$changes$elements" ] || feed_nft "$changes$newline$elements"; then return; fi
  if [ -n "$changes" ]; then feed_nft "$changes" || say "nft took no table inet $table"; fi
  while IFS= read -r line; do
    feed_nft "$line" || say "nft did not take: $line"
  done <<END
$elements
END
}

feed_nft() {
  nft -f - <<END
$1
END
}

# Reads the account of one file.
read_account() {
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
    "" | *[!A-Za-z0-9_-]*) say "$1 names no account"; return 1 ;;
  esac
  case $ports in
    *[!0-9" "]*) say "$1 has ports that are no numbers"; return 1 ;;
  esac
  if ! is_uid "$uid" || [ "$uid" -eq 0 ]; then say "$1 is of no uid that can be locked"; return 1; fi
  for port in $ports; do commas=$commas${commas:+,}$port; done
  read_ranges
  owners=$uid
  for range in $ranges; do
    print "$range"
    owners="$owners $word"
  done
  for range in "$uid-$uid" $ranges; do wanted=$wanted${wanted:+$newline}$range; done
}

lock_account() {
  case $backend in
    iptables) lock_with_iptables ;;
    nftables) lock_with_nftables ;;
    *) say "$1 names no backend" ;;
  esac
}

# Reads every account, and does $1 with each, whether or not another failed.
for_each_account() {
  wanted=
  set +f
  set -- "$1" "$folder"/*.account
  set -f
  action=$1
  shift
  for file; do
    if [ -e "$file" ] && read_account "$file"; then $action "$file"; fi
  done
}

# One look at all of them; no other run of this, nor of the program, at a time.
look() (
  lock=/etc/sudoers
  [ -e $lock ] || lock=/root
  exec 9<$lock
  flock 9 || { say "cannot get the lock $lock"; exit 1; }
  failed=0 families="4 6"
  # A kernel without IPv6 has none to lock; one that has not loaded it yet does so now.
  [ -e /proc/net/if_inet6 ] || modprobe -q ipv6
  [ -e /proc/net/if_inet6 ] || families=4
  for_each_account lock_account
  if [ -n "$wanted" ]; then
    for family in $families; do routing_rules "$family"; done
  fi
  exit $failed
)

# Until the machine is off: a table that nobody else can flush, and a look whenever nft tells of a change, whoever made
# it, and once in a while, since more may happen than is told. Of changes by iptables-legacy nothing tells: then it looks
# every second. When it ends, systemd starts it again.
watch() {
  pause=60
  case $(iptables --version 2>&1) in
    *legacy*) pause=1 ;;
  esac
  command -v nft >/dev/null || pause=1
  while look || :; do sleep $pause; done &
  if ! command -v nft >/dev/null; then
    systemd-notify --ready
    wait
    return
  fi
  guard
  listen
}

# A table with "flags owner" (Linux 5.12) is its own process alone to change: "nft flush ruleset" leaves it. It goes with
# that process. Its name is never the same, since a list of all tables that somebody loads again would fail at it.
guard() {
  for_each_account :
  [ -n "$wanted" ] || return 0
  guard=fishnet_guard_$(date +%s)_$$ elements=
  for range in $(merged "$wanted"); do
    print "$range"
    elements=$elements${elements:+, }$word
  done
  # With its input open, nft stays; HOME is where it would note what it was told.
  {
    echo "add table inet $guard { flags owner; }"
    echo "add set inet $guard locked { type uid; flags interval; elements = { $elements }; }"
    echo "add chain inet $guard post { type filter hook postrouting priority srcnat + 20; }"
    echo "add rule inet $guard post oif != lo meta skuid @locked drop"
    exec sleep infinity
  } | HOME=/nonexistent nft -i >/dev/null &
  tries=0
  while [ $tries -lt 20 ] && ! nft list chain inet "$guard" post 2>/dev/null | grep -q drop; do
    sleep 0.05
    tries=$((tries + 1))
  done
}

# Says that it is ready when an event of its own has come: from then on it misses none, and other firewalls may start.
listen() {
  while nft "add table inet fishnet_ready; delete table inet fishnet_ready"; do sleep 0.1; done &
  poke=$!
  nft monitor | grep --line-buffered "^# new generation" | {
    read -r _
    kill $poke
    systemd-notify --ready
    look
    while read -r _; do look; done
  }
  say "nft monitor has ended"
  exit 1
}

case ${1-} in
  "") look ;;
  watch) watch ;;
  *)
    say "usage: lock.sh [watch]"
    exit 2
    ;;
esac

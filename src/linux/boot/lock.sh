#!/bin/sh
# Puts the lock of every account in force that fishnet firewall enable --persist has left a file of:
#   /etc/fishnet-firewall/UID.account
# The units fishnet-*.service run it, as root: at boot, and whenever another firewall starts, reloads or stops.
# What is in force already stays as it is. With "watch" it looks again and again for a while: see watch, below.
# It holds no single quote and no backslash, so that a person can print it with echo.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 077
set -f # no word here is ever a pattern for file names, except where accounts are listed
folder=${0%/*}

# Seconds that another program may hold the lock of iptables.
patience=30

# The chains as nft reads them; the same text as in the plan.
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
fishnet_rules=10

table_fishnet_loopback() {
  cat <<END
table inet fishnet_loopback {
	set narrowed {
		type uid
		flags interval
	}

	set allowed {
		type uid . inet_service
		flags interval
	}

	chain out {
		type filter hook output priority filter - 10; policy accept;
		oif != "lo" accept
		meta skuid != @narrowed accept
		ct direction reply accept
		meta skuid . tcp dport @allowed accept
		meta l4proto tcp reject with tcp reset
		reject with icmpx admin-prohibited
	}
}
END
}
fishnet_loopback_rules=6

# The rules of iptables, as iptables lists them: rule FAMILY TABLE CHAIN RULE. Each goes on top of its chain.
# $1: the family, $2: the uid or the range of uids.
mangle_rules() {
  rule "$1" mangle POSTROUTING "! -o lo -m owner --uid-owner $2 -m comment --comment ${quote}fishnet:$name$quote -j DROP"
  rule "$1" mangle OUTPUT "-o lo -p tcp -m owner --uid-owner $2 -m tcp --tcp-flags SYN SYN -j TCPOPTSTRIP --strip-options 30"
  rule "$1" mangle OUTPUT "-p sctp -m owner --uid-owner $2 -j DROP"
}
loopback_rules() {
  rule "$1" filter OUTPUT "-o lo -p tcp -m owner --uid-owner $2 -m multiport ! --dports $commas -j fishnet"
  rule "$1" filter OUTPUT "-o lo ! -p tcp -m owner --uid-owner $2 -j fishnet"
}
last_rule() {
  rule "$1" filter OUTPUT "! -o lo -m owner --uid-owner $2 -j REJECT --reject-with $(unreachable "$1")"
}
# The chain that loopback_rules lead to.
loopback_chain() {
  echo "-A fishnet -m conntrack --ctdir REPLY -j RETURN
-A fishnet -p tcp -j REJECT --reject-with tcp-reset
-A fishnet -j REJECT --reject-with $(unreachable "$1")"
}

quote=$(
  cat <<END
"
END
)

unreachable() {
  if [ "$1" = 6 ]; then echo icmp6-port-unreachable; else echo icmp-port-unreachable; fi
}

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

# The range of $1 to $2 as every tool prints it: one uid alone is itself.
printed() {
  if [ "$1" = "$2" ]; then echo "$1"; else echo "$1-$2"; fi
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

# Prints the ranges of standard input, FIRST-LAST in each line, in order, and what overlaps or adjoins as one.
merged() {
  low="" high=""
  sort -n | {
    while IFS=- read -r first last; do
      if [ -n "$low" ] && [ "$first" -le $((high + 1)) ]; then
        if [ "$last" -gt "$high" ]; then high=$last; fi
      else
        [ -z "$low" ] || echo "$low-$high"
        low=$first high=$last
      fi
    done
    [ -z "$low" ] || echo "$low-$high"
  }
}

# ip: all that is to be locked, of every account, where no rule has it yet. $1: the family.
routing_rules() {
  rules=$(ip -"$1" rule show) || { say "cannot list the routing rules of IPv$1"; return; }
  for range in $(echo "$wanted" | merged); do
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

# iptables: sets $mangle and $filter to what the chains of a family hold. A list that cannot be had is no empty list.
list_tables() {
  tool=iptables
  [ "$1" = 4 ] || tool=ip6tables
  mangle=$($tool -w $patience -t mangle -S) && filter=$($tool -w $patience -t filter -S) && return
  say "$tool cannot list its tables: see what it says above; rules of its own that nft has changed have to go first"
  return 1
}

# Notes what has to be done for one rule. It is in force where it stands and nothing above it can let a packet go.
# One that others have come before is moved to the top, in one transaction.
rule() {
  if [ "$2" = mangle ]; then listed=$mangle; else listed=$filter; fi
  first=yes change="
-I $3 1 $4"
  while IFS= read -r line; do
    case $line in
      "-A $3 $4")
        [ "$first" = no ] || return 0
        change="
-D $3 $4$change"
        break
        ;;
      "-A $3 "*" -j DROP" | "-A $3 "*" -j REJECT "* | "-A $3 "*" -j TCPOPTSTRIP "* | "-A $3 "*" -j fishnet") ;;
      "-A $3 "*) first=no ;;
    esac
  done <<END
$listed
END
  if [ "$2" = mangle ]; then for_mangle=$for_mangle$change; else for_filter=$for_filter$change; fi
}

# The same for the chain of ours: made anew, in one transaction, where it is not as it has to be.
chain() {
  found=
  while IFS= read -r line; do
    case $line in
      "-A fishnet "*)
        found="$found
$line"
        ;;
    esac
  done <<END
$filter
END
  [ "$found" = "
$(loopback_chain "$1")" ] || for_filter="
:fishnet - [0:0]
$(loopback_chain "$1")$for_filter"
}

# Does what was noted: all of it at once, or else, since half a lock is better than none, each by itself.
change_rules() {
  if [ -z "$for_mangle$for_filter" ]; then return; fi
  if { section mangle "$for_mangle" && section filter "$for_filter"; } | restore; then return; fi
  for table in mangle filter; do
    if [ $table = mangle ]; then changes=$for_mangle; else changes=$for_filter; fi
    while IFS= read -r change; do
      section $table "$change" | restore || say "$tool did not take: $change"
    done <<END
$changes
END
  done
}

section() {
  if [ -n "$2" ]; then
    echo "*$1
$2
COMMIT"
  fi
}

restore() {
  $tool-restore -w $patience --noflush
}

lock_with_iptables() {
  for family in $families; do
    list_tables "$family" || continue
    for_mangle="" for_filter=""
    for owner in "$uid" $ranges; do mangle_rules "$family" "$(printed "${owner%-*}" "${owner#*-}")"; done
    if [ -n "$commas" ]; then
      chain "$family"
      for owner in "$uid" $ranges; do loopback_rules "$family" "$(printed "${owner%-*}" "${owner#*-}")"; done
    fi
    last_rule "$family" "$uid"
    change_rules
  done
}

# A line of a chain that is a rule of ours, whichever way a version of nft prints it.
rules_of_ours="@|reject with|reset tcp option|(accept|drop)$"

# nft: makes a table of ours, or its rules again; what is in its sets stays. $1: its name, $2: how many rules it has.
nft_table() {
  tables=$(nft list tables) || { say "nft cannot list the tables"; return 1; }
  flush=
  case "$tables
" in
    *"table inet $1
"*)
      listed=$(nft -t list table inet "$1") || { say "nft cannot list the table inet $1"; return 1; }
      case $listed in
        *"flags dormant"*) ;;
        *)
          [ "$(echo "$listed" | grep -cE "$rules_of_ours")" != "$2" ] || return 0
          ;;
      esac
      flush="flush table inet $1"
      ;;
  esac
  nft -f - <<END || { say "nft took no table inet $1"; return 1; }
$flush
$(table_"$1")
END
}

# Sets $missing to the parts of $1-$2 that are in no element of a set: $3 $4 are its table and its name, $5 the port
# that stands beside the uids, if any. An interval set takes no two elements with a uid in common.
missing_of() {
  missing=
  next=$1 end=$2 port=$5
  listed=$(nft list set inet "$3" "$4") || { say "nft cannot list the set $4 of inet $3"; return 1; }
  case $listed in
    *" $(printed "$1" "$2")${5:+ . $5} comment "*) return 0 ;;
  esac
  # shellcheck disable=SC2086 # words
  set -- $listed
  while [ $# -gt 0 ] && [ "$next" -le "$end" ]; do
    element=${1%,} beside=
    if [ "${2-}" = . ]; then beside=${3%,}; fi
    shift
    case $element in
      [0-9]*) ;;
      *) continue ;;
    esac
    if [ -n "$beside" ]; then shift 2; fi
    [ "$beside" = "$port" ] || continue
    if [ "${element#*-}" -lt "$next" ] || [ "${element%-*}" -gt "$end" ]; then continue; fi
    if [ "${element%-*}" -gt "$next" ]; then missing="$missing $(printed "$next" $((${element%-*} - 1)))"; fi
    next=$((${element#*-} + 1))
  done
  if [ "$next" -le "$end" ]; then missing="$missing $(printed "$next" "$end")"; fi
}

# Puts $1-$2 into a set: the rest as above.
nft_element() {
  missing_of "$1" "$2" "$3" "$4" "$5" || return
  for part in $missing; do
    nft -f - <<END || say "nft took no element $part in the set $4 of inet $3"
add element inet $3 $4 { $part${5:+ . $5} comment "$name" }
END
  done
}

lock_with_nftables() {
  if nft_table fishnet $fishnet_rules; then
    nft_element "$uid" "$uid" fishnet locked ""
    for range in $ranges; do
      if [ "${range%-*}" -lt 65536 ]; then say "subordinate uids below 65536 need --backend iptables: $name has $range"; fi
      nft_element "${range%-*}" "${range#*-}" fishnet subordinate ""
    done
  fi
  [ -n "$ports" ] || return 0
  nft_table fishnet_loopback $fishnet_loopback_rules || return 0
  for owner in "$uid" $ranges; do
    for port in $ports; do nft_element "${owner%-*}" "${owner#*-}" fishnet_loopback allowed "$port"; done
    nft_element "${owner%-*}" "${owner#*-}" fishnet_loopback narrowed ""
  done
}

# Locks the account of one file.
lock_account() {
  uid=${1##*/} name="" backend="" ports=""
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
  commas=
  for port in $ports; do commas=$commas${commas:+,}$port; done
  read_ranges
  for owner in "$uid-$uid" $ranges; do
    wanted="$wanted${wanted:+
}$owner"
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
  [ -e /proc/net/if_inet6 ] || modprobe -q ipv6
  [ -e /proc/net/if_inet6 ] || families=4
  set +f
  set -- "$folder"/*.account
  set -f
  for file; do
    if [ -e "$file" ]; then lock_account "$file"; fi
  done
  if [ -n "$wanted" ]; then
    for family in $families; do routing_rules "$family"; done
  fi
  exit $failed
)

others="nftables ufw firewalld netfilter-persistent iptables ip6tables"

is_active() {
  systemctl --quiet is-active "$1.service"
}

# Looks whenever nft tells of a change, and every 0.1 s for 5 s, as iptables-legacy tells of none, and firewalld says that
# it has started before it flushes; then every second for half a minute, and on as long as firewalld runs: nothing else
# hears firewall-cmd --reload. Other firewalls that run already get the unit that hears of their reload and their stop.
watch() {
  for other in $others; do
    if is_active "$other"; then systemctl --no-block start "fishnet-beside@$other.service"; fi
  done
  # It ends with the unit.
  nft monitor | grep --line-buffered "^# new generation" | while read -r _; do look; done &
  pause=0.1 looks=0
  while [ $looks -lt 75 ] || is_active firewalld; do
    look
    looks=$((looks + 1))
    case $looks in
      50) pause=1 ;;
      75) pause=10 ;;
    esac
    sleep $pause
  done
}

case ${1-} in
  "") look ;;
  watch) watch ;;
  *)
    say "usage: lock.sh [watch]"
    exit 2
    ;;
esac

#!/bin/sh
# Puts the lock of every account in force that fishnet firewall enable --persist has left a file of:
#   /etc/fishnet-firewall/UID.account
# The units fishnet-*.service run it, as root: at boot, and whenever another firewall starts, reloads or stops; with
# "watch" it stays for a while. What is in force already stays as it is.
# It holds no single quote and no backslash, so that a person can print it with echo.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 077
set -f # no word here is ever a pattern for file names, except in accounts
folder=${0%/*}
newline="
"
read -r quote <<END
"
END

# Says what failed, and fails.
say() {
  echo "fishnet: $*" >&2
  failed=1
  return 1
}

# Whether it is a number in plain decimals that a uid can be.
is_uid() {
  case $1 in "" | *[!0-9]* | 0?* | ???????????*) return 1 ;; esac
  [ "$1" -le 4294967294 ]
}

# A range of uids is FIRST-LAST, or one uid alone, as every tool prints it. Adds that from $1 to $2, if any, to $sum.
add() {
  if [ "$1" -eq "$2" ]; then sum="$sum $1"; elif [ "$1" -lt "$2" ]; then sum="$sum $1-$2"; fi
}

# Cuts the range $1 out of the ranges $parts.
cut() {
  sum=""
  for part in $parts; do
    first=${part%-*} last=${part#*-}
    add "$first" $((last < ${1%-*} ? last : ${1%-*} - 1))
    add $((first > ${1#*-} ? first : ${1#*-} + 1)) "$last"
  done
  parts=$sum
}

# Sets $parts to the ranges of $wanted in order, and what overlaps or adjoins as one.
merge() {
  sum="" low=0 high=-1
  for part in $(echo "$wanted" | sort -n); do
    if [ "${part%-*}" -gt $((high + 1)) ]; then
      add "$low" "$high"
      low=${part%-*} high=${part#*-}
    elif [ "${part#*-}" -gt "$high" ]; then
      high=${part#*-}
    fi
  done
  add "$low" "$high"
  parts=$sum
}

# Sets $others to the uids of all accounts, and $high to those among which subordinate uids are.
read_others() {
  others="" high=""
  while IFS=: read -r _ _ other _ || [ -n "$other" ]; do
    is_uid "$other" || continue
    others="$others $other"
    [ "$other" -lt 65536 ] || high="$high $other"
  done </etc/passwd
}

# Cuts root and other accounts out of the range $parts, which the program would refuse to lock.
spare_others() {
  spared="" range=$parts
  if [ "${range%-*}" -lt 65536 ]; then among=$others; else among=$high; fi
  for other in $among; do
    if [ "$other" -eq "$uid" ] || [ "$other" -lt "${range%-*}" ] || [ "$other" -gt "${range#*-}" ]; then continue; fi
    cut "$other"
    spared="$spared $other"
  done
  [ -z "$spared" ] || say "not locked, of the subordinate uids $range of $name, those of accounts:$spared"
}

# Sets $ranges to the subordinate uids of one account, each uid once, out of /etc/subuid, which has lines
# NAME:FIRST:COUNT and UID:FIRST:COUNT. A line that is none of these is said, and hides no other.
read_ranges() {
  ranges=""
  [ -e /etc/subuid ] || return 0
  while IFS=: read -r whose first count || [ -n "$whose" ]; do
    if [ "$whose" != "$name" ] && [ "$whose" != "$uid" ]; then continue; fi
    if is_uid "$first" && is_uid "$count" && [ "$count" -gt 0 ] && is_uid $((first + count - 1)); then
      parts=$first-$((first + count - 1))
      spare_others
      for range in "$uid" $ranges; do cut "$range"; done
      ranges="$ranges$parts"
    else
      say "cannot read this line of /etc/subuid: $whose:$first:$count"
    fi
  done </etc/subuid
}

# ip: all that is to be locked, of every account, where no rule has it yet. $1: the family.
routing_rules() {
  rules=$(ip -"$1" rule show) || { say "cannot list the routing rules of IPv$1"; return; }
  merge
  while read -r preference from all uidrange range prohibit rest; do
    case "$preference $from $all $uidrange $prohibit $rest" in
      "77: from all uidrange prohibit " | "77: from all uidrange prohibit proto "*) cut "$range" ;;
    esac
  done <<END
$rules
END
  for part in $parts; do
    ip -"$1" rule add pref 77 uidrange "${part%-*}-${part#*-}" prohibit protocol kernel ||
      say "IPv$1: no routing rule for $part"
  done
}

# Does what $changes says, by $1: all of it at once, or else, since half a lock is better than none, each by itself.
change() {
  if [ -z "$changes" ] || $1 "$changes"; then return; fi
  while IFS= read -r line; do
    $1 "$line" || say "$tool did not take: $line"
  done <<END
$changes
END
}
restore() { echo "*$table$newline$1${newline}COMMIT" | "$tool-restore" -w 30 --noflush; }
feed_nft() { echo "$1" | nft -f -; }
# Notes to make our chain anew where it does not hold the rules $1 alone.
own_chain() { [ "$(echo "$listed" | grep "^-A fishnet ")" = "$1" ] || changes=":fishnet - [0:0]$newline$1"; }

# The tables of the family $1: first that where packets leave. Each rule is as iptables lists it, and goes on top of
# its chain.
lock_family() {
  foreign="-A fishnet -m addrtype ! --src-type LOCAL -j DROP$newline"
  if [ "$1" = 4 ]; then tool=iptables icmp=icmp except=""; else
    tool=ip6tables icmp=icmp6 except="! -d fe80::/10 "
    foreign="$foreign-A fishnet ! -s ::1/128 -d ::1/128 -j DROP$newline-A fishnet -s fe80::/10 -o lo -j DROP$newline"
    foreign="$foreign-A fishnet -d fe80::/10 -o lo -j DROP$newline"
  fi
  if list mangle; then
    own_chain "$foreign-A fishnet -p sctp -j DROP
-A fishnet -p tcp -m tcp --tcp-flags SYN SYN -j TCPOPTSTRIP --strip-options 30"
    rule POSTROUTING "$except! -o lo -m owner ! --uid-owner 0-65535 -m addrtype --dst-type LOCAL -j DROP"
    if [ "$1" = 6 ]; then
      rule POSTROUTING "-o lo -m owner ! --uid-owner 0-65535 -m addrtype ! --src-type LOCAL -j DROP"
      rule POSTROUTING "! -o lo -p ipv6-icmp -m icmp6 --icmpv6-type 3/1 -m addrtype --src-type LOCAL -j DROP"
      [ -z "$commas" ] || rule INPUT "! -i lo ! -p tcp -m addrtype --src-type LOCAL --dst-type LOCAL -j DROP"
    fi
    for range in $uid $ranges; do
      owner="-m owner --uid-owner $range"
      drop="! -o lo $owner -m comment --comment ${quote}fishnet:$name$quote -j DROP"
      rule POSTROUTING "$drop"
      [ "$1" = 6 ] || [ "$range" = "$uid" ] || rule OUTPUT "-d 224.0.0.0/4 $drop"
      if [ "$1" = 4 ]; then rule POSTROUTING "-o lo $owner -j fishnet"; else rule OUTPUT "$owner -j fishnet"; fi
    done
    change restore
  fi
  list filter || return
  if [ -n "$commas" ]; then
    own_chain "$foreign-A fishnet -p tcp -m tcp --tcp-flags SYN,ACK SYN -j REJECT --reject-with tcp-reset
-A fishnet -m conntrack --ctdir REPLY -j RETURN
-A fishnet -p tcp -j REJECT --reject-with tcp-reset
-A fishnet -j REJECT --reject-with $icmp-port-unreachable"
    for range in $uid $ranges; do
      owner="-m owner --uid-owner $range"
      rule OUTPUT "-o lo -p tcp $owner -m multiport ! --dports $commas -j fishnet"
      rule OUTPUT "! -p tcp $owner -j fishnet"
    done
  fi
  rule OUTPUT "! -o lo -m owner --uid-owner $uid -j REJECT --reject-with $icmp-port-unreachable"
  change restore
}

# Sets $listed to the rules of a table. A list that cannot be had is no empty list.
list() {
  table=$1 changes=""
  listed=$($tool -w 30 -t "$table" -S) ||
    say "$tool cannot list its table $table: if it is incompatible, nft has put rules there, which only nft can remove"
}

# Notes what has to be done for one rule. It is in force where it stands and nothing above it can let a packet go.
# One that others have come before is moved to the top, in one transaction.
rule() {
  while IFS= read -r line; do
    case $line in
      "-A $1 $2") return ;;
      "-A $1 "*" -j DROP" | "-A $1 "*" -j REJECT "* | "-A $1 "*" -j fishnet") ;;
      "-A $1 "*) break ;;
    esac
  done <<END
$listed
END
  case $listed$newline in *"$newline-A $1 $2$newline"*) changes="$changes$newline-D $1 $2" ;; esac
  changes="$changes$newline-I $1 1 $2"
}

lock_with_nftables() {
  tool=nft
  if read_table fishnet; then
    element locked "$uid"
    for range in $ranges; do
      [ "${range%-*}" -ge 65536 ] || say "subordinate uids below 65536 need --backend iptables: $name has $range"
      element subordinate "$range"
    done
    change feed_nft
  fi
  if [ -z "$ports" ] || ! read_table fishnet_loopback; then return; fi
  for port in $ports; do
    element allowed "$uid" "$port"
    for range in $ranges; do element allowed_subordinate "$range" "$port"; done
  done
  for range in $uid $ranges; do element narrowed "$range"; done
  change feed_nft
}

# Sets $listed to the table $1, and notes to make it, or its rules again; what is in its sets stays.
read_table() {
  table=$1 changes="include $quote$folder/$1.nft$quote"
  if listed=$(nft list table inet "$1" 2>&1); then
    # Where a chain hangs nft changes of none that is there.
    while read -r key value hook; do
      case "$key $value" in
        "chain "*) hung=$value ;;
        "type filter")
          case $listed in
            *"$key $value $hook"*) ;;
            *) changes="add chain inet $1 $hung; delete chain inet $1 $hung; $changes" ;;
          esac
          ;;
      esac
    done <"$folder/$1.nft"
    changes="flush table inet $1; $changes"
    return
  fi
  case $listed in
    *"No such file or directory"*) ;;
    *) say "nft cannot list the table inet $1: $listed" ;;
  esac
}

# Notes what of the range $2 is not in the set $1 yet, since no uid can be there twice. $3: the port beside it, if any.
element() {
  parts=$2 beside=${3:+. $3 } held=${listed#*"set $1 {"}
  if [ "$held" = "$listed" ]; then held=""; fi
  while read -r held_range rest; do
    if [ "$rest" = "${beside}comment" ]; then cut "$held_range"; fi
  done <<END
$(echo "${held%%"}"*}" | grep -oE "[0-9-]+( [.] [0-9]+)? comment")
END
  for part in $parts; do
    changes="$changes${newline}add element inet $table $1 { $part ${beside}comment $quote$name$quote }"
  done
}

# Prints the path of the file of each account.
accounts() ( set +f; echo "$folder"/*.account )

# Reads $file, of one account; fails where it is none that can be locked.
read_account() {
  [ -e "$file" ] || return
  uid=${file##*/}; uid=${uid%.account}
  { read -r name; read -r backend; read -r ports; } <"$file"
  name=${name#name=} backend=${backend#backend=} ports=${ports#ports=}
  case $name=$ports in
    =* | *[!A-Za-z0-9_-]*=*) say "$file names no account"; return 1 ;;
    *=*[!0-9" "]*) say "$file has ports that are no numbers"; return 1 ;;
  esac
  if ! is_uid "$uid" || [ "$uid" -eq 0 ]; then say "$file is of no uid that can be locked"; return 1; fi
  commas=$(echo "$ports" | tr " " ,)
  read_ranges
  for range in $uid $ranges; do wanted=$wanted$newline$range; done
}

# One look at all of them; no other run of this, nor of the program, at a time.
look() (
  lock=/etc/sudoers
  [ -e $lock ] || lock=/root
  exec 9<$lock
  flock 9 || { say "cannot get the lock $lock"; exit 1; }
  failed=0 families="4 6" wanted=""
  read_others
  # A kernel without IPv6 has none to lock; one that has not loaded it yet does so now.
  [ -e /proc/net/if_inet6 ] || { modprobe -q net-pf-10; [ -e /proc/net/if_inet6 ]; } || families=4
  for file in $(accounts); do
    read_account || continue
    case $backend in
      iptables) for family in $families; do lock_family "$family"; done ;;
      nftables) lock_with_nftables ;;
      *) say "$file names no backend" ;;
    esac
  done
  [ -z "$wanted" ] || for family in $families; do routing_rules "$family"; done
  exit $failed
)

# Prints, for nft, in one line, a table of what the accounts may not send; its process alone can take it away.
guard() {
  wanted="" limits="" own="oif lo meta skuid @held" table="table inet fishnet_guard { flags owner; }"
  read_others
  for file in $(accounts); do
    if ! read_account || [ -z "$commas" ]; then continue; fi
    owner="oif lo meta skuid { $(echo "$uid$ranges" | tr " " ,) }"
    limits="$limits $owner tcp flags syn tcp flags ! ack tcp dport != { $commas } drop;"
    owner="$owner ct direction original"
    limits="$limits $owner tcp dport != { $commas } drop; $owner meta l4proto != tcp drop;"
  done
  merge
  table="$table; delete ${table%% {*}; ${table%?} set held { type uid; flags interval;"
  table="$table elements = { $(echo "${parts# }" | tr " " ,) }; };"
  # A broadcast has been brought to this machine itself before postrouting.
  table="$table chain out { type filter hook output priority 200; oif != lo meta skuid @held drop; };"
  table="$table chain post { type filter hook postrouting priority 200; oif != lo meta skuid @held drop;"
  table="$table $own fib saddr type != local drop; $own ip6 saddr != ::1 ip6 daddr ::1 drop;"
  table="$table $own ip6 saddr fe80::/10 drop; $own ip6 daddr fe80::/10 drop;"
  table="$table $own meta l4proto sctp drop; $own tcp option mptcp exists drop; $limits"
  table="$table oif lo meta skuid <= 4294967294 accept; oif lo meta nfproto ipv6 fib saddr type != local drop;"
  table="$table oif lo accept; meta skuid <= 65535 accept; icmpv6 type time-exceeded icmpv6 code 1"
  echo "$table fib saddr type local drop; ip6 daddr fe80::/10 accept; fib daddr type local drop; }; }"
}

# From before another firewall starts, reloads or stops, for 40 s: whatever it flushes, the guard holds, and what was
# flushed is put back. It goes on while firewalld runs beside rules of iptables: nobody hears firewall-cmd --reload.
watch() {
  age=0 tries=0 last=$(guard)
  echo "$last"
  # Not every kernel has such tables, and not every nft reads commands: then there is only haste.
  until [ $tries -gt 20 ] || nft list table inet fishnet_guard >/dev/null 2>&1; do
    tries=$((tries + 1))
    sleep 0.1
  done
  systemd-notify --ready
  read -r start _ </proc/uptime
  while [ $age -lt 40 ] || {
    grep -rqsx --include=*.account backend=iptables "$folder" && systemctl --quiet is-active firewalld
  }; do
    look >&2
    case "$tries $age" in
      "21 "[0-4]) sleep 0.1 ;;
      *" "?) sleep 1 ;;
      *" "[0-3]?) sleep 3 ;;
      *) sleep 10 ;;
    esac
    new=$(guard)
    if [ "$new" != "$last" ]; then last=$new; echo "$new"; fi
    read -r now _ </proc/uptime
    age=$((${now%.*} - ${start%.*}))
  done
}

if [ "${1-}" = watch ]; then watch | { nft -i; cat; } >/dev/null; else look; fi

#!/bin/sh
# Puts the lock of every account in force that fishnet firewall enable --persist has left a file of:
#   /etc/fishnet-firewall/UID.account
# The units fishnet-*.service run it, as root: at boot, and whenever another firewall starts, reloads or stops; with
# "watch" it stays for a while. What is in force already stays as it is.
# It holds no single quote and no backslash, so that a person can print it with echo.

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

# Sets $ranges to the subordinate uids of one account, FIRST-LAST each and each uid once, out of /etc/subuid, which has
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
  parts=$(merged)
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

# Prints the ranges of $wanted in order, and what overlaps or adjoins as one.
merged() {
  echo "$wanted" | sort -n | {
    IFS=- read -r low high
    while IFS=- read -r first last; do
      if [ "$first" -gt $((high + 1)) ]; then
        echo "$low-$high"
        low=$first high=$last
      elif [ "$last" -gt "$high" ]; then high=$last; fi
    done
    echo "$low-$high"
  }
}

# Notes one command of a transaction.
note() { changes=$changes${changes:+$newline}$1; }

# Does what was noted, by $1: all of it at once, or else, since half a lock is better than none, each by itself.
change() {
  if [ -z "$changes" ] || $1 "$changes"; then return; fi
  while IFS= read -r line; do
    $1 "$line" || say "$tool did not take: $line"
  done <<END
$changes
END
}

lock_with_iptables() {
  lock_family iptables icmp-port-unreachable
  [ "$families" = 4 ] || lock_family ip6tables icmp6-port-unreachable
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

restore() { echo "*$table$newline$1${newline}COMMIT" | "$tool-restore" -w 30 --noflush; }

lock_with_nftables() {
  tool=nft
  if read_table fishnet; then
    element locked "$uid-$uid"
    for one in $ranges; do
      if [ "${one%-*}" -lt 65536 ]; then say "subordinate uids below 65536 need --backend iptables: $name has $one"; fi
      element subordinate "$one"
    done
    change feed_nft
  fi
  if [ -z "$ports" ] || ! read_table fishnet_loopback; then return; fi
  for allowed in $ports; do element allowed "$uid-$uid" "$allowed"; done
  for one in $ranges; do
    for allowed in $ports; do element allowed_subordinate "$one" "$allowed"; done
  done
  for one in "$uid-$uid" $ranges; do element narrowed "$one"; done
  change feed_nft
}

# Sets $listed to the table $1, and notes to make it, or its rules again; what is in its sets stays.
read_table() {
  table=$1 changes="include $quote$folder/$1.nft$quote"
  if listed=$(nft list table inet "$1" 2>&1); then changes="flush table inet $1; $changes"; return; fi
  case $listed in
    *"No such file or directory"*) ;;
    *) say "nft cannot list the table inet $1: $listed"; return 1 ;;
  esac
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

feed_nft() { echo "$1" | nft -f -; }

# Reads $file, of one account; fails where it is none that can be locked.
read_account() {
  uid=${file##*/} name="" backend="" ports="" commas="" owners=""
  uid=${uid%.account}
  while IFS="=" read -r key value; do
    case $key in
      name) name=$value ;;
      backend) backend=$value ;;
      ports) ports=$value ;;
    esac
  done <"$file"
  case $name=$ports in
    =* | *[!A-Za-z0-9_-]*=*) say "$file names no account"; return 1 ;;
    *=*[!0-9" "]*) say "$file has ports that are no numbers"; return 1 ;;
  esac
  if ! is_uid "$uid" || [ "$uid" -eq 0 ]; then say "$file is of no uid that can be locked"; return 1; fi
  for port in $ports; do commas=$commas${commas:+,}$port; done
  read_ranges
  for range in $uid-$uid $ranges; do
    print "$range"
    owners="$owners${owners:+ }$word" wanted=$wanted${wanted:+$newline}$range
  done
}

# Does $1 for each account, whether or not another failed.
each_account() {
  set +f
  for file in "$folder"/*.account; do
    set -f
    if [ -e "$file" ] && read_account; then $1; fi
  done
}

lock_account() {
  case $backend in
    iptables | nftables) "lock_with_$backend" ;;
    *) say "$file names no backend" ;;
  esac
}

# One look at all of them; no other run of this, nor of the program, at a time.
look() (
  lock=/etc/sudoers
  [ -e $lock ] || lock=/root
  exec 9<$lock
  flock 9 || { say "cannot get the lock $lock"; exit 1; }
  failed=0 families="4 6" wanted=""
  # A kernel without IPv6 has none to lock; one that has not loaded it yet does so now.
  [ -e /proc/net/if_inet6 ] || { modprobe -q net-pf-10; [ -e /proc/net/if_inet6 ]; } || families=4
  each_account lock_account
  [ -z "$wanted" ] || for family in $families; do routing_rules "$family"; done
  exit $failed
)

# Prints, for nft, in one line, a table of what the accounts may not send; its process alone can take it away.
guard() {
  wanted="" limits="" table="table inet fishnet_guard { flags owner; }"
  each_account limit
  ranges=
  for part in $(merged); do
    print "$part"
    ranges="$ranges${ranges:+, }$word"
  done
  table="$table; delete ${table%% {*}; ${table%?} set held { type uid; flags interval; elements = { $ranges }; };"
  table="$table chain post { type filter hook postrouting priority 200; oif != lo meta skuid @held drop;"
  table="$table oif lo meta skuid @held meta l4proto sctp drop; oif lo meta skuid @held tcp option mptcp exists drop;"
  echo "$table $limits }; }"
}

# What its ports do not allow.
limit() {
  [ -n "$commas" ] || return 0
  for owner in $owners; do
    owner="oif lo ct direction original meta skuid $owner"
    limits="$limits $owner tcp dport != { $commas } drop; $owner meta l4proto != tcp drop;"
  done
}

# From before another firewall starts, reloads or stops, for 40 s: whatever it flushes, the guard holds, and what was
# flushed is put back. It goes on while firewalld runs beside rules of iptables: nobody hears firewall-cmd --reload.
watch() {
  age=0 tries=0 last=$(guard)
  echo "$last"
  # Not every kernel has such tables, and not every nft reads commands: then there is only haste.
  until [ $tries -gt 20 ] || nft list table inet fishnet_guard >/dev/null; do
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
    [ "$new" = "$last" ] || echo "$new"
    last=$new
    read -r now _ </proc/uptime
    age=$((${now%.*} - ${start%.*}))
  done
}

if [ "${1-}" = watch ]; then watch | { nft -i; cat; } >/dev/null; else look; fi

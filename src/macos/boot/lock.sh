#!/bin/sh
# Puts the locks of com.fishnet.localonly in force: at boot, where macOS loads /etc/pf.conf and leaves
# pf off, and again each minute, since other programs replace the running rules, or turn pf off.
anchor=com.fishnet.localonly
file=/etc/pf.anchors/$anchor
token=/var/db/fishnet.token
export PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C
umask 077
put() {
  cat <<end
$1
end
}
call=$(
  cat <<end
anchor "$anchor" all
end
)
if test ! -s $file; then
  echo "$file is gone: no account is locked; run enable again" >&2
  exit 1
fi

# Not while the program itself is at work: it holds this lock, and the next look is near.
exec 9</etc/sudoers
perl -MFcntl=:flock -e "open F, q(<&=9); exit(flock(F, LOCK_EX | LOCK_NB) ? 0 : 75)"
test $? -ne 75 || exit 0
errors=$(mktemp /var/run/fishnet.XXXXXX) || exit 1
# shellcheck disable=SC2317 # the trap calls it
clean() { rm -f "$errors"; }
trap clean EXIT

# Prints a list of rules. pfctl ends with 0 even where another program changed them meanwhile and the
# list is cut off: it is believed when two readings agree and neither says an error (DIOC…).
list() {
  first=$(pfctl "$@" -s rules 2>"$errors") || return 1
  second=$(pfctl "$@" -s rules 2>>"$errors") || return 1
  test "$first" = "$second" || return 1
  if grep -q DIOC "$errors"; then return 1; fi
  put "$first"
}

# The rules of all locked accounts, loaded where they differ: each load may make another program fail.
loaded() {
  wanted=$(pfctl -nv -a $anchor -f $file 2>/dev/null | grep "^block") || return 1
  test "$(list -a $anchor)" = "$wanted" || pfctl -a $anchor -f $file 2>/dev/null
}

# The call among the running rules, all of which stay: before all that filters, since nobody knows what
# others pass. -o none: the optimizer, which is on without it, fails under -R where two rules are alike,
# and then no rule is left and pfctl ends with 0.
called() {
  rules=$(list) || return 1
  if put "$rules" | grep -qxF "$call"; then return 0; fi
  scrub="^(no )?scrub"
  wanted=$(put "$rules" | grep -E "$scrub"; put "$call"; put "$rules" | grep -vE "$scrub")
  load "$wanted"
  if test "$(list)" = "$wanted"; then return 0; fi
  echo "pf did not take the running rules as they were: they are put back" >&2
  load "$rules"
  return 1
}
load() { put "$1" | pfctl -o none -R -f - 2>/dev/null; }

# A reference of our own keeps pf on. References end at a restart, and when somebody turns pf off.
referenced() {
  held=$(pfctl -s References 2>/dev/null)
  mine=$(sed -n "s/^Token : //p" $token 2>/dev/null)
  case $held in
  *" ${mine:-none} "*) return 0 ;;
  *TOKENS:* | *"No pf starter"*) ;;
  *) return 1 ;;
  esac
  pfctl -E >$token.new 2>&1
  grep -q "^Token : " $token.new && mv $token.new $token
}

# Others load rules at the same moment, at boot above all, and pf lets one in: then it is busy.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  if loaded && called && referenced; then exit 0; fi
  sleep 1
done
echo "pf could not be made to hold the locks; the next look is in a minute" >&2
exit 1

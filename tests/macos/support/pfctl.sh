#!/bin/sh
# The half of the stand-in for pfctl that shows (-s); the other half, which changes, is pfctl.py, and
# says what the files are. Shell, since a test makes many of these calls.
cd /var/lib/pf-stand-in || exit
case " $* " in
*" -s "*) ;;
*) exec /usr/sbin/pfctl.py "$@" ;;
esac
echo "$*" >>calls
printf 'No ALTQ support in kernel\nALTQ related functions disabled\n' >&2
if [ -s fail ]; then
  while read -r pattern; do
    case "$*" in
    *"$pattern"*)
      echo "pfctl: DIOCGETRULES: Device busy" >&2
      exit 0
      ;;
    esac
  done <fail
fi

# Prints a file, as cat does, which would be one more program to start.
show() {
  while IFS= read -r row; do printf '%s\n' "$row"; done <"$1"
}

# Prints a list; "cut" is how many of them are cut off by somebody's change.
list() {
  [ -e "$1" ] || return 0
  left=0
  [ ! -s cut ] || read -r left <cut
  if [ "$left" -gt 0 ] && [ -s "$1" ]; then
    echo $((left - 1)) >cut
    head -n $(($(wc -l <"$1") / 2)) "$1"
    echo "pfctl: DIOCGETRULE: Device busy" >&2
  else
    show "$1"
  fi
}

case "$*" in
"-s info")
  if [ -e enabled ]; then
    echo "Status: Enabled for 0 days 00:00:07           Debug: Urgent"
  else
    echo "Status: Disabled                              Debug: Urgent"
  fi
  ;;
"-s rules") list main ;;
"-s nat" | "-s dummynet") if [ -e "$2" ]; then show "$2"; fi ;;
"-a "*" -v -s Anchors")
  set -- "$2" anchors/"$(echo "$2" | tr / +)+"*
  [ -e "$2" ] || echo "Anchor '$1' not found." >&2
  for name in "$@"; do
    case $name in anchors/*+*) [ ! -e "$name" ] || echo "  ${name#anchors/}" | tr + / ;; esac
  done
  ;;
"-a "*" -s rules")
  # As with Apple's, a star at the end says how much to print, and what is below is not printed for it.
  name=${2%/\*}
  case $name in */*) name=$(echo "$name" | tr / +) ;; esac
  set -- "anchors/$name" "anchors/$name+"*
  if [ -e "$1" ]; then
    list "$1"
  elif [ ! -e "$2" ]; then
    echo "pfctl: DIOCGETRULES: Invalid argument" >&2
  fi
  ;;
"-v -s Interfaces")
  for name in en0 lo0; do
    if grep -qx $name skip 2>/dev/null; then echo "$name (skip)"; else echo $name; fi
  done
  ;;
"-s References")
  if [ -s tokens ]; then
    printf 'TOKENS:\nPID      Process Name                 TOKEN                    TIMESTAMP\n'
    tac tokens | while read -r token; do
      printf '%-8s %-28s %-24s 0 days 00:00:07\n' 4063 pfctl "$token"
    done
  else
    echo "No pf starter references held"
  fi
  ;;
*) echo "the stand-in does not know $*" >&2 ;;
esac
exit 0

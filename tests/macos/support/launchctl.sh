#!/bin/sh
# The half of the stand-in for launchctl that shows (print); the other half, which changes, is
# launchctl.py, and says what the files are. Shell, since every run of the program makes these calls.
[ "$1" = print ] || exec /usr/sbin/launchctl.py "$@"
cd /var/lib/pf-stand-in || exit
echo "launchctl $*" >>calls
if [ -s fail ]; then
  while read -r pattern; do
    case "launchctl $1" in
    *"$pattern"*)
      echo "Bootstrap failed: 5: Input/output error" >&2
      exit 1
      ;;
    esac
  done <fail
fi
label=${2#system/}
if [ -e "leaving/$label" ]; then
  rm "leaving/$label"
elif [ ! -e "jobs/$label" ]; then
  echo "Could not find service in domain for system" >&2
  exit 1
fi
echo "state = not running"

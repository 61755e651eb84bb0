# The privileged session: what the one sudo of a run starts. It reads statements from standard input,
# runs each command that it is told to, and says on both outputs how it ended.
# What a run changed and did not commit is undone when the input ends, whatever ended it.
trap "" INT HUP TERM
# Nobody may be there any more to read an answer; commands still end of it.
trap : PIPE
umask 022
export LC_ALL=C
changes=0
changed=

# answer CODE: ends what a command printed, on both outputs, with a mark that came on standard input.
# shellcheck disable=SC2154
answer() {
  printf "\n%s %s\n" "$mark" "$1"
  printf "\n%s\n" "$mark" >&2
}

# limited SECONDS COMMAND…: no command takes longer. macOS has no timeout(1), but perl.
if command -v timeout >/dev/null; then
  limited() { timeout -s KILL "$@" 9<&-; }
else
  limited() { perl -e "alarm shift; exec @ARGV" "$@" 9<&-; }
fi

# The undo lines are written for a person to paste: here they need no sudo.
sudo() { limited 60 "$@"; }

# run SECONDS UNDO COMMAND…: one command, and the line that takes back what it did.
run() {
  seconds=$1 undo=$2
  shift 2
  limited "$seconds" "$@"
  code=$?
  # It died of a reader that is gone: then the program is, and what it had begun is undone, too.
  if [ -n "$undo" ] && { [ $code -eq 0 ] || [ $code -eq 141 ]; }; then note "$*"; fi
  answer $code
}

# note COMMAND: the change was made, and $undo takes it back.
note() {
  changes=$((changes + 1))
  eval "undo_$changes=\$undo"
  changed="$changed$1
"
}

# back: takes back the last change.
back() {
  eval "undo=\$undo_$changes"
  changes=$((changes - 1))
  eval "$undo" </dev/null
  answer $?
}

# commit WHAT: what was changed stays, and the system's log has it, where there is one. Nobody waits
# for that.
commit() {
  if [ $changes -gt 0 ]; then
    printf "%s" "$changed" | while IFS= read -r line; do
      printf "%.900s\n" "${SUDO_USER:-root}: $1: $line"
    done | limited 5 logger -t fishnet
  fi >/dev/null 2>&1 9<&- &
  changes=0
  changed=
  answer 0
}

# lock SECONDS: keeps other runs out until this session ends. Only root can open the file, so nobody
# else can hold it; neither is ever made, since an empty sudoers file would take sudo from everybody.
lock() {
  file=/etc/sudoers
  [ -e $file ] || file=/root
  exec 9<$file
  hold -n || { echo waiting; hold -w "$1"; }
  answer $?
}
if command -v flock >/dev/null; then
  hold() { flock "$@" 9; }
else
  hold() { perl -MFcntl=:flock -e "alarm \$ARGV[1] if \$ARGV[1]; open F, q(<&=9); exit !flock(F, \$ARGV[1] ? LOCK_EX : LOCK_EX | LOCK_NB)" -- "$@"; }
fi

end() {
  while [ $changes -gt 0 ]; do back >/dev/null 2>&1; done
}
trap end EXIT

# Reads what a locked account could still do through somebody else. Nothing here changes anything, and
# nothing runs as the account.
#
# $1 is may.pl. Standard input: a mark, which nobody else may know, then lines of a word and a value:
#   account NAME   somebody to ask about
#   uid UID        a uid without a name to ask about
#   alias NAME     what the kernel would ask modprobe for
#   other lines    are for may.pl
# What each command printed comes between two lines that begin with the mark.
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
may=$1
accounts='' aliases='' paths='' ids=''
IFS= read -r mark
while read -r kind value; do
  case $kind in
    account) accounts="$accounts $value" ;;
    alias) aliases="$aliases $value" ;;
    uid) ids="${ids}uid=$value gid=$value groups=$value
" ;;
    *) paths="$paths$kind $value
" ;;
  esac
done

# The mark is in no command's arguments: /proc would show it to everybody.
section() {
  name=$1
  shift
  printf '\n%s begin %s\n' "$mark" "$name"
  "$@" </dev/null 2>&1
  printf '\n%s end %s\n' "$mark" "$?"
}

autoload() {
  # Without this, the kernel asks nobody for a module: modules(7), /proc/sys/kernel/modprobe.
  test -n "$(cat /proc/sys/kernel/modprobe)" || return 0
  test "$(cat /proc/sys/kernel/modules_disabled)" = 0 || return 0
  # A name without a module is an error for modprobe, and the usual case; with --quiet it says nothing.
  # shellcheck disable=SC2086 # a list of words
  modprobe --all --dry-run --verbose -- $aliases || return 0
}

request_key() {
  test -x /sbin/request-key || return 0
  # In the order in which request-key(8) reads them.
  for file in /etc/request-key.d/*.conf /etc/request-key.conf; do
    test ! -f "$file" || cat "$file"
  done
}

may() {
  {
    printf '%s' "$ids$paths"
    test -z "$getcap" || getcap -r /usr/bin /usr/sbin /usr/local/bin /usr/local/sbin
  } | perl -e "$may"
}

section sockets ss -HtunaeS
section addresses ip -o addr show
section protocols cat /proc/net/protocols
section autoload autoload
section mptcp ip mptcp endpoint show
section request-key request_key
section nsswitch cat /etc/nsswitch.conf
section nsresourced test -S /run/systemd/io.systemd.NamespaceResource
for account in $accounts; do
  section "sudo $account" sudo -n -l -U "$account"
  id=$(id -- "$account") && ids="$ids$id
"
  section "id $account" printf '%s\n' "$id"
done
getcap=$(command -v getcap)
section getcap test -n "$getcap"
section may may
section end true

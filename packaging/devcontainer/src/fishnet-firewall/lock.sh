#!/bin/sh
# Locks the container's user whenever the container starts: the dev container tools run this
# as the container's first process, before anything of the user. What came of it is for report.sh.
share=/usr/local/share/fishnet-firewall
# Root's, in a folder that only root writes to.
state=/run/fishnet-firewall
agent='' backend='' ports=''
# shellcheck source=/dev/null # written by install.sh, which sets the three
. "$share/options"

# Whether this process may change the network: CAP_NET_ADMIN is bit 12 (capabilities(7)).
may_lock() {
  effective=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
  [ $((0x$effective >> 12 & 1)) -eq 1 ]
}

# The kernel says so without a packet, and without a right: to a locked uid it denies the route, in
# both families, and to another it does not.
no_route() {
  denied -4 203.0.113.9 || return 1
  [ ! -e /proc/net/if_inet6 ] || denied -6 2001:db8::9
}
denied() {
  asked "$1" "$2" "$(id -u "$agent")" && ! asked "$1" "$2" 65534
}
asked() { ip "$1" route get "$2" uid "$3" 2>&1 | grep -q 'Permission denied'; }

lock() {
  if [ "$(id -u)" -ne 0 ]; then
    echo "not locked: the container starts as $(id -un); set containerUser to root, and remoteUser to $agent"
    return 1
  fi
  if ! may_lock; then
    if no_route; then
      echo "locked from outside: $agent has no route, and nothing in this container can change that"
      [ -z "$ports" ] || echo "whether its loopback is limited to $ports cannot be seen from in here"
      return 0
    fi
    echo "not locked: NET_ADMIN is missing; allow capAdd, or lock by an init container that has it"
    return 1
  fi
  set -- --backend="$backend" --agent-user="$agent"
  for port in $ports; do set -- "$@" --only-port="$port"; done
  if said=$("$share/fishnet.sh" firewall enable "$@" --apply 2>&1 >/dev/null </dev/null); then
    echo "locked: $agent"
    # Where that says otherwise meanwhile, it is not locked.
    "$share/fishnet.sh" firewall status --agent-user="$agent" 2>&1 </dev/null
  else
    echo "not locked: $said"
    return 1
  fi
}

rm -rf "$state"
mkdir -p "$state"
lock >"$state/report" && : >"$state/locked"
chmod -R a+rX "$state"
sed 's/^/fishnet-firewall: /' "$state/report" >&2
# An editor opens a container whose postStartCommand fails all the same: so one that is not locked ends.
[ -e "$state/locked" ] || exit 1
exec "$@"

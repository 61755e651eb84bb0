#!/bin/sh
# Puts the program and what starts it into the image. The dev container tools
# run this as root while they build it, with the options as variables.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
share=/usr/local/share/fishnet-firewall
agent=${AGENTUSER:-${_REMOTE_USER:-}}
backend=${BACKEND:-nftables}

fail() {
  echo "fishnet-firewall: $1" >&2
  exit 1
}

[ -n "$agent" ] || fail "no account to lock: set remoteUser, or the option agentUser"
uid=$(id -u "$agent") || fail "there is no account $agent in this image: make it before this feature"
[ "$uid" -ne 0 ] || fail "root can't be locked: set remoteUser to an account of its own"
# They become words of a script that root runs.
case $agent$backend in *[!A-Za-z0-9_-]*) fail "unusable name: '$agent', '$backend'" ;; esac
case ${ONLYPORT:-} in *[!0-9\ ]*) fail "onlyPort takes port numbers, separated by blanks" ;; esac
command -v npm >/dev/null || fail "npm is missing: add the feature for Node.js, or take an image that has it"

# What the program runs. Other systems' package managers are not guessed at.
need=$backend
[ "$need" != nftables ] || need=nft
for tool in sudo ip perl "$need"; do
  command -v "$tool" >/dev/null && continue
  command -v apt-get >/dev/null || fail "$tool is missing, and this is no Debian or Ubuntu: install it in the image"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    sudo iproute2 perl-base "$backend"
  break
done

# A folder of root's alone: Node.js may lie where the container's user can write, and root must
# not run what that user wrote. So the program is started by the Deno that lies here.
npm install --silent --prefix "$share" "$here/fishnet-firewall.tgz"
for deno in "$share"/node_modules/@deno/*/deno; do ln -sf "$deno" "$share/deno"; done
install -m 755 "$here/fishnet.sh" "$here/lock.sh" "$here/report.sh" "$share/"
ln -sf "$share/fishnet.sh" /usr/local/bin/fishnet
cat >"$share/options" <<END
agent='$agent'
backend='$backend'
ports='${ONLYPORT:-}'
END
chmod -R go-w "$share"
fishnet --version

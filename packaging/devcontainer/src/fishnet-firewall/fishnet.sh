#!/bin/sh
# The program, by the Deno beside it, under the two permissions that it ever has. What Deno
# keeps for root lies here, where only root writes: nothing of the container's user may reach it.
share=/usr/local/share/fishnet-firewall
cache=$share/cache
[ "$(id -u)" -eq 0 ] || cache=${HOME:-/nonexistent}/.cache/fishnet-firewall
set -- "$share/node_modules/fishnet-firewall/main.js" "$@"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin USER="${USER:-}" TERM="${TERM:-dumb}" \
  ${NO_COLOR:+NO_COLOR=1} DENO_DIR="$cache" DENO_NO_UPDATE_CHECK=1 \
  "$share/deno" run --quiet --no-prompt --no-config --no-lock --no-remote --deny-import \
  --node-modules-dir=manual --no-code-cache --allow-run=sudo --allow-env=USER "$@"

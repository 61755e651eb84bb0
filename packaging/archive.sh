#!/bin/sh
# Makes the archive of a release for one system: archive.sh BINARY FOLDER
#
# BINARY is dist/fishnet-SYSTEM; the archive has it as `fishnet`, beside the
# manual page, the completions and the licence. Needs GNU tar. The same binary
# gives the same archive, byte for byte.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: archive.sh BINARY FOLDER" >&2
  exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
system=$(basename "$1")
system=${system#fishnet-}
mkdir -p "$2"
folder=$(realpath "$2")
date=$(dpkg-parsechangelog -l "$here/debian/changelog" -S Timestamp)
run() { ${DENO:-deno} run --quiet --no-prompt --allow-env=USER "$@"; }
version=$(run "$here/../main.ts" --version)
name=fishnet-${version#fishnet }-$system
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$name/completions"
install -m 755 "$1" "$work/$name/fishnet"
cp "$here/../LICENSE" "$work/$name/"
run "$here/manual.ts" "$(date --utc --date="@$date" +%Y-%m-%d)" >"$work/$name/fishnet-firewall.8"
run "$here/../main.ts" completions bash >"$work/$name/completions/fishnet"
run "$here/../main.ts" completions zsh >"$work/$name/completions/_fishnet"
run "$here/../main.ts" completions fish >"$work/$name/completions/fishnet.fish"
tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner \
  --mode=u=rwX,go=rX --mtime="@$date" "$name" | gzip -9n >"$folder/$name.tar.gz"
echo "$folder/$name.tar.gz"

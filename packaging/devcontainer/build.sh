#!/bin/sh
# Makes the dev container feature as it is published: build.sh PACKAGE.tgz FOLDER
#
# PACKAGE.tgz is what `npm pack` made of packaging/npm. FOLDER/src and FOLDER/test are then
# what `devcontainer features test` and `devcontainer features publish` want.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: build.sh PACKAGE.tgz FOLDER" >&2
  exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
version=$(tar -xzOf "$1" package/package.json | sed -n 's/^  "version": "\(.*\)",$/\1/p')
mkdir -p "$2"
cp -R "$here/src" "$here/test" "$2/"
cp "$1" "$2/src/fishnet-firewall/fishnet-firewall.tgz"
feature=$2/src/fishnet-firewall/devcontainer-feature.json
if ! grep -qF "\"version\": \"$version\"" "$feature"; then
  echo "the program is $version: $feature says something else" >&2
  exit 1
fi

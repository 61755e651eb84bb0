#!/bin/sh
# Makes a signed apt repository: repository.sh FOLDER KEY PACKAGE.deb...
#
# KEY is the fingerprint of a signing key that gpg has. FOLDER is made anew; it
# can be served as it is, and holds the key as fishnet.asc, for Signed-By.
set -eu
if [ $# -lt 3 ]; then
  echo "usage: repository.sh FOLDER KEY PACKAGE.deb..." >&2
  exit 1
fi
folder=$1 key=$2
shift 2
if [ -e "$folder" ]; then
  echo "$folder is there already: name a new folder" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder" "$work/conf"
cat >"$work/conf/distributions" <<END
Origin: fishnet
Label: fishnet
Suite: stable
Codename: stable
Architectures: amd64 arm64
Components: main
Description: fishnet firewall
SignWith: $key
END
# The database stays outside: apt does not read it.
reprepro --silent --basedir "$work" --outdir "$(realpath "$folder")" includedeb stable "$@"
gpg --batch --armor --export "$key" >"$folder/fishnet.asc"

#!/bin/sh
# Makes the Debian package: build.sh BINARY FOLDER [VERSION]
#
# BINARY is the compiled program of this machine's architecture; the package
# is written into FOLDER, and its path printed. VERSION, for a test of an
# upgrade, stands in for the program's own.
set -eu
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  echo "usage: build.sh BINARY FOLDER [VERSION]" >&2
  exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
program=$("$binary" --version)
program=${program#fishnet }
changelog=$here/changelog
if [ "$(dpkg-parsechangelog -l "$changelog" -S Version)" != "$program" ]; then
  echo "the program is $program: packaging/debian/changelog does not begin with it" >&2
  exit 1
fi
version=${3:-$program}
architecture=$(dpkg --print-architecture)
# All dates in the package are the version's: the same program gives the same package.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l "$changelog" -S Timestamp)
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
project() { ${DENO:-deno} run --quiet --no-prompt --allow-env "$here/../project.ts" "$1"; }
maintainer=$(project maintainer)
homepage=$(project homepage)

put() { # put MODE FILE PLACE
  install -D -m "$1" "$2" "$root/$3"
}

put 755 "$binary" usr/bin/fishnet
for place in \
  bash:usr/share/bash-completion/completions/fishnet \
  zsh:usr/share/zsh/vendor-completions/_fishnet \
  fish:usr/share/fish/vendor_completions.d/fishnet.fish; do
  "$binary" completions "${place%%:*}" >"$work/completions"
  put 644 "$work/completions" "${place#*:}"
done
${DENO:-deno} run --quiet --no-prompt "$here/../manual.ts" \
  "$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%d)" >"$work/page"
put 644 "$work/page" usr/share/man/man8/fishnet-firewall.8
put 644 "$here/../../schema/fishnet-firewall.schema.json" \
  usr/share/fishnet/fishnet-firewall.schema.json
for unit in "$here"/../../src/linux/boot/*.service; do
  if [ -e "$unit" ]; then put 644 "$unit" "usr/lib/systemd/system/$(basename "$unit")"; fi
done
# Who releases it signs for every version that the changelog has.
sed "s|^ -- .*>  | -- $maintainer  |" "$changelog" >"$work/changelog"
put 644 "$work/changelog" usr/share/doc/fishnet/changelog
gzip -9n "$root/usr/share/man/man8/fishnet-firewall.8" "$root/usr/share/doc/fishnet/changelog"
ln -s fishnet-firewall.8.gz "$root/usr/share/man/man8/fishnet.8.gz"
put 644 "$here/copyright" usr/share/doc/fishnet/copyright
put 644 "$here/lintian-overrides" usr/share/lintian/overrides/fishnet

# What the binary is linked with, as its symbols tell it.
mkdir "$work/debian"
printf 'Source: fishnet\n\nPackage: fishnet\nArchitecture: any\n' >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O "-eroot/usr/bin/fishnet" 2>"$work/said") ||
  { cat "$work/said" >&2; exit 1; }

put 755 "$here/prerm" DEBIAN/prerm
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
  -e "s|@MAINTAINER@|$maintainer|" -e "s|@HOMEPAGE@|$homepage|" \
  -e "s/@INSTALLED_SIZE@/$(du -k --apparent-size -s "$root" | cut -f1)/" \
  -e "s/@LIBRARIES@/${libraries#shlibs:Depends=}/" \
  "$here/control.in" >"$root/DEBIAN/control"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$work/md5sums"
put 644 "$work/md5sums" DEBIAN/md5sums
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
package=$folder/fishnet_${version}_${architecture}.deb
# Every dpkg reads xz; not every one reads what Ubuntu's writes unless told.
export DPKG_DEB_COMPRESSOR_TYPE="${DPKG_DEB_COMPRESSOR_TYPE:-xz}"
dpkg-deb --root-owner-group --build "$root" "$package" >&2
echo "$package"

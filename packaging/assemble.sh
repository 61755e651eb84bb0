#!/bin/sh
# Puts the files of a release together: assemble.sh FOLDER RELEASE
#
# FOLDER has the binaries, dist/fishnet-SYSTEM, and the Debian packages. RELEASE is made anew. The
# addresses in it are those of the repository that a workflow runs in (packaging/project.ts).
set -eu
if [ $# -ne 2 ]; then
  echo "usage: assemble.sh FOLDER RELEASE" >&2
  exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
folder=$(realpath "$1")
mkdir "$2"
release=$(realpath "$2")
run() { ${DENO:-deno} run --quiet --no-prompt "$@"; }
version=$(run --allow-env=USER "$here/../main.ts" --version)
version=${version#fishnet }

for binary in "$folder"/fishnet-*; do
  chmod +x "$binary"
  "$here/archive.sh" "$binary" "$release"
done
cp "$folder"/*.deb "$release/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run --allow-read --allow-write --allow-env "$here/npm/build.ts" "$work/npm"
npm pack --silent --pack-destination "$release" "$work/npm"
(cd "$here/.." && run --allow-run --allow-read=deno.lock packaging/sbom.ts) >"$release/fishnet-$version.cdx.json"
(cd "$release" && sha256sum -- *.tar.gz) >"$work/sums"
run --allow-env "$here/homebrew/formula.ts" <"$work/sums" >"$release/fishnet.rb"
run --allow-env "$here/install_page.ts" >"$release/INSTALL.md"
cd "$release"
sha256sum -- * >"$work/sums"
cp "$work/sums" SHA256SUMS

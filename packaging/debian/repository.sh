#!/bin/sh
# Makes a signed apt repository: repository.sh FOLDER KEY PACKAGE.deb...
#
# KEY is the fingerprint of a signing key that gpg has. FOLDER is made anew; it
# can be served as it is, and holds the key as fishnet.asc, for Signed-By. Every
# package that is given can be installed, so an older version is still there for
# who goes back to it: give the packages of all releases.
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
mkdir -p "$folder/pool"
cp -- "$@" "$folder/pool/"
cd "$folder"
for architecture in amd64 arm64; do
  place=dists/stable/main/binary-$architecture
  mkdir -p "$place"
  apt-ftparchive --arch "$architecture" packages pool >"$place/Packages"
  gzip -9nk "$place/Packages"
done
# Outside of what it lists.
release=$(mktemp)
trap 'rm -f "$release"' EXIT
apt-ftparchive \
  -o APT::FTPArchive::Release::Origin=fishnet \
  -o APT::FTPArchive::Release::Label=fishnet \
  -o APT::FTPArchive::Release::Suite=stable \
  -o APT::FTPArchive::Release::Codename=stable \
  -o 'APT::FTPArchive::Release::Architectures=amd64 arm64' \
  -o APT::FTPArchive::Release::Components=main \
  -o 'APT::FTPArchive::Release::Description=fishnet firewall' \
  release dists/stable >"$release"
cat "$release" >dists/stable/Release
gpg --batch --yes --local-user "$key" --armor --detach-sign --output dists/stable/Release.gpg \
  dists/stable/Release
gpg --batch --yes --local-user "$key" --clearsign --output dists/stable/InRelease dists/stable/Release
gpg --batch --armor --export "$key" >fishnet.asc

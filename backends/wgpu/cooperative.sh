#!/usr/bin/env bash
# Runs a command under a software Vulkan driver that has cooperative matrices: lavapipe of Debian's trixie-backports, unpacked
# into a folder of its own with the C library that it needs. Nothing is installed.
#
#   backends/wgpu/cooperative.sh FOLDER COMMAND...     e.g. target/lavapipe target/release/anychip devices
#
# FOLDER is filled once and used again (63 MB to fetch, 400 MB on disk). COMMAND is a program of this machine, which runs on
# the folder's loader. Exit code 3: the driver is not to be had here (no Debian, no network); else COMMAND's.
set -euo pipefail
folder=${1:?where the driver goes}; shift
not_here() { echo "SKIPPED: lavapipe with cooperative matrices is not to be had here: $*" >&2; exit 3; }

fetch() { # into $folder/apt, by the machine's own sources for another release
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || not_here "no apt-get"
  local mirror apt=$folder/apt key=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(apt-get indextargets --format '$(SITE) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 == "main" && $1 ~ /debian$/ { print $1; exit }')
  [ -n "$mirror" ] && [ -e "$key" ] || not_here "no Debian mirror in apt's sources"
  mkdir -p "$apt"/{lists,archives}/partial
  : >"$apt/status"
  printf "deb [signed-by=$key] $mirror %s main\n" trixie trixie-backports >"$apt/sources.list"
  local options=(-o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::State::lists="$apt/lists"
    -o Dir::Cache::archives="$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Debug::NoLocking=1)
  apt-get "${options[@]}" -q update >&2 || not_here "apt-get update failed"
  apt-get "${options[@]}" -q install -y --no-install-recommends --download-only -t trixie-backports \
    mesa-vulkan-drivers libvulkan1 libc6 >&2 || not_here "its packages could not be fetched"
  local package
  for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
  rm -rf "$apt"
}

folder=$(mkdir -p "$folder" && cd "$folder" && pwd)
libraries=$folder/root/usr/lib/x86_64-linux-gnu
icd=$folder/lvp_icd.json
if [ ! -e "$icd" ]; then
  fetch
  printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.4.0"}}\n' \
    "$libraries/libvulkan_lvp.so" >"$icd"
fi
program=$(command -v "$1"); shift
export VK_ICD_FILENAMES=$icd VK_DRIVER_FILES=$icd VK_LOADER_LAYERS_DISABLE='~all~'
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$program" "$@"

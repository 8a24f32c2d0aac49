#!/usr/bin/env bash
# Runs a command in a Debian of another suite, with this checkout as its folder: for a Python that the machine lacks.
# Usage, as root, with debootstrap installed: in_debian.sh SUITE PACKAGE,PACKAGE... COMMAND...
set -euo pipefail
suite=$1 packages=$2
shift 2
root=$PWD/.debian/$suite

if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
  echo "in_debian.sh: needs root, for chroot, and debootstrap (apt-get install debootstrap)" >&2
  exit 2
fi
if [ ! -e "$root/checkout" ]; then
  echo "bringing Debian $suite into $root"
  rm -rf "$root"
  mkdir -p "$root"
  # The mirror that this machine has packages from. An older debootstrap does not know newer suites; sid's script
  # makes them all.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
  debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$mirror" sid >"$root.log"
  mkdir "$root/checkout"
fi

# Mounted in a namespace of their own, so that nothing is left mounted, however this ends.
exec unshare --mount bash -euo pipefail -c '
  root=$1
  shift
  mount --bind "$root" "$root"  # a mount point, as the root of a file system is: tests make namespaces of their own
  mount --bind "$PWD" "$root/checkout"
  mount --rbind /proc "$root/proc"
  mount --rbind /dev "$root/dev"
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf "${PIP_CERT:-}"; do
    [ -f "$file" ] || continue
    mkdir -p "$root$(dirname "$file")"
    touch "$root$file"
    mount --bind "$file" "$root$file"
  done
  exec chroot "$root" env --chdir /checkout HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
' in_debian "$root" "$@"

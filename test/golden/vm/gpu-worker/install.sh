#!/bin/sh
# Puts the worker's programs, which the seed disk carries, into /opt/autocode: Node, the
# worker-agent and what they import. May be run again; an image that has them needs no archive.
set -eu
target=/opt/autocode
state=/var/lib/autocode-worker
seed=$(mktemp -d)
device=$(blkid -L cidata || blkid -L CIDATA || true)
if [ -n "$device" ]; then
  mount -o ro "$device" "$seed"
  if [ -f "$seed/autocode.tgz" ]; then
    rm -rf "$target.new"
    mkdir -p "$target.new"
    tar -xzf "$seed/autocode.tgz" -C "$target.new" --no-same-owner
    rm -rf "$target"
    mv "$target.new" "$target"
  fi
  umount "$seed"
fi
rmdir "$seed"
[ -x "$target/bin/node" ] || {
  echo "autocode: neither the image nor the seed disk has $target" >&2
  exit 1
}
install -d -m 0711 "$state"

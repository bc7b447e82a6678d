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
  archive=$seed/autocode.tgz
  if [ -f "$archive" ] && [ "$(cksum <"$archive")" != "$(cat "$target/.archive" 2>&1)" ]; then
    rm -rf "$target.new"
    mkdir -p "$target.new"
    tar -xzf "$archive" -C "$target.new" --no-same-owner
    cksum <"$archive" >"$target.new/.archive"
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

#!/bin/sh
# Runs this VM with qemu, in the folder that `autocode vm build` filled; what is given goes to qemu.
set -eu
# Whoever speaks on the monitor's socket has the VM: it is its owner's alone.
umask 177
cd "$(dirname "$0")"
if [ -f vmlinuz ]; then
  set -- -kernel vmlinuz -initrd initrd.img \
    -append "root=/dev/vda rw console=ttyS0 ds=nocloud quiet" "$@"
fi
exec qemu-system-x86_64 \
  -name autocode-vm -machine q35,accel=kvm:tcg -cpu max \
  -smp 64 -m 8192 \
  -drive file=disk.qcow2,if=virtio,format=qcow2,discard=unmap \
  -drive file=seed.iso,if=virtio,format=raw,readonly=on \
  -netdev user,id=net0 \
  -device virtio-net-pci,netdev=net0 \
  -device virtio-rng-pci \
  -qmp unix:qmp.sock,server=on,wait=off \
  -display none -serial mon:stdio "$@"

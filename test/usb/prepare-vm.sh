#!/usr/bin/env bash
# prepare-vm.sh DIR: Debian's kernel, and an initrd that mounts this machine's root file system over 9p, read-only, with a
# RAM overlay, and hands over to /out/init.sh. The kernel is downloaded once; DIR is a cache.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$dir"

if ! compgen -G 'kernel/boot/vmlinuz-*' >/dev/null; then
  package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
  if [[ -z $package ]] && ((EUID == 0)); then
    apt-get update -q
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
  fi
  if [[ -z $package ]]; then
    echo "apt knows no linux-image-amd64: run apt-get update as root" >&2
    exit 1
  fi
  echo "# downloading $package"
  rm -rf kernel new ./*.deb
  # As root apt would rather download as _apt, which may not write here.
  apt-get -q -o APT::Sandbox::User=root download "$package"
  dpkg-deb -x "$package"_*.deb new
  rm -f "$package"_*.deb
  mv new kernel
fi

version=$(ls kernel/lib/modules)
depmod -b kernel "$version"
rm -rf initrd
mkdir -p initrd/{bin,proc,sys,dev,host,overlay,root,modules}
cp "$(command -v busybox)" initrd/bin/busybox
for module in virtio_pci 9pnet_virtio 9p overlay usbcore vhci-hcd usbip-host xhci-pci virtio_console virtio_net loop ext4; do
  modprobe -d kernel -S "$version" --show-depends "$module" | awk '$1 == "insmod" {print $2}'
done | awk '!seen[$0]++' | while read -r file; do
  cp "$file" initrd/modules/
  basename "$file" >>initrd/modules/order
done
cat >initrd/init <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
while read -r module; do $b insmod "/modules/$module"; done </modules/order
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro hostroot /host
$b mount -t tmpfs tmpfs /overlay
$b mkdir -p /overlay/upper /overlay/work
$b mount -t overlay overlay -o lowerdir=/host,upperdir=/overlay/upper,workdir=/overlay/work /root
for folder in proc sys dev; do $b mount --move /$folder /root/$folder; done
$b mkdir -p /root/out /root/dev/pts
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 out /root/out
exec $b switch_root /root /bin/bash /out/init.sh
INIT
chmod +x initrd/init
(cd initrd && find . | cpio -o -H newc --quiet | gzip -1) >initrd.gz
echo "# kernel $version"

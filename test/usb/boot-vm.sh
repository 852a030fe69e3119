#!/usr/bin/env bash
# boot-vm.sh VM-DIR OUT-DIR JOB SECONDS: boots, and runs OUT-DIR/JOB as root in the guest, where OUT-DIR is /out. The guest's
# console is stdout; the exit status is the job's, or 125 where it did not come to its end. To the guest, 10.0.2.2 is this
# machine's loopback; there is no way further.
set -uo pipefail
vm=$(cd "$1" && pwd)
out=$(cd "$2" && pwd)
job=$3
limit_s=$4

cat >"$out/init.sh" <<INIT
export HOME=/root TMPDIR=/run/tmp PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs tmpfs /run
mount -t devpts devpts /dev/pts
mkdir -p /run/udev /run/tmp
busybox ip link set lo up
busybox ip addr add 10.0.2.15/24 dev eth0 && busybox ip link set eth0 up
/lib/systemd/systemd-udevd --daemon 2>/dev/null
udevadm settle
echo 1 >/proc/sys/kernel/printk # vhci says "speed not set" of every device
bash /out/$job
echo \$? >/out/status
sync
echo o >/proc/sysrq-trigger
while :; do :; done # until it is off; no program can be started any more
INIT

# An xHCI controller with two devices that a program in the guest plays: what it writes to the virtio port redirN goes to
# the usb-redir device N, and back, over a socket that QEMU has with itself. The name is relative, since such names are short.
devices=(-device qemu-xhci,id=xhci -device virtio-serial-pci -netdev user,id=net -device virtio-net-pci,netdev=net)
for name in redir1 redir2; do
  devices+=(-chardev "socket,id=$name-port,path=$name,server=on,wait=off" -device "virtserialport,chardev=$name-port,name=$name"
    -chardev "socket,id=$name-usb,path=$name" -device "usb-redir,bus=xhci.0,chardev=$name-usb")
done

cd "$out" || exit 125
# Emulation even where there is /dev/kvm: it works everywhere, and nested virtualization does not.
timeout "$limit_s" qemu-system-x86_64 -accel tcg,thread=multi,tb-size=512 -cpu Nehalem -smp 2 -m 3072 \
  -nodefaults -no-reboot -display none -vga none -monitor none -serial stdio \
  -kernel "$vm"/kernel/boot/vmlinuz-* -initrd "$vm/initrd.gz" \
  -append 'console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off' \
  -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap \
  -device virtio-9p-pci,fsdev=root,mount_tag=hostroot \
  -fsdev "local,id=out,path=$out,security_model=none" \
  -device virtio-9p-pci,fsdev=out,mount_tag=out "${devices[@]}" </dev/null |
  sed -u -e 's/\r//g; s/\x1b\[[0-9;?]*[A-Za-z]//g' -e '/^\[ *[0-9.]*\] \(sysrq\|reboot\):/d'
[[ -s $out/status ]] && exit "$(cat "$out/status")"
exit 125

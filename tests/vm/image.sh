#!/bin/sh
# image.sh - a Debian 12 disk with systemd, what the package depends on, and our test unit.
. "$(dirname "$0")/lib.sh"
suite=bookworm
packages=systemd,systemd-sysv,udev,dbus,kmod,git,libbpf1,python3,iproute2,iputils-ping,procps
image=$cache/$suite.ext4
[ "$image" -nt "$here/image.sh" ] && [ "$image" -nt "$here/guest/fos1-vm.service" ] && exit 0
root=$(mktemp -d "$cache/image.XXXXXX")
trap 'rm -rf "$root"' EXIT
sources $suite | mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' $suite "$root/disk" -
disk=$root/disk

install -m 644 "$here/guest/fos1-vm.service" "$disk/etc/systemd/system/"
mkdir -p "$disk/etc/systemd/system/multi-user.target.wants" "$disk/var/log/journal" "$disk/vm"
ln -s ../fos1-vm.service "$disk/etc/systemd/system/multi-user.target.wants/"
for unit in getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer; do
    ln -sf /dev/null "$disk/etc/systemd/system/$unit"
done
echo fos1-vm >"$disk/etc/hostname"
echo '127.0.0.1 localhost fos1-vm' >"$disk/etc/hosts"
: >"$disk/etc/fstab"
tr -d - </proc/sys/kernel/random/uuid >"$disk/etc/machine-id"
rm -rf "$disk"/var/cache/apt/* "$disk"/var/lib/apt/lists/* "$disk/etc/resolv.conf"
touch -d tomorrow "$disk/etc/.updated" "$disk/var/.updated" # nothing is to be updated at boot

truncate -s 2G "$image.new"
mkfs.ext4 -q -F -O ^has_journal -m 0 -d "$disk" "$image.new"
mv "$image.new" "$image"

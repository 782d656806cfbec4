#!/bin/sh
# boot.sh ROOT - become systemd as PID 1 of the machine whose disk is at ROOT.
#
# Runs as the first process of new pid, mount, cgroup, net, uts and ipc namespaces. /run, /tmp, /dev,
# the BPF file system and the boot id are new with each boot; ROOT is what it was.
set -eu
cd "$1"
mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc proc
# The host's settings cannot be changed from here, but for those of our own network.
cat proc/sys/kernel/random/uuid >../boot_id
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount --bind ../boot_id proc/sys/kernel/random/boot_id
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t bpf -o mode=700,nosuid,nodev,noexec bpf sys/fs/bpf
mount -t tmpfs -o mode=755,nosuid dev dev
mkdir dev/pts dev/shm dev/net
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "net/tun 10 200"; do
    # shellcheck disable=SC2086
    set -- $node
    mknod -m 666 "dev/$1" c "$2" "$3"
done
mount -t devpts -o newinstance,mode=620,ptmxmode=666,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: >dev/console
mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
mount -t tmpfs -o mode=755,nosuid,nodev run run
# A checkout below /tmp must stay in sight.
[ -e ../keep-tmp ] || mount -t tmpfs -o mode=1777,nosuid,nodev tmp tmp
ip link set lo up
mkdir run/old
pivot_root . run/old
umount -l /run/old
rmdir /run/old
cd /
exec env -i container=fos1-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot . /sbin/init --log-target=journal --unit=multi-user.target

#!/bin/sh
# disk.sh DIR CHECKOUT - the disk of a machine, at DIR/root: the host's own root below, a tmpfs above.
#
# Runs in a mount namespace of its own and keeps it until its standard input ends. What is written
# to the machine survives its reboots and dies with this process; the host sees none of it.
set -eu
dir=$1 checkout=$2
mount -t tmpfs -o mode=755 fos1-disk "$dir"
cd "$dir"
mkdir root over

layer() { # $1: a folder of the host
    name=$(echo "$1" | tr / _)
    mkdir -p "over/$name/upper" "over/$name/work" "root$1"
    mount -t overlay -o "lowerdir=$1,upperdir=over/$name/upper,workdir=over/$name/work" none "root$1"
}
layer /
for place in /usr /var /opt; do
    ! mountpoint -q $place || layer $place
done
layer "$checkout"
case $checkout in /tmp/*) : >keep-tmp ;; esac
# As it is now: it may be edited while the tests run.
for place in Makefile bpf fos1d packaging pyproject.toml units build/environment; do
    [ -e "$checkout/$place" ] || continue
    cp -a "$checkout/$place" over/copy
    rm -rf "root$checkout/$place"
    mv over/copy "root$checkout/$place"
done

# Nothing that the host has enabled runs in the machine, nor mounts the host's disks.
empty() { rm -rf "over/empty$1"; mkdir -p "over/empty$1" "root$1"; mount --bind "over/empty$1" "root$1"; }
for place in /etc/systemd/system /etc/systemd/network /etc/network /var/log /var/lib/systemd; do empty $place; done
mkdir -p root/etc/systemd/system-generators
for generator in /usr/lib/systemd/system-generators/* /lib/systemd/system-generators/*; do
    ln -sf /dev/null "root/etc/systemd/system-generators/${generator##*/}"
done
: >root/etc/fstab
cat /proc/sys/kernel/random/uuid | tr -d - >root/etc/machine-id
echo fos1-machine >root/etc/hostname
rm -rf root/etc/fos1d root/var/lib/fos1d
rm -f root/usr/sbin/policy-rc.d # of container images: it forbids packages to start their services

# Units that would reach through to the host's kernel and devices.
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-udev-trigger.service systemd-sysctl.service systemd-modules-load.service \
    systemd-random-seed.service systemd-remount-fs.service systemd-pstore.service \
    systemd-binfmt.service systemd-hwdb-update.service systemd-journald-audit.socket \
    systemd-machine-id-commit.service systemd-update-utmp.service systemd-logind.service \
    kmod-static-nodes.service modprobe@.service proc-sys-fs-binfmt_misc.automount \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount sys-fs-fuse-connections.mount tmp.mount; do
    ln -s /dev/null "root/etc/systemd/system/$unit"
done
mkdir -p root/var/log/journal root/etc/systemd/journald.conf.d
printf '[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n' \
    >root/etc/systemd/journald.conf.d/machine.conf
echo ready
exec cat >/dev/null

#!/bin/sh
# kernel.sh SUITE - the newest kernel of a suite, to boot: $cache/SUITE/{version,vmlinux,initrd,modules.ext4}
. "$(dirname "$0")/lib.sh"
suite=$1
out=$cache/$suite
[ "$out/version" -nt "$here/kernel.sh" ] && exit 0
apt_of "$suite"
work=$(mktemp -d "$cache/kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/deb" "$work/all" "$work/tree/lib/modules" \
    "$work/first/bin" "$work/first/modules" "$work/first/proc" "$work/first/sys" \
    "$work/first/dev" "$work/first/new"

depends() { # of packages, those that make up a kernel; newer ones are split into several
    # shellcheck disable=SC2086
    apt-cache $apt show --no-all-versions "$@" | sed -n 's/^Depends: //p' | tr ',|' '\n\n' |
        awk '{ print $1 }' | grep -E '^linux-(image|modules|binary|base)-' || true
}
parts=$(depends linux-image-amd64)
[ -n "$parts" ] || die "$suite has no linux-image-amd64"
# shellcheck disable=SC2086
parts=$(printf '%s\n' $parts $(depends $parts) | sort -u)
# shellcheck disable=SC2086
(cd "$work/deb" && apt-get $apt download $parts busybox-static) >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; die "download failed"; }
for package in "$work"/deb/*.deb; do dpkg-deb -x "$package" "$work/all"; done

modules=$(find "$work/all" -type d -path '*/lib/modules/*/kernel' -prune | head -1)
version=$(basename "${modules%/kernel}")
python3 "$here/vmlinux.py" "$(find "$work/all" -name 'vmlinuz*' -type f | head -1)" "$out/vmlinux"

# A machine without these has no use for them; the disk is made in seconds instead of a minute.
for place in sound drivers/gpu drivers/media drivers/staging drivers/infiniband drivers/usb \
    drivers/scsi drivers/iio drivers/hid drivers/net/ethernet drivers/net/wireless; do
    rm -rf "${modules:?}/$place"
done
mv "${modules%/kernel}" "$work/tree/lib/modules/"
depmod -b "$work/tree" "$version" 2>/dev/null
tree=$work/tree/lib/modules/$version
truncate -s "$(($(du -sm "$tree" | cut -f1) * 115 / 100 + 16))M" "$work/modules.ext4"
mkfs.ext4 -q -F -O ^has_journal -m 0 -d "$tree" "$work/modules.ext4"

# The first file system: busybox, and the modules that stand between the kernel and the disk.
cp "$(find "$work/all" -path '*/bin/busybox' -type f)" "$work/first/bin/busybox"
ln -s busybox "$work/first/bin/sh"
for module in virtio_pci virtio_blk ext4 virtio_rng; do
    modprobe -d "$work/tree" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | {
    number=100
    while read -r place; do
        name=$(basename "$place")
        case $name in
        *.xz) xz -dc "$place" ;;
        *.zst) zstd -dqc "$place" ;;
        *) cat "$place" ;;
        esac >"$work/first/modules/$number-${name%%.ko*}.ko"
        number=$((number + 1))
    done
}
cp "$here/guest/init" "$work/first/init"
chmod 755 "$work/first/init"
(cd "$work/first" && find . | bin/busybox cpio -o -H newc 2>/dev/null) >"$out/initrd"
mv "$work/modules.ext4" "$out/modules.ext4"
echo "$version" >"$out/version"

#!/bin/sh
# boot.sh SUITE PACKAGE - run the checks in a virtual machine on a suite's kernel; its output is shown.
. "$(dirname "$0")/lib.sh"
suite=$1 package=$2
kernel=$cache/$suite
work=$(mktemp -d "$cache/run.XXXXXX")
machine=
trap '[ -z "$machine" ] || kill "$machine" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

mkdir -p "$work/payload/tests/vm"
cp "$package" "$work/payload/fos1d.deb"
cp "$here/guest/run" "$work/payload/run"
cp -r "$here/guest" "$here/__init__.py" "$work/payload/tests/vm/"
for name in __init__ applied frames lab; do cp "$checkout/tests/$name.py" "$work/payload/tests/"; done
tar -C "$work/payload" --owner=0 --group=0 -cf "$work/payload.tar" .
truncate -s %512 "$work/payload.tar"
qemu-img create -q -f qcow2 -F raw -b "$cache/bookworm.ext4" "$work/root.qcow2"

# /dev/kvm alone proves nothing: it may be there where the processor cannot run a guest.
if [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
    processor="-accel kvm -cpu host"
else
    # QEMU 7.2 emulates AVX2 wrongly: numpy then sorts otherwise than on any real processor.
    processor="-accel tcg,thread=multi,tb-size=256 -cpu max,la57=off,avx2=off"
fi
disk() {
    echo "-drive if=none,id=$1,file=$2,format=$3,cache=unsafe$4 -device virtio-blk-pci,drive=$1,serial=$1"
}
: >"$work/output"
# shellcheck disable=SC2046,SC2086
timeout --foreground -k 5 "${FOS1_VM_LIMIT:-1800}" qemu-system-x86_64 $processor -M q35 -smp 2 -m 1024 \
    -nodefaults -no-user-config -display none -nic none \
    -kernel "$kernel/vmlinux" -initrd "$kernel/initrd" \
    -append "console=ttyS0 quiet net.ifnames=0 panic=-1 mitigations=off systemd.show_status=no fos1-vm" \
    $(disk root "$work/root.qcow2" qcow2 "") $(disk modules "$kernel/modules.ext4" raw ,readonly=on) \
    $(disk payload "$work/payload.tar" raw ,readonly=on) -device virtio-rng-pci \
    -serial "file:$work/console" -serial "file:$work/output" </dev/null 2>"$work/qemu" &
machine=$!
tail -q -n +1 -s 0.2 -f --pid="$machine" "$work/output" | sed -u 's/\r$//' &
shown=$!
wait "$machine" && ended=0 || ended=$?
machine=
wait "$shown" || true
code=$(tr -d '\r' <"$work/output" | sed -n 's/^exit \([0-9]*\)$/\1/p')
[ -n "$code" ] && exit "$code"
tail -qn 30 "$work/console" "$work/qemu" >&2
die "the machine ended without a result (qemu: $ended)"

#!/bin/sh
# matrix.sh [SUITE...] - the checks on the kernels of Debian's suites, one after the other.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || die "run: sudo make test-vm"
missing=
for need in mmdebstrap:mmdebstrap depmod:kmod qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils \
    xz:xz-utils zstd:zstd mkfs.ext4:e2fsprogs; do
    command -v "${need%:*}" >/dev/null || missing="$missing ${need#*:}"
done
# shellcheck disable=SC2086
[ -z "$missing" ] || DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing >/dev/null || die "apt-get install$missing"
# Not compressed: an emulated processor takes minutes to unpack it.
DEB_VERSION=0.0.1~vm DEB_COMPRESS=none sh "$checkout/packaging/deb.sh"
package=$(ls "$checkout"/dist/fos1d_0.0.1~vm_*.deb)
sh "$here/image.sh"
bad=0
for suite in ${*:-bookworm bookworm-backports trixie-backports}; do
    sh "$here/kernel.sh" "$suite"
    began=$(date +%s)
    echo "== $(cat "$cache/$suite/version") ($suite)"
    code=0
    sh "$here/boot.sh" "$suite" "$package" || { code=$?; bad=1; }
    echo "== $(cat "$cache/$suite/version"): exit $code, $(($(date +%s) - began)) s"
done
exit $bad

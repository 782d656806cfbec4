#!/bin/sh
# What `make deb` does: the same files as `make install PREFIX=/usr`, as dist/fos1d_*.deb.
#
# DEB_VERSION    default: the version in pyproject.toml    DEB_COMPRESS   default: zstd; none is quicker
set -eu
cd "$(dirname "$0")/.."
umask 022
version=${DEB_VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}
architecture=$(dpkg --print-architecture)
package=dist/fos1d_${version}_$architecture.deb
root=build/deb
maintainer='fos1d developers <fos1d@networking.fos1.io>'
python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
next=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')
libc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)

rm -rf $root
PREFIX=/usr DESTDIR=$PWD/$root sh packaging/install.sh install
install -D -m 644 packaging/deb/copyright $root/usr/share/doc/fos1d/copyright
install -D -m 644 packaging/deb/lintian-overrides $root/usr/share/lintian/overrides/fos1d

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH
gzip -9n >$root/usr/share/doc/fos1d/changelog.gz <<CHANGELOG
fos1d ($version) unstable; urgency=medium

  * See CHANGELOG.md in this folder.

 -- $maintainer  $(date -Rd "@$SOURCE_DATE_EPOCH")
CHANGELOG

mkdir -p $root/DEBIAN dist
for script in postinst prerm postrm; do
    install -m 755 packaging/deb/$script $root/DEBIAN/$script
done
echo /etc/fos1d/fos1d.toml >$root/DEBIAN/conffiles
(cd $root && find usr -type f -print0 | sort -z | xargs -0 md5sum) >$root/DEBIAN/md5sums
cat >$root/DEBIAN/control <<CONTROL
Package: fos1d
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Section: net
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN $root | cut -f1)
Depends: git, libbpf1 (>= 1:1.1), libc6 (>= $libc), libsystemd0, python3 (>= $python), python3 (<< $next), systemd
Recommends: python3-bpfcc
Suggests: bpftool, linux-headers-generic
Description: declarative eBPF networking for edge routers, driven by Git
 A daemon that reads YAML manifests from a Git repository or a directory on the
 router and keeps the kernel's eBPF programs, maps and attachments as they ask.
 It restarts, upgrades and crashes without a packet's fate being changed, heals
 what others change, and leaves alone what is not its own.
 .
 This package brings its Python libraries along, in /usr/lib/fos1d.
CONTROL
dpkg-deb --root-owner-group -Z"${DEB_COMPRESS:-zstd}" -z9 --build $root "$package.new" >/dev/null
mv "$package.new" "$package"
echo "$package ($(du -k "$package" | cut -f1) KiB)"

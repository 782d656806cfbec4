#!/bin/sh
# What `make install` and `make uninstall` do; docs/operate/install.md tells it to people.
#
#   install.sh build        fetch and build what an installation is made of; then it needs no network
#   install.sh install      the same, and put it into place
#   install.sh uninstall    take it away; settings, state and data path stay
#
# PREFIX   /usr/local, or /usr in a package    DESTDIR  a root to install into, nothing is started
set -eu
cd "$(dirname "$0")/.."
umask 022
unset PYTHONPATH PYTHONHOME
PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}
wheels=build/wheels
home=$PREFIX/lib/fos1d
built=build/environment
case $PREFIX in
/usr | /usr/local) system=$PREFIX ;;
*) system=/usr/local ;; # systemd and bash look only there
esac
unit=$system/lib/systemd/system/fos1d.service
group=$system/lib/sysusers.d/fos1d.conf
completion=$system/share/bash-completion/completions/fos1ctl
docs=$system/share/doc/fos1d

die() { echo "$*" >&2; exit 1; }
quiet() { "$@" >build/install.log 2>&1 || { tail -20 build/install.log >&2; die "failed: $*"; }; }
pip() { quiet .venv/bin/pip --disable-pip-version-check "$@"; }

# Building: the environment is made once for a state of the checkout, then only copied

state() { # of all that the environment comes from
    find fos1d packaging pyproject.toml -type f ! -path '*/__pycache__/*' -print0 | sort -z |
        xargs -0 sha256sum
    /usr/bin/python3 --version
}

get_wheels() {
    want=$(cat pyproject.toml packaging/constraints.txt | sha256sum)
    if [ "$(cat $wheels/stamp 2>/dev/null)" != "$want" ]; then
        rm -rf $wheels
        pip wheel --no-build-isolation -c packaging/constraints.txt -w $wheels .
        echo "$want" >$wheels/stamp
    fi
    # Ours is made anew, from nothing: setuptools would take up files that are gone by now.
    rm -rf build/lib build/bdist.* $wheels/fos1d-*.whl
    pip wheel --no-build-isolation --no-deps -w $wheels .
}

environment() { # $1: where it is made; its commands work only where it is copied to
    rm -rf "$1"
    /usr/bin/python3 -m venv --without-pip "$1"
    pip --python "$1/bin/python" install --no-index --no-deps --no-compile \
        --no-warn-script-location $wheels/*.whl
    rm -rf "$1/include"
    find "$1/bin" -type f ! -name fos1d ! -name fos1ctl -delete
    find "$1/lib" -type d -name tests -path '*/numpy/*' -prune -exec rm -rf {} +
    find "$1/lib" -type f \( -name direct_url.json -o -name RECORD -o -name INSTALLER \) -delete
    find "$1/lib" -name '*.so*' -exec chmod 644 {} +
    sed -i "/^command/d" "$1/pyvenv.cfg"
    # Nobody may write there later, so it is compiled now, for good.
    "$1/bin/python" -m compileall -q -j0 --invalidation-mode unchecked-hash "$1/lib"
}

build() {
    now=$(state | sha256sum)
    [ "$(cat "$built.stamp" 2>/dev/null)" != "$now" ] || return 0
    rm -f "$built.stamp"
    get_wheels
    environment "$built"
    echo "$now" >"$built.stamp"
}

# Installing

copy_environment() { # in one step, seen from a running daemon
    mkdir -p "$DESTDIR${home%/*}"
    rm -rf "$DESTDIR$home.new" "$DESTDIR$home.old"
    cp -R --preserve=mode,timestamps,links "$built" "$DESTDIR$home.new"
    # Isolated from the caller's PYTHON* variables; the daemon prints its stacks when it is aborted.
    sed -i "1s|.*|#!$home/bin/python -IXfaulthandler|" "$DESTDIR$home.new/bin/fos1d"
    sed -i "1s|.*|#!$home/bin/python -I|" "$DESTDIR$home.new/bin/fos1ctl"
    [ ! -e "$DESTDIR$home" ] || mv "$DESTDIR$home" "$DESTDIR$home.old"
    mv "$DESTDIR$home.new" "$DESTDIR$home"
    rm -rf "$DESTDIR$home.old"
}

put() { # $1: mode, $2: file or - , $3: where
    mkdir -p "$DESTDIR$(dirname "$3")"
    if [ "$2" = - ]; then cat >"$DESTDIR$3.new"; else cp "$2" "$DESTDIR$3.new"; fi
    chmod "$1" "$DESTDIR$3.new"
    mv -f "$DESTDIR$3.new" "$DESTDIR$3"
}

command_link() { # $1: name
    mkdir -p "$DESTDIR$PREFIX/bin"
    ln -sfn "../lib/fos1d/bin/$1" "$DESTDIR$PREFIX/bin/$1"
}

documents() {
    rm -rf "$DESTDIR$docs"
    mkdir -p "$DESTDIR$docs"
    (find docs/operate docs/reference -name '*.md' && echo examples) |
        tar -c -T - | tar -x --no-same-owner -C "$DESTDIR$docs" --transform 's|^docs/||'
    cp CHANGELOG.md "$DESTDIR$docs/"
}

settings() {
    mkdir -p "$DESTDIR/etc/fos1d/policy" "$DESTDIR/etc/fos1d/workloads.d"
    [ -e "$DESTDIR/etc/fos1d/fos1d.toml" ] || put 644 packaging/fos1d.toml /etc/fos1d/fos1d.toml
}

install_all() {
    [ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || die "run: sudo make install"
    [ -n "$DESTDIR" ] || ! dpkg-query -W -f '${Status}' fos1d 2>/dev/null | grep -q 'ok installed' ||
        die "the package fos1d is installed: remove it first (the data path stays), or use make deb"
    build
    copy_environment
    command_link fos1d
    command_link fos1ctl
    sed "s|/usr/bin/fos1d|$PREFIX/bin/fos1d|; s|/usr/share/doc/fos1d|$docs|" units/fos1d.service |
        put 644 - "$unit"
    put 644 units/fos1d.sysusers "$group"
    .venv/bin/fos1ctl completion bash | put 644 - "$completion"
    documents
    settings
    [ -n "$DESTDIR" ] || start_using
}

start_using() {
    systemd-sysusers "$group"
    echo "fos1d $("$PREFIX/bin/fos1d" --version | cut -d' ' -f2) is installed in $home"
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl try-restart fos1d.service
        systemctl --quiet is-active fos1d.service && { echo "restarted"; return; }
    fi
    echo "settings: /etc/fos1d/fos1d.toml; to start it, now and at boot: systemctl enable --now fos1d"
}

# Uninstalling

uninstall_all() {
    [ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || die "run: sudo make uninstall"
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ] && [ -e "$unit" ]; then
        systemctl --quiet disable --now fos1d.service
    fi
    rm -f "$DESTDIR$unit" "$DESTDIR$group" "$DESTDIR$completion"
    rm -f "$DESTDIR$PREFIX/bin/fos1d" "$DESTDIR$PREFIX/bin/fos1ctl"
    rm -rf "$DESTDIR$home" "$DESTDIR$home.new" "$DESTDIR$home.old" "$DESTDIR$docs"
    [ "$system" = "$PREFIX" ] ||
        rmdir "$DESTDIR$PREFIX/bin" "$DESTDIR$PREFIX/lib" "$DESTDIR$PREFIX" 2>/dev/null || true
    [ -z "$DESTDIR" ] || return 0
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
    echo "fos1d is uninstalled. Kept: /etc/fos1d, /var/lib/fos1d, the group fos1."
    [ -z "$(ls /sys/fs/bpf/fos1 2>/dev/null)" ] ||
        echo "The data path stays in force until the next boot; to clear it now: make install, then" \
            "fos1d purge, then make uninstall."
}

mkdir -p build
case ${1:-} in
build) build ;;
install) install_all ;;
uninstall) uninstall_all ;;
*) die "usage: install.sh build|install|uninstall" ;;
esac

#!/bin/sh
# Install what is missing: packages (as root), the virtual environment, the compiled programs.
# Safe to run again; quick when nothing is missing. See `make setup`.
set -eu
cd "$(dirname "$0")/.."
stamp=build/setup.stamp
step() { printf '  %-28s' "$1"; }

missing_packages() { # of the lists given
    sed 's/#.*//' "$@" | tr -s ' \n' '\n\n' | sort -u | while read -r package; do
        [ -n "$package" ] || continue
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

packages() {
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages (run \`sudo make setup\` once):" $missing
        case " $(echo $missing) " in *" clang-19 "* | *" python3-venv "* | *" libbpf-dev "*) exit 1 ;; esac
        return 0
    fi
    step "apt packages"
    echo "$(echo $missing | wc -w) to install"
    export DEBIAN_FRONTEND=noninteractive
    # A test starts the server that it needs; no other shall run here.
    case " $(echo $missing) " in *" coturn "*) systemctl mask -q coturn.service 2>/dev/null || true ;; esac
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >build/apt.log 2>&1 ||
        { tail -20 build/apt.log; echo "apt-get failed: build/apt.log"; exit 1; }
}

environment() {
    python=/usr/bin/python3
    [ -x "$python" ] || python=python3
    want=$(cat pyproject.toml packaging/constraints.txt | sha256sum)
    [ -x .venv/bin/fos1d ] && [ "$(cat $stamp 2>/dev/null)" = "$want" ] && return 0
    step "virtual environment"
    echo ".venv ($("$python" --version))"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/pip install -q --disable-pip-version-check -c packaging/constraints.txt wheel setuptools >build/pip.log 2>&1 &&
        .venv/bin/pip install -q --disable-pip-version-check --no-build-isolation \
            -c packaging/constraints.txt -e '.[dev]' >>build/pip.log 2>&1 ||
        { tail -20 build/pip.log; echo "pip failed: build/pip.log"; exit 1; }
    echo "$want" >$stamp
}

fuzzer() {
    .venv/bin/python -c 'import atheris' 2>/dev/null && return 0
    step "atheris"
    .venv/bin/pip install -q --disable-pip-version-check --no-build-isolation \
        -c packaging/constraints.txt -e '.[fuzz]' >build/pip.log 2>&1 ||
        { tail -20 build/pip.log; echo "pip failed: build/pip.log"; exit 1; }
    echo ok
}

mkdir -p build
case ${1:-all} in
all) packages packaging/apt-setup.txt; environment ;;
bench) packages packaging/apt-setup.txt packaging/apt-bench.txt; environment ;;
fuzz) packages packaging/apt-setup.txt; environment; fuzzer ;;
*) echo "usage: setup.sh [all|bench|fuzz]"; exit 2 ;;
esac

#!/bin/sh
# What `make check` checks; every failure is shown, not only the first.
set -u
cd "$(dirname "$0")/.."
bad=0
run() {
    printf '  %-28s' "$1"
    shift
    if "$@" >build/check.log 2>&1; then echo ok; else
        echo FAILED
        cat build/check.log
        bad=1
    fi
}
regenerated() {
    .venv/bin/python bpf/tools/gen_abi.py fos1d/objects build/abi.py && diff -u fos1d/abi.py build/abi.py
}
formatted() {
    command -v clang-format-19 >/dev/null || { echo "install clang-format-19"; return 1; }
    clang-format-19 --dry-run -Werror bpf/*.bpf.c bpf/include/fos1/*.h
}
run "ruff check" .venv/bin/ruff check .
run "ruff format" .venv/bin/ruff format --check .
run "mypy --strict" .venv/bin/mypy
run "import layers" .venv/bin/lint-imports
run "C format" formatted
run "abi.py is up to date" regenerated
exit $bad

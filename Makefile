# Two commands show everything: `sudo make demo` and `sudo make test`. Each target does its own
# set-up, and may be run twice.

PY := .venv/bin/python
CLANG ?= clang-19
CLANG_FORMAT ?= clang-format-19
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
BPF_HEADERS := $(wildcard bpf/include/fos1/*.h)
BPF_OBJECTS := $(BPF_SOURCES:bpf/%.bpf.c=fos1d/objects/%.bpf.o)
PREFIX ?= /usr/local
WORKERS ?= $(if $(filter 1,$(shell nproc)),0,2)
MULTIARCH = $(shell gcc -print-multiarch 2>/dev/null)
BPF_FLAGS = -O2 -g -Wall -Wextra -Werror -mcpu=v3 -target bpf -Ibpf/include \
	-I/usr/include/$(MULTIARCH) -ffile-prefix-map=$(CURDIR)=.

.PHONY: help setup bpf gen demo test check bench fuzz clean install uninstall deb test-vm

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## sudo make demo     the main job on real packets, in network namespaces, in about a minute
demo: setup
	@$(PY) -m tests.demo

## sudo make test     all tests; without root those that need none; TESTS=path, WORKERS=2
test: setup
	@$(PY) -m pytest -q -n $(WORKERS) $(TESTS)

## make check         linters, types, import layers, formatting of C, generated files
check: setup
	@sh packaging/check.sh

## sudo make bench    figures beside peers measured in the same lab
bench:
	@sh packaging/setup.sh bench
	@$(MAKE) --no-print-directory bpf
	@$(PY) -m tests.bench $(BENCH)

## sudo make fuzz      each fuzz target for SECONDS (60); TARGETS: manifests netset packets
fuzz:
	@sh packaging/setup.sh fuzz
	@$(MAKE) --no-print-directory bpf
	@$(PY) -m tests.fuzz $(or $(SECONDS),60) $(TARGETS)

## make setup         install what is missing, compile the programs
setup:
	@sh packaging/setup.sh
	@$(MAKE) --no-print-directory bpf

## make bpf           compile bpf/*.bpf.c
bpf: $(BPF_OBJECTS)

fos1d/objects/%.bpf.o: bpf/%.bpf.c $(BPF_HEADERS)
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -c $< -o $@

## make gen           write fos1d/abi.py anew from the compiled programs
gen: setup
	$(PY) bpf/tools/gen_abi.py fos1d/objects fos1d/abi.py

## sudo make install   onto this machine, below PREFIX (/usr/local); make uninstall takes it away
install: setup
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' sh packaging/install.sh install

uninstall:
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' sh packaging/install.sh uninstall

## make deb           the same as a Debian package: dist/fos1d_*.deb
deb: setup
	@DEB_VERSION='$(DEB_VERSION)' DEB_COMPRESS='$(DEB_COMPRESS)' sh packaging/deb.sh

## make test-vm       the package on Debian's kernels 6.1, 6.12 and the newest, in virtual machines
test-vm: setup
	@sh tests/vm/matrix.sh $(VM)

## make clean         remove what was built
clean:
	rm -rf build dist .venv fos1d.egg-info fos1d/objects .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

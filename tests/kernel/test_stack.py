"""Every way through a program's functions fits into the stack that Linux 6.1 allows: 512 bytes, of
which each frame takes a multiple of 32 (kernel/bpf/verifier.c, check_max_stack_depth). Newer
kernels round to 16, so only this tells."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from fos1d.kernel.loader import OBJECTS
from tests import lab

pytestmark = pytest.mark.kernel

ROOM, GRAIN, DEEPEST = 512, 32, 8
NEVER_LOADED = "abi"
NAME = re.compile(r"^\S.*?(\w+)\(.*\):$")
CALL = re.compile(r"call pc[+-]\d+#bpf_prog_\w{16}_(\w+)")
FRAME = re.compile(r"r10 -(\d+)")


def objects() -> list[Path]:
    return sorted(
        path for path in OBJECTS.glob("*.bpf.o") if not path.name.startswith(NEVER_LOADED)
    )


def functions(listing: str) -> dict[str, str]:
    """Return the code of each function of a program, by its name as far as calls show it."""
    found: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if name := NAME.match(line):
            found[name[1][:15]] = code = []
        elif line.startswith(" "):
            code.append(line)
    return {name: "\n".join(code) for name, code in found.items()}


def deepest(code: dict[str, str]) -> tuple[int, tuple[str, ...]]:
    """Return the way through the functions that takes the most, and how much."""

    @cache
    def below(name: str) -> tuple[int, tuple[str, ...]]:
        own = max((int(n) for n in FRAME.findall(code[name])), default=1)
        called = {callee[:15] for callee in CALL.findall(code[name])} & code.keys()
        most, way = max((below(callee) for callee in called), default=(0, ()))
        return most + -(-own // GRAIN) * GRAIN, (name, *way)

    return below(next(iter(code)))


@pytest.mark.parametrize("path", objects(), ids=lambda path: path.name)
def test_every_way_fits(path: Path, bpffs: Path) -> None:
    bpffs.mkdir()
    folder = bpffs / "stack"
    lab.command("bpftool", "prog", "loadall", str(path), str(folder))
    for program in sorted(folder.iterdir()):
        listing = lab.command("bpftool", "prog", "dump", "xlated", "pinned", str(program))
        used, way = deepest(functions(listing))
        assert used <= ROOM and len(way) <= DEEPEST, (program.name, used, way)

"""The inputs to begin with: files kept in corpus/, the examples, and cases written as code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
TARGETS = ("manifests", "netset", "packets")


def seeds_of(target: str) -> list[bytes]:
    """Return a target's seeds, always in the same order."""
    kept = [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]
    return [*kept, *MADE[target]()]


def words_of(target: str) -> str:
    """Return the words of a target's text seeds, as a dictionary for libFuzzer."""
    text = b"\n".join(seeds_of(target)) if target != "packets" else b""
    words = {word.decode() for word in re.findall(rb"[A-Za-z][A-Za-z0-9.-]{2,40}:?", text)}
    return "".join(f'"{word}"\n' for word in sorted(words))


def _manifests() -> Iterator[bytes]:
    for folder in ("examples", "tests/golden"):
        for path in sorted((ROOT / folder).rglob("*.yaml")):
            yield path.read_bytes()


def _netset() -> Iterator[bytes]:
    for path in sorted((ROOT / "examples").rglob("*.netset")):
        yield path.read_bytes()
    yield b"1.2.3.4\n10.0.0.0/8 # private\n;\n\t2001:DB8::/32\r\n::ffff:1.2.3.4\n1.2.3.4/33\n"
    yield b"0.0.0.0/0\n::/0\nfe80::1%eth0\n1.2.3\n01.2.3.4\n1.2.3.4/255.0.0.0\n10.0.0.1/8\n"


def _packets() -> Iterator[bytes]:
    for family in (0, 1):
        for tags in range(4):
            layers = bytes([tags, *range(tags)])
            for pppoe in (0, 3):
                yield bytes([family]) + layers + bytes([pppoe]) + bytes(8) + b"\x05" * 40
    yield b"\x80" + bytes(12) + b"\x08\x00" + b"\x45" + bytes(40)


MADE = {"manifests": _manifests, "netset": _netset, "packets": _packets}

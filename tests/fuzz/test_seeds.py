"""The fuzz targets on their seeds and on random changes of these: the same ones at each run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

import pytest

from tests.fuzz import manifests, netset, packets
from tests.fuzz.seeds import seeds_of

PIECES = [b"\n", b"  ", b"- ", b": ", b"{", b"]", b"'", b'"', b"#", b"0", b"/", b"::", b"\xff"]


@cache
def inputs(target: str, count: int) -> list[bytes]:
    """Return the seeds, and so many changes of them."""
    seeds, chance = seeds_of(target), random.Random(target)
    return [*seeds, *(changed(chance, seeds) for _ in range(count))]


def changed(chance: random.Random, seeds: list[bytes]) -> bytes:
    """Return a seed with some parts removed, doubled, replaced, or taken from another."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        begin = chance.randrange(len(data) + 1)
        end = min(len(data), begin + chance.randint(0, 12))
        data[begin:end] = chance.choice(list(_parts(chance, bytes(data[begin:end]), seeds)))
    return bytes(data)


def _parts(chance: random.Random, old: bytes, seeds: list[bytes]) -> Iterator[bytes]:
    other = chance.choice(seeds)
    place = chance.randrange(len(other) + 1)
    yield from (b"", old * 2, chance.choice(PIECES), other[place : place + 20])
    yield bytes(byte ^ 1 << chance.randrange(8) for byte in old)
    yield chance.randbytes(len(old))


def test_manifests() -> None:
    for data in inputs("manifests", 400):
        manifests.check(data)


def test_netsets() -> None:
    for data in inputs("netset", 1000):
        netset.check(data)


@pytest.mark.kernel
def test_packets() -> None:
    with packets.pinned() as pins, packets.opened(pins) as target:
        for data in inputs("packets", 10000):
            target.check(data)

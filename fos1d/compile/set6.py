"""A set of IPv6 addresses as the arrays that bpf/include/fos1/set.h reads.

The sorted bounds of the merged ranges (first addresses, and the addresses behind the last ones)
are the leaves of a static B+ tree; a hashed bitmap of leading bits stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.compile.ranges import FILTERED_BITS, Ranges6, Touched, repeated
from fos1d.compile.tree import build_tree, level_bases

NODE = np.dtype(abi.SET6_NODE)
KEYS, MOST_LEVELS = abi.Size.SET6_KEYS, abi.Size.SET6_LEVELS
FILTER_BITS = abi.Size.SET6_FILTER_WORDS * 64

Words = npt.NDArray[np.uint64]

ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# Where the hash says which bits of a word.
BIT_SHIFTS = np.array([40, 34, 28], np.uint64)
MOST_FILTERED = FILTER_BITS // 4
# So many numbers, and what is computed of them, a CPU's cache can hold.
IN_CACHE = 1 << 15


class Bounded(Protocol):
    """Ranges, or what knows as much of them as the knobs need."""

    def __len__(self) -> int:
        """Return how many ranges there are."""

    @property
    def is_open_ended(self) -> bool:
        """Whether the very last address is a member."""

    def touched(self) -> Touched:
        """Return how many values of the first 64, 60, ... 4 bits the ranges touch."""


@dataclass(frozen=True, slots=True, eq=False)
class Set6:
    """The arrays, and the knobs that go with them.

    `level_base` is the index of each level's first node, the root's level first.
    """

    filter: Words = field(repr=False)
    filter_bits: int
    nodes: npt.NDArray[np.void] = field(repr=False)
    level_base: tuple[int, ...]


def build_set6(ranges: Ranges6, known: Bounded | None = None) -> Set6:
    """Build the arrays for merged ranges; `known` may say sooner than they what bits they touch."""
    bits, bases = filter_bits(known or ranges), level_base(ranges)
    if len(bases) > MOST_LEVELS:
        raise ValueError(f"{len(ranges)} ranges need more than {MOST_LEVELS} levels")
    high, low = _bounds(ranges)
    return Set6(_filter(ranges, bits), bits, build_tree({"high": high, "low": low}, NODE), bases)


def level_base(ranges: Bounded) -> tuple[int, ...]:
    """Return the index of each level's first node, the root's level first."""
    return level_bases(2 * len(ranges) - ranges.is_open_ended, KEYS)


def _bounds(ranges: Ranges6) -> tuple[Words, Words]:
    """Return the sorted bounds: each range's first address and the one behind its last."""
    high, low = np.empty(2 * len(ranges), np.uint64), np.empty(2 * len(ranges), np.uint64)
    high[::2], low[::2] = ranges.first_high, ranges.first_low
    low[1::2] = ranges.last_low + np.uint64(1)
    high[1::2] = ranges.last_high + (low[1::2] == 0)
    # Behind the very last address there is none: that range just never ends.
    return (high[:-1], low[:-1]) if ranges.is_open_ended else (high, low)


def filter_bits(ranges: Bounded) -> int:
    """Return the most leading bits that keep the filter sparse: shorter prefixes fill it."""
    fits = np.flatnonzero(ranges.touched() <= MOST_FILTERED)
    return int(FILTERED_BITS[fits[0]]) if len(fits) else 0


def _filter(ranges: Ranges6, bits: int) -> Words:
    """Return the bitmap with the three bits, in one word, of every leading part that a range
    touches."""
    if bits == 0:
        return np.full(FILTER_BITS // 64, ALL_ONES)
    shift = np.uint64(64 - bits)
    first, last = ranges.first_high >> shift, ranges.last_high >> shift
    if (first != last).any():
        of, nth = repeated((last - first).astype(np.int64) + 1)
        first = first[of] + nth.astype(np.uint64)
    marks = np.zeros(FILTER_BITS, np.bool_)
    for begin in range(0, len(first), IN_CACHE):
        hashed = first[begin : begin + IN_CACHE] * GOLDEN
        word = (hashed >> np.uint64(46) << np.uint64(6)).astype(np.int64)
        for shift in BIT_SHIFTS:
            marks[word | (hashed >> shift & np.uint64(63)).astype(np.int64)] = True
    return np.packbits(marks, bitorder="little").view("<u8")

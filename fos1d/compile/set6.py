"""A set of IPv6 addresses as the arrays that bpf/include/fos1/set.h reads.

The sorted bounds of the merged ranges (first addresses, and the addresses behind the last ones)
are the leaves of a static B+ tree; a hashed bitmap of leading bits stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.compile.ranges import Ranges6

NODE = np.dtype(abi.SET6_NODE)
KEYS, FANOUT, MOST_LEVELS = abi.Size.SET6_KEYS, abi.Size.SET6_FANOUT, abi.Size.SET6_LEVELS
FILTER_BITS = abi.Size.SET6_FILTER_WORDS * 64

Words = npt.NDArray[np.uint64]

ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MOST_FILTERED = FILTER_BITS // 4
LONGEST_FILTERED = 64


@dataclass(frozen=True, slots=True, eq=False)
class Set6:
    """The arrays, and the knobs that go with them.

    `level_base` is the index of each level's first node, the root's level first.
    """

    filter: Words = field(repr=False)
    filter_bits: int
    nodes: npt.NDArray[np.void] = field(repr=False)
    level_base: tuple[int, ...]


def build_set6(ranges: Ranges6) -> Set6:
    """Build the arrays for merged ranges."""
    high, low = _bounds(ranges)
    bits = filter_bits(ranges)
    nodes = np.concatenate(_levels(high, low))
    return Set6(_filter(ranges, bits), bits, nodes, level_base(ranges))


def level_base(ranges: Ranges6) -> tuple[int, ...]:
    """Return the index of each level's first node, the root's level first."""
    high, _ = _bounds(ranges)
    sizes = [max(1, -(-len(high) // KEYS))]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // FANOUT))
    return tuple(sum(sizes[::-1][:level]) for level in range(len(sizes)))


def _bounds(ranges: Ranges6) -> tuple[Words, Words]:
    """Return the sorted bounds: each range's first address and the one behind its last."""
    end_low = ranges.last_low + np.uint64(1)
    end_high = ranges.last_high + (end_low == 0)
    high = np.stack([ranges.first_high, end_high], axis=1).ravel()
    low = np.stack([ranges.first_low, end_low], axis=1).ravel()
    # Behind the very last address there is none: that range just never ends.
    open_ended = len(high) > 0 and high[-1] == 0 and low[-1] == 0
    return (high[:-1], low[:-1]) if open_ended else (high, low)


def _levels(high: Words, low: Words) -> list[npt.NDArray[np.void]]:
    """Return the tree's levels, the root's first. Spare keys are all ones."""
    level = _node_rows(high, low, KEYS)
    levels = [level]
    lowest_high, lowest_low = level["high"][:, 0], level["low"][:, 0]
    while len(level) > 1:
        level = _parents(lowest_high, lowest_low)
        lowest_high, lowest_low = lowest_high[::FANOUT], lowest_low[::FANOUT]
        levels.append(level)
    if len(levels) > MOST_LEVELS:
        raise ValueError(f"{len(high)} bounds need more than {MOST_LEVELS} levels")
    return levels[::-1]


def _node_rows(high: Words, low: Words, width: int) -> npt.NDArray[np.void]:
    rows = max(1, -(-len(high) // width))
    nodes = np.zeros(rows, NODE)
    for name, column in (("high", high), ("low", low)):
        padded = np.full(rows * width, ALL_ONES)
        padded[: len(column)] = column
        nodes[name] = padded.reshape(rows, width)[:, -KEYS:]
    return nodes


def _parents(lowest_high: Words, lowest_low: Words) -> npt.NDArray[np.void]:
    """Return the level above: a node's keys are the lowest of its children but the first."""
    return _node_rows(lowest_high, lowest_low, FANOUT)


def filter_bits(ranges: Ranges6) -> int:
    """Return the most leading bits that keep the filter sparse: shorter prefixes fill it."""
    for bits in range(LONGEST_FILTERED, 0, -4):
        first, last = _leading(ranges.first_high, bits), _leading(ranges.last_high, bits)
        if float((last - first).astype(np.float64).sum()) + len(ranges) <= MOST_FILTERED:
            return bits
    return 0


def _leading(high: Words, bits: int) -> Words:
    return high >> np.uint64(64 - bits)


def _filter(ranges: Ranges6, bits: int) -> Words:
    """Return the bitmap with the hash of every leading part that a range touches."""
    if bits == 0:
        return np.full(FILTER_BITS // 64, ALL_ONES)
    first, last = _leading(ranges.first_high, bits), _leading(ranges.last_high, bits)
    count = (last - first).astype(np.int64) + 1
    nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    touched = np.repeat(first, count) + nth.astype(np.uint64)
    marks = np.zeros(FILTER_BITS, np.uint8)
    marks[(touched * GOLDEN) >> np.uint64(40)] = 1
    return np.packbits(marks, bitorder="little").view("<u8")

"""Ranges by the first octet of their addresses, so that a change of a few costs little.

A shard is never changed in place: versions of a list share those in which they do not differ, and
whoever built something of a shard knows it again by its identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fos1d.compile.ranges import Ranges4, Ranges6

Ranges = TypeVar("Ranges", Ranges4, Ranges6)
Index = npt.NDArray[np.int64]


def shards_of(ranges: Ranges) -> dict[int, Ranges]:
    """Return the ranges by first octet; those that span several are cut."""
    return dict(_by_octet(ranges.cut_at_octets()))


def _by_octet(ranges: Ranges) -> Iterator[tuple[int, Ranges]]:
    octets = ranges.octets()
    order = np.argsort(octets, kind="stable")
    bounds = np.searchsorted(octets[order], np.arange(257))
    for octet in np.flatnonzero(np.diff(bounds)).tolist():
        yield octet, ranges.taken(order[bounds[octet] : bounds[octet + 1]])


def changed(shards: Mapping[int, Ranges], removed: Ranges, added: Ranges) -> dict[int, Ranges]:
    """Return the shards without one instance of each removed range, and with the added ones.

    What is not concerned stays the same object. Raises ValueError if a removed one is not there.
    """
    removed, added = removed.cut_at_octets(), added.cut_at_octets()
    delta, count = _tally(removed, added)
    after = dict(shards)
    octets = delta.octets()
    for octet in sorted(set(octets[count != 0].tolist())):
        here = (octets == octet) & (count != 0)
        after[octet] = _corrected(after.get(octet), delta.taken(here), count[here])
        if not len(after[octet]):
            del after[octet]
    return after


def _corrected(shard: Ranges | None, delta: Ranges, count: Index) -> Ranges:
    fewer = delta.taken(np.repeat(np.arange(len(count)), np.maximum(-count, 0)))
    more = delta.taken(np.repeat(np.arange(len(count)), np.maximum(count, 0)))
    every = more if shard is None else type(delta).concatenated([shard, more])
    ranges, times = _tally(fewer, every)
    if (times < 0).any():
        raise ValueError("a range to be removed was not there")
    return ranges.taken(np.repeat(np.arange(len(times)), times))


def _tally(minus: Ranges, plus: Ranges) -> tuple[Ranges, Index]:
    """Return each range once, and how much more often it is in `plus` than in `minus`."""
    both = type(plus).concatenated([minus, plus])
    sign = np.repeat(np.array([-1, 1]), [len(minus), len(plus)])
    order = both.order()
    both = both.taken(order)
    starts = both.starts_of_equal()
    if not len(starts):
        return both, starts
    return both.taken(starts), np.add.reduceat(sign[order], starts)

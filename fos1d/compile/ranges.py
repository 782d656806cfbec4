"""Ranges of addresses in bulk: sorted, merged, compared as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Touched = npt.NDArray[np.float64]
Selection = npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice


@dataclass(frozen=True, slots=True, eq=False)
class Ranges4:
    """IPv4 ranges: first and last address of each, both inclusive."""

    first: U32 = field(repr=False)
    last: U32 = field(repr=False)

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def empty(cls) -> Ranges4:
        """Return no ranges."""
        return cls(np.empty(0, np.uint32), np.empty(0, np.uint32))

    @classmethod
    def from_bounds(cls, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> Ranges4:
        """Return the ranges with the given bounds."""
        return cls(first.astype(np.uint32), last.astype(np.uint32))

    @classmethod
    def of(cls, networks: Iterable[IPv4Network]) -> Ranges4:
        """Return the ranges of a few networks."""
        pairs = [(int(n.network_address), int(n.broadcast_address)) for n in networks]
        bounds = np.array(pairs, np.uint32).reshape(-1, 2)
        return cls(bounds[:, 0].copy(), bounds[:, 1].copy())

    @classmethod
    def concatenated(cls, parts: Sequence[Ranges4]) -> Ranges4:
        """Return the ranges of all parts."""
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([p.first for p in parts]), np.concatenate([p.last for p in parts])
        )

    def merged(self) -> Ranges4:
        """Return the same addresses as sorted ranges with a gap between any two."""
        if not len(self):
            return self
        both = self._both()
        both.sort()
        first, last = (both >> np.uint64(32)).astype(np.uint32), both.astype(np.uint32)
        reach = np.maximum.accumulate(last)
        # A range begins where the one before it has ended at least one address earlier.
        begins = np.ones(len(first), np.bool_)
        begins[1:] = first[1:].astype(np.int64) > reach[:-1].astype(np.int64) + 1
        ends = np.append(np.flatnonzero(begins)[1:] - 1, len(first) - 1)
        return Ranges4(first[begins], reach[ends])

    def digest(self) -> str:
        """Return a digest of the ranges as they are."""
        content = hashlib.sha256(self.first.tobytes())
        content.update(self.last.tobytes())
        return content.hexdigest()

    @property
    def addresses(self) -> int:
        """How many addresses merged ranges hold."""
        return int((self.last.astype(np.int64) - self.first).sum()) + len(self)

    def taken(self, which: Selection) -> Ranges4:
        """Return copies of some of the ranges."""
        return Ranges4(np.array(self.first[which]), np.array(self.last[which]))

    def order(self) -> npt.NDArray[np.int64]:
        """Return the order in which equal ranges stand side by side."""
        return np.argsort(self._both())

    def starts_of_equal(self) -> npt.NDArray[np.int64]:
        """Return where, in ordered ranges, each begins that is not like the one before it."""
        return _changes(self._both())

    def octets(self) -> npt.NDArray[np.uint8]:
        """Return the first octet of each first address."""
        return (self.first >> np.uint32(24)).astype(np.uint8)

    def cut_at_octets(self) -> Ranges4:
        """Return the same addresses as ranges that have one first octet each."""
        first, last = self.first.astype(np.int64), self.last.astype(np.int64)
        count = (last >> 24) - (first >> 24) + 1
        if (count == 1).all():
            return self
        of, nth = repeated(count)
        border = ((first >> 24)[of] + nth) << 24
        return Ranges4.from_bounds(
            np.maximum(first[of], border), np.minimum(last[of], border + 0xFFFFFF)
        )

    def _both(self) -> U64:
        return self.first.astype(np.uint64) << np.uint64(32) | self.last


@dataclass(frozen=True, slots=True, eq=False)
class Ranges6:
    """IPv6 ranges: the upper and lower 64 bits of the first and last address of each."""

    first_high: U64 = field(repr=False)
    first_low: U64 = field(repr=False)
    last_high: U64 = field(repr=False)
    last_low: U64 = field(repr=False)

    def __len__(self) -> int:
        return len(self.first_high)

    @classmethod
    def empty(cls) -> Ranges6:
        """Return no ranges."""
        return cls(*(np.empty(0, np.uint64) for _ in range(4)))

    @classmethod
    def of(cls, networks: Iterable[IPv6Network]) -> Ranges6:
        """Return the ranges of a few networks."""
        words = [
            (first >> 64, first & LOW, last >> 64, last & LOW)
            for first, last in (
                (int(n.network_address), int(n.broadcast_address)) for n in networks
            )
        ]
        columns = np.array(words, np.uint64).reshape(-1, 4).T
        return cls(*(column.copy() for column in columns))

    @classmethod
    def from_prefixes(
        cls, high: U64, low: U64, bits: npt.NDArray[np.int64]
    ) -> tuple[Ranges6, npt.NDArray[np.bool_]]:
        """Return the ranges of the prefixes, and which of these have no bits set behind them.

        Those that have are left out.
        """
        rest_high, rest_low = _ones_below(64 - bits), _ones_below(128 - bits)
        aligned = ((high & rest_high) == 0) & ((low & rest_low) == 0)
        bounds = (high, low, high | rest_high, low | rest_low)
        return cls(*(bound[aligned] for bound in bounds)), aligned

    @classmethod
    def concatenated(cls, parts: Sequence[Ranges6]) -> Ranges6:
        """Return the ranges of all parts."""
        if not parts:
            return cls.empty()
        columns = zip(*(part._columns() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def merged(self) -> Ranges6:
        """Return the same addresses as sorted ranges with a gap between any two."""
        if not len(self):
            return self
        order = _order_of(self.first_high, self.first_low)
        first_high, first_low, last_high, last_low = (c[order] for c in self._columns())
        reach_high, reach_low = _running_maximum(last_high, last_low)
        next_low = reach_low + np.uint64(1)
        next_high = reach_high + (next_low == 0)
        wrapped = (next_low == 0) & (next_high == 0)
        begins = np.ones(len(order), np.bool_)
        begins[1:] = _above(first_high[1:], first_low[1:], next_high[:-1], next_low[:-1])
        begins[1:] &= ~wrapped[:-1]
        ends = np.append(np.flatnonzero(begins)[1:] - 1, len(order) - 1)
        return Ranges6(first_high[begins], first_low[begins], reach_high[ends], reach_low[ends])

    def digest(self) -> str:
        """Return a digest of the ranges as they are."""
        content = hashlib.sha256()
        for column in self._columns():
            content.update(column.tobytes())
        return content.hexdigest()

    def taken(self, which: Selection) -> Ranges6:
        """Return copies of some of the ranges."""
        return Ranges6(*(np.array(column[which]) for column in self._columns()))

    def order(self) -> npt.NDArray[np.int64]:
        """Return the order in which equal ranges stand side by side."""
        return np.lexsort(self._columns())

    def starts_of_equal(self) -> npt.NDArray[np.int64]:
        """Return where, in ordered ranges, each begins that is not like the one before it."""
        return _changes(*self._columns())

    def octets(self) -> npt.NDArray[np.uint8]:
        """Return the first octet of each first address."""
        return (self.first_high >> np.uint64(56)).astype(np.uint8)

    def cut_at_octets(self) -> Ranges6:
        """Return the same addresses as ranges that have one first octet each."""
        first, last = self.octets().astype(np.int64), (self.last_high >> np.uint64(56))
        count = last.astype(np.int64) - first + 1
        if (count == 1).all():
            return self
        of, nth = repeated(count)
        border = (first[of] + nth).astype(np.uint64) << np.uint64(56)
        is_first, is_last = nth == 0, nth == count[of] - 1
        return Ranges6(
            np.where(is_first, self.first_high[of], border),
            np.where(is_first, self.first_low[of], 0),
            np.where(is_last, self.last_high[of], border | np.uint64((1 << 56) - 1)),
            np.where(is_last, self.last_low[of], np.uint64(LOW)),
        )

    @property
    def is_open_ended(self) -> bool:
        """Whether merged ranges hold the very last address."""
        return len(self) > 0 and int(self.last_high[-1] & self.last_low[-1]) == LOW

    def touched(self) -> Touched:
        """Return how many values of the first 64, 60, ... 4 bits merged ranges touch, a value that
        two ranges touch counted twice."""
        spans = (
            ((self.last_high >> shift) - (self.first_high >> shift)).astype(np.float64).sum()
            for shift in 64 - FILTERED_BITS
        )
        return np.array(list(spans)) + len(self)

    def _columns(self) -> tuple[U64, U64, U64, U64]:
        return self.first_high, self.first_low, self.last_high, self.last_low


LOW = (1 << 64) - 1
# How many leading bits may decide whether an address can be a member, the most first.
FILTERED_BITS = np.arange(64, 0, -4, dtype=np.uint64)


def _ones_below(count: npt.NDArray[np.int64]) -> U64:
    """Return words with the `count` lowest bits set; count is taken as 0 to 64."""
    count = np.clip(count, 0, 64)
    shift = np.minimum(count, 63).astype(np.uint64)
    ones = (np.uint64(1) << shift) - np.uint64(1)
    return np.where(count == 64, np.uint64(LOW), ones)


def _above(high: U64, low: U64, than_high: U64, than_low: U64) -> npt.NDArray[np.bool_]:
    above: npt.NDArray[np.bool_] = (high > than_high) | ((high == than_high) & (low > than_low))
    return above


def _order_of(high: U64, low: U64) -> npt.NDArray[np.int64]:
    """Return the order of 128-bit numbers; most have the same lower half, as prefixes do."""
    return np.lexsort((low, high)) if (low != low[0]).any() else np.argsort(high, kind="stable")


def _running_maximum(high: U64, low: U64) -> tuple[U64, U64]:
    """Return, for each place, the largest 128-bit number up to it."""
    if not _above(high[:-1], low[:-1], high[1:], low[1:]).any():
        return high, low
    by_size = np.lexsort((low, high))
    rank = np.empty(len(high), np.int64)
    rank[by_size] = np.arange(len(high))
    largest = by_size[np.maximum.accumulate(rank)]
    return high[largest], low[largest]


def _changes(*columns: U64) -> npt.NDArray[np.int64]:
    """Return the places whose values differ from those before, the first place among them."""
    begins = np.ones(len(columns[0]), np.bool_)
    begins[1:] = False
    for column in columns:
        begins[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(begins)


def repeated(count: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each index as often as `count` says, and beside it 0, 1, 2 and so on."""
    of = np.repeat(np.arange(len(count)), count)
    return of, np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)

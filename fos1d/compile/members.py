"""The members of a set by first octet: merged, digested and built one part at a time.

A part knows the shards that it was made of, so a set that differs from an earlier one in a few
addresses shares all other parts with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fos1d.compile.ranges import Ranges4, Ranges6, Touched
from fos1d.compile.set4 import Set4, Slash8, build_slash8, put_together
from fos1d.compile.set6 import Set6, build_set6
from fos1d.compile.shards import Ranges

Source = tuple[int, ...]

LAYOUT = b"2"
"""Changes when the same members become other arrays: new programs must not read old ones."""


@dataclass(frozen=True, eq=False)
class Part4:
    """The IPv4 members of one /8, made of the shards of one or several lists.

    Of the merged ranges only the count, the first and the digest are kept: they are seldom wanted
    again, and the shards have them.
    """

    shards: tuple[Ranges4, ...] = field(repr=False)
    count: int
    first: int
    digest: bytes

    @classmethod
    def of(cls, shards: tuple[Ranges4, ...]) -> Part4:
        """Return the union of shards that have members."""
        merged = Ranges4.concatenated(shards).merged()
        return cls(shards, len(merged), int(merged.first[0]), bytes.fromhex(merged.digest()))

    @cached_property
    def slash8(self) -> Slash8:
        """The arrays."""
        return build_slash8(Ranges4.concatenated(self.shards).merged())


@dataclass(frozen=True, eq=False)
class Part6:
    """The IPv6 members of one /8, made of the shards of one or several lists."""

    shards: tuple[Ranges6, ...] = field(repr=False)
    ranges: Ranges6
    digest: bytes
    touched: Touched = field(repr=False)

    @classmethod
    def of(cls, shards: tuple[Ranges6, ...]) -> Part6:
        """Return the union of shards that have members."""
        merged = Ranges6.concatenated(shards).merged()
        return cls(shards, merged, bytes.fromhex(merged.digest()), merged.touched())


@dataclass(frozen=True, eq=False)
class Members4:
    """The IPv4 members of a set, by first octet; merged but for ranges that meet between two."""

    parts: Mapping[int, Part4] = field(repr=False)

    def __len__(self) -> int:
        return sum(part.count for part in self.parts.values())

    def digest(self) -> str:
        """Return a digest: equal sets have equal ones."""
        return _digest((octet, part.digest) for octet, part in self.parts.items())

    def first(self) -> int:
        """Return the lowest member; there must be one."""
        return self.parts[min(self.parts)].first

    def arrays(self) -> Set4:
        """Return the arrays that the programs read."""
        return put_together({octet: part.slash8 for octet, part in self.parts.items()})


@dataclass(frozen=True, eq=False)
class Members6:
    """The IPv6 members of a set, by first octet; merged but for ranges that meet between two."""

    parts: Mapping[int, Part6] = field(repr=False)

    def __len__(self) -> int:
        return sum(len(part.ranges) for part in self.parts.values())

    def digest(self) -> str:
        """Return a digest: equal sets have equal ones."""
        return _digest((octet, part.digest) for octet, part in self.parts.items())

    def first(self) -> tuple[int, int]:
        """Return the lowest member's upper and lower half; there must be one."""
        ranges = self.parts[min(self.parts)].ranges
        return int(ranges.first_high[0]), int(ranges.first_low[0])

    @property
    def is_open_ended(self) -> bool:
        """Whether the very last address is a member."""
        return 255 in self.parts and self.parts[255].ranges.is_open_ended

    def touched(self) -> Touched:
        """Return how many values of the first 64, 60, ... 4 bits the ranges touch."""
        empty: Touched = Ranges6.empty().touched()
        return sum((part.touched for part in self.parts.values()), start=empty)

    def arrays(self) -> Set6:
        """Return the arrays that the programs read."""
        ranges = Ranges6.concatenated([part.ranges for _, part in sorted(self.parts.items())])
        return build_set6(ranges, self)


def _digest(parts: Iterable[tuple[int, bytes]]) -> str:
    content = hashlib.sha256(LAYOUT)
    for octet, digest in sorted(parts):
        content.update(bytes([octet]) + digest)
    return content.hexdigest()


def members4(lists: Sequence[Mapping[int, Ranges4]], known: Iterable[Members4]) -> Members4:
    """Return the union of lists, sharing parts with the known sets."""
    before = {_source(o, part.shards): part for old in known for o, part in old.parts.items()}
    return Members4(
        {
            octet: before.get(_source(octet, shards)) or Part4.of(shards)
            for octet, shards in _by_octet(lists)
        }
    )


def members6(lists: Sequence[Mapping[int, Ranges6]], known: Iterable[Members6]) -> Members6:
    """Return the union of lists, sharing parts with the known sets."""
    before = {_source(o, part.shards): part for old in known for o, part in old.parts.items()}
    return Members6(
        {
            octet: before.get(_source(octet, shards)) or Part6.of(shards)
            for octet, shards in _by_octet(lists)
        }
    )


def _by_octet(lists: Sequence[Mapping[int, Ranges]]) -> Iterator[tuple[int, tuple[Ranges, ...]]]:
    for octet in sorted(set().union(*lists)):
        yield octet, tuple(shards[octet] for shards in lists if octet in shards)


def _source(octet: int, shards: Sequence[Ranges4] | Sequence[Ranges6]) -> Source:
    """Return what tells parts that live at once apart: their shards' identities."""
    return octet, *map(id, shards)

"""Where two versions of a text differ, in whole lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Edit:
    """The lines from `begin` to `end_before` became those from `begin` to `end_after`."""

    begin: int
    end_before: int
    end_after: int

    @property
    def bytes(self) -> int:
        """How many bytes of both versions it spans."""
        return self.end_before + self.end_after - 2 * self.begin


def edit_between(before: bytes, after: bytes) -> Edit:
    """Return the one edit that turns `before` into `after`: all between the first line and the
    last in which they differ."""
    begin = before.rfind(b"\n", 0, _common_prefix(before, after)) + 1
    tail = _common_suffix(before, after, min(len(before), len(after)) - begin)
    end = len(before) - tail
    if tail and (end, len(after) - tail) != (begin, begin):
        # The common end may begin within a line: its next newline does not.
        end = (before.find(b"\n", end) + 1) or len(before)
    return Edit(begin, end, end + len(after) - len(before))


def _common_prefix(one: bytes, other: bytes) -> int:
    most, at = min(len(one), len(other)), 0
    while at < most and one[at : at + BLOCK_BYTES] == other[at : at + BLOCK_BYTES]:
        at += BLOCK_BYTES
    end = min(at + BLOCK_BYTES, most)
    return min(at, most) if at >= most else at + _equal(one[at:end], other[at:end])


def _common_suffix(one: bytes, other: bytes, most: int) -> int:
    count = 0
    while count < most:
        size = min(BLOCK_BYTES, most - count)
        left = one[len(one) - count - size : len(one) - count]
        right = other[len(other) - count - size : len(other) - count]
        if left != right:
            return count + _equal(left[::-1], right[::-1])
        count += size
    return count


def _equal(one: bytes, other: bytes) -> int:
    """Return how many bytes at the beginning are equal."""
    differ = np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8)
    return int(differ.argmax()) if differ.any() else len(one)

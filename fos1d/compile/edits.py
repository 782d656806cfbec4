"""Where two versions of a text differ, in whole lines; the newer comes in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np


@dataclass(frozen=True, slots=True)
class Edit:
    """The lines of the older version from byte `begin` to byte `end` became `text`."""

    begin: int
    end: int
    text: bytes


def edit_between(before: bytes, size: int, pieces: Iterable[bytes], most: int) -> Edit | None:
    """Return the one edit that turns `before` into a text of `size` bytes: all between the first
    line and the last in which they differ.

    None if that is more than `most` bytes of either text, or if the pieces have another size. Not
    all of them need be taken then.
    """
    rest, growth = iter(pieces), size - len(before)
    first, differing = _skip_common(before, rest)
    text = bytearray()
    # new[first:same] is `text`; new[same:at] is as long before the end the same in the older.
    at = same = first
    for piece in chain((differing,), rest):
        count = len(piece)
        if at + count > size:
            return None
        # The end that they share must not reach into the beginning that they share.
        own = min(max(first + growth - at, 0), count)
        shared = _equal_at_end(piece[own:], before[at + own - growth : at + count - growth])
        if shared < count:
            text += before[same - growth : at - growth] + piece[: count - shared]
            same = at + count - shared
        at += count
        if len(text) > most:
            return None
    if at < size or same - growth - first > most:
        return None
    return _in_whole_lines(before, first, same - growth, bytes(text))


def _skip_common(before: bytes, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """Take the pieces that are as in `before`; return where the first difference is, and what is
    left of the piece that has it."""
    at = 0
    for piece in pieces:
        end = at + len(piece)
        if piece != before[at:end]:
            equal = _equal_at_begin(piece, before[at:end])
            return at + equal, piece[equal:]
        at = end
    return at, b""


def _in_whole_lines(before: bytes, begin: int, end: int, text: bytes) -> Edit:
    line = before.rfind(b"\n", 0, begin) + 1
    last = end if end == len(before) else (before.find(b"\n", end) + 1 or len(before))
    return Edit(line, last, before[line:begin] + text + before[end:last])


def _equal_at_begin(one: bytes, other: bytes) -> int:
    """Return how many bytes at the beginning are equal."""
    count = min(len(one), len(other))
    differ = np.frombuffer(one, np.uint8, count) != np.frombuffer(other, np.uint8, count)
    return int(differ.argmax()) if differ.any() else count


def _equal_at_end(one: bytes, other: bytes) -> int:
    """Return how many bytes at the end of two equally long texts are equal."""
    if one == other:
        return len(one)
    differ = np.frombuffer(one, np.uint8)[::-1] != np.frombuffer(other, np.uint8)[::-1]
    return int(differ.argmax())

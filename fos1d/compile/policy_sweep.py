"""Which rules match in which interval of a dimension: one bit vector an interval, each kept once.

The borders of all ranges cut a dimension into intervals; at a border the bits of the rules
toggle whose ranges begin or have ended there. An interval's signature is the exclusive or of a
random 128-bit key of each of its rules, so that equal vectors are found without making any. The
keys are derived from the rules themselves: nobody can choose rules whose signatures collide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fos1d.compile.policy_model import Span

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Columns = tuple[U64, ...]

LOW = (1 << 64) - 1
# Vectors that are made at a time.
BLOCK = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """The toggles of a dimension: at interval `at[i]` the bit of rule `rule[i]` changes. Those that
    set a bit come first: `begins` of them.

    `lasts` is the last value of each interval but the last, as columns of 64-bit words, the
    highest first.
    """

    lasts: Columns = field(repr=False)
    at: Places = field(repr=False)
    rule: Places = field(repr=False)
    begins: int

    @property
    def intervals(self) -> int:
        """How many intervals there are."""
        return len(self.lasts[0]) + 1

    def signatures(self, keys: Columns) -> Columns:
        """Return the signature of each interval."""
        return tuple(self._signature(key) for key in keys)

    def _signature(self, key: U64) -> U64:
        toggled = np.zeros(self.intervals, np.uint64)
        np.bitwise_xor.at(toggled, self.at, key[self.rule])
        return np.bitwise_xor.accumulate(toggled)

    def totals(self, numbers: Places) -> Places:
        """Return the sum over the rules that match in each interval; each rule has a number."""
        change, number = np.zeros(self.intervals, np.int64), numbers[self.rule]
        np.add.at(change, self.at[: self.begins], number[: self.begins])
        np.subtract.at(change, self.at[self.begins :], number[self.begins :])
        return np.cumsum(change)

    def blocks(self, intervals: Places, words: int) -> Iterator[U64]:
        """Yield the vectors of some intervals, in ascending order, block by block."""
        group = np.searchsorted(intervals, self.at)
        order = np.argsort(group, kind="stable")
        group, rule = group[order], self.rule[order]
        carry = np.zeros(words, np.uint64)
        for begin in range(0, len(intervals), BLOCK):
            rows = np.zeros((min(BLOCK, len(intervals) - begin), words), np.uint64)
            here = slice(*np.searchsorted(group, (begin, begin + len(rows))))
            toggle_bits(rows, group[here] - begin, rule[here])
            rows[0] ^= carry
            np.bitwise_xor.accumulate(rows, axis=0, out=rows)
            carry = rows[-1].copy()
            yield rows


def sweep(spans_of_rules: Sequence[Sequence[Span]], bits: int) -> Sweep:
    """Return the toggles of a dimension of numbers of `bits`; a rule's ranges are disjoint."""
    spans = [span for spans in spans_of_rules for span in spans]
    counts = np.array([len(spans) for spans in spans_of_rules], np.int64)
    rule = np.repeat(np.arange(len(counts)), counts)
    begins = _columns([first for first, _ in spans], bits)
    # A range that reaches the very last number never ends.
    ended = np.array([last + 1 < 1 << bits for _, last in spans], np.bool_)
    ends = _columns([last + 1 for _, last in spans if last + 1 < 1 << bits], bits)
    borders = tuple(map(np.concatenate, zip(begins, ends, strict=True)))
    starts, at = ranked(borders)
    is_zero = len(starts[0]) > 0 and not any(int(column[0]) for column in starts)
    starts = tuple(column[int(is_zero) :] for column in starts)
    rules = np.concatenate((rule, rule[ended]))
    return Sweep(_before(starts), at + (not is_zero), rules, len(rule))


def ranked(columns: Columns) -> tuple[Columns, Places]:
    """Return the distinct numbers in order, and the place of each number among them."""
    order = np.lexsort(columns[::-1])
    begins = np.zeros(len(order), np.bool_)
    begins[:1] = True
    for column in columns:
        begins[1:] |= column[order[1:]] != column[order[:-1]]
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(begins) - 1
    return tuple(column[order[begins]] for column in columns), place


def first_seen(columns: Columns) -> tuple[Places, Places]:
    """Return where each distinct number stands first, in order, and which of them each is."""
    distinct, place = ranked(columns)
    first = np.full(len(distinct[0]), len(place))
    np.minimum.at(first, place, np.arange(len(place)))
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return np.sort(first), number[place]


def rule_keys(count: int, *content: npt.NDArray[Any]) -> Columns:
    """Return a random 128-bit key for each rule, derived from the content."""
    digest = hashlib.shake_256()
    for array in content:
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array).tobytes())
    both = np.frombuffer(digest.digest(16 * count), "<u8").reshape(count, 2)
    return both[:, 0].copy(), both[:, 1].copy()


def toggle_bits(rows: U64, row: Places, bit: Places) -> None:
    """Toggle each bit in the row beside it. The rows are contiguous."""
    mask = np.uint64(1) << (bit & 63).astype(np.uint64)
    np.bitwise_xor.at(rows.reshape(-1), row * rows.shape[1] + (bit >> 6), mask)


def compact(rows: U64) -> tuple[U64, Places]:
    """Return vectors as the data path has them behind each other, and the words of each: summary
    words (bit `w`: word `w` is not zero), and the words that are not zero."""
    summary_words = -(-rows.shape[1] // 64)
    used = np.zeros((len(rows), summary_words * 64), np.bool_)
    used[:, : rows.shape[1]] = rows != 0
    lengths = summary_words + used.sum(axis=1)
    starts = np.cumsum(lengths) - lengths
    row, word = np.nonzero(used)
    content = np.empty(int(lengths.sum()), np.uint64)
    summaries = np.packbits(used, axis=1, bitorder="little").view("<u8")
    content[starts[:, None] + np.arange(summary_words)] = summaries
    nth = np.arange(len(row)) - np.searchsorted(row, row)
    content[starts[row] + summary_words + nth] = rows[row, word]
    return content, lengths


def _columns(numbers: Sequence[int], bits: int) -> Columns:
    if bits <= 64:
        return (np.array(numbers, np.uint64),)
    high = np.array([number >> 64 for number in numbers], np.uint64)
    return high, np.array([number & LOW for number in numbers], np.uint64)


def _before(numbers: Columns) -> Columns:
    """Return each number less one; none is zero."""
    if len(numbers) == 1:
        return (numbers[0] - np.uint64(1),)
    high, low = numbers
    return high - (low == 0), low - np.uint64(1)

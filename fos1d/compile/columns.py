"""Plain address lines, read in columns: one numpy operation does one step for all lines.

A mark is a separator (dot, colon, slash, newline); the field before a mark is the number that
ends there. Lines that are not right are returned by number, for somebody else to say why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fos1d.compile.ranges import Ranges4, Ranges6

Index = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

NEWLINE, DOT, SLASH, ZERO, COLON = b"\n./0:"


@dataclass(frozen=True, slots=True)
class Lines:
    """A text cut into lines. `ends` are the places of the newlines.

    `numbers` are the lines' numbers (from 0) in the text that they were taken from.
    """

    buffer: Bytes
    starts: Index
    ends: Index
    numbers: Index

    @classmethod
    def of(cls, text: bytes) -> Lines:
        """Cut `text`, which ends with a newline."""
        buffer = np.frombuffer(text, np.uint8)
        return cls._cut(buffer, None)

    @classmethod
    def _cut(cls, buffer: Bytes, numbers: Index | None) -> Lines:
        ends = np.flatnonzero(buffer == NEWLINE)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
        return cls(buffer, starts, ends, np.arange(len(ends)) if numbers is None else numbers)

    @property
    def lengths(self) -> Index:
        """Bytes of each line, newline not counted."""
        return self.ends - self.starts

    def only(self, wanted: Truth) -> Lines:
        """Return the wanted lines."""
        if wanted.all():
            return self
        keep = np.repeat(wanted, self.lengths + 1)
        return Lines._cut(self.buffer[keep], self.numbers[wanted])

    def text(self, number: int) -> bytes:
        """Return one line without its newline."""
        return self.buffer[self.starts[number] : self.ends[number]].tobytes()


@dataclass(frozen=True, slots=True)
class _Fields:
    """The marks of all lines: where, which byte, how long the field before; per line the first
    mark and how many."""

    place: Index
    byte: Bytes
    length: Index
    first: Index
    count: Index


def _fields(lines: Lines, is_mark: Truth) -> _Fields:
    place = np.flatnonzero(is_mark)
    byte = lines.buffer[place]
    last = np.flatnonzero(byte == NEWLINE)
    first = np.concatenate([np.zeros(1, np.int64), last[:-1] + 1])
    length = np.diff(place, prepend=-1) - 1
    return _Fields(place, byte, length, first, last - first + 1)


def _decimal(lines: Lines, fields: _Fields, at: Index) -> tuple[npt.NDArray[np.uint16], Truth]:
    """Return the decimal fields before the marks `at`, and whether they are written right:
    one to three digits, no leading zero."""
    place, length = fields.place[at], fields.length[at]
    value = np.zeros(len(at), np.uint16)
    for weight, back in ((1, 1), (10, 2), (100, 3)):
        digit = lines.buffer[np.maximum(place - back, 0)] - np.uint8(ZERO)
        value += digit.astype(np.uint16) * (np.uint16(weight) * (length >= back))
    padded = ((length == 2) & (value < 10)) | ((length == 3) & (value < 100))
    return value, (length >= 1) & (length <= 3) & ~padded & (value < 1000)


def read_ipv4_lines(lines: Lines) -> tuple[Ranges4, Index]:
    """Read lines of digits, dots and slashes; return ranges and the numbers of the bad lines."""
    if not len(lines.ends):
        return Ranges4.empty(), lines.numbers
    fields = _fields(lines, lines.buffer < ZERO)
    ok, sliced = _ipv4_shape(fields)
    first = fields.first[ok]
    start = np.zeros(len(first), np.int64)
    good = np.ones(len(first), np.bool_)
    for k in range(4):
        octet, fine = _decimal(lines, fields, first + k)
        start = start << 8 | octet
        good &= fine & (octet <= 255)
    bits, fine = _decimal(lines, fields, first + 3 + sliced)
    bits = np.where(sliced, bits, 32).astype(np.int64)
    rest = (np.int64(1) << (32 - np.minimum(bits, 32))) - 1
    good &= fine & (bits <= 32) & (start & rest == 0)
    ranges = Ranges4.from_bounds(start[good], (start | rest)[good])
    return ranges, _others(lines, ok, good)


def _ipv4_shape(fields: _Fields) -> tuple[Truth, Truth]:
    """Return which lines are `a.b.c.d` or `a.b.c.d/n`, and which of those have the slash."""
    byte = [fields.byte[np.minimum(fields.first + k, len(fields.byte) - 1)] for k in range(4)]
    dotted = (byte[0] == DOT) & (byte[1] == DOT) & (byte[2] == DOT)
    sliced = (fields.count == 5) & (byte[3] == SLASH)
    ok = dotted & ((fields.count == 4) | sliced)
    return ok, sliced[ok]


def _others(lines: Lines, ok: Truth, good: Truth) -> Index:
    """Return the numbers of the lines that are not `ok`, or ok and then not `good`."""
    read = np.zeros(len(lines.numbers), np.bool_)
    read[np.flatnonzero(ok)[good]] = True
    return lines.numbers[~read]


def read_ipv6_lines(lines: Lines) -> tuple[Ranges6, Index]:
    """Read lines of hex digits, colons and slashes; return ranges and the bad lines' numbers."""
    if not len(lines.ends):
        return Ranges6.empty(), lines.numbers
    buffer = lines.buffer
    fields = _fields(lines, (buffer == COLON) | (buffer == SLASH) | (buffer == NEWLINE))
    groups, ok = _ipv6_groups(fields)
    high, low, hexed = _ipv6_words(lines, fields, groups)
    ok &= hexed
    last = fields.first + fields.count - 1
    sliced = fields.byte[np.maximum(last - 1, 0)] == SLASH
    bits, fine = _decimal(lines, fields, last)
    prefix: Index = np.where(sliced, bits, 128).astype(np.int64)
    ok &= (fine | ~sliced) & (prefix <= 128)
    ranges, aligned = Ranges6.from_prefixes(high[ok], low[ok], prefix[ok])
    return ranges, _others(lines, ok, aligned)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Which field is a 16-bit group of an address, of which line, and which of the eight."""

    at: Index
    line: Index
    place: Index


def _ipv6_groups(fields: _Fields) -> tuple[_Groups, Truth]:
    """Number the groups of each line from the left up to `::`, from the right behind it."""
    line = np.repeat(np.arange(len(fields.first)), fields.count)
    nth = np.arange(len(line)) - fields.first[line]
    sliced = fields.byte[np.maximum(fields.first + fields.count - 2, 0)] == SLASH
    sliced &= fields.count >= 2
    total = fields.count - sliced
    is_field = nth < total[line]
    empty = is_field & (fields.length == 0)
    at_edge = (nth == 0) | (nth == total[line] - 1)
    gap = np.full(len(fields.first), -1)
    inner = empty & ~at_edge
    gap[line[inner]] = nth[inner]
    behind = (gap[line] >= 0) & (nth > gap[line])
    place = np.where(behind, 8 - total[line] + nth, nth)
    is_group = is_field & ~empty
    ok = _ipv6_shape(fields, line, empty, inner, gap, total, is_group)
    ok &= np.bincount(line, (fields.byte == SLASH), minlength=len(ok)) == sliced
    return _Groups(np.flatnonzero(is_group), line[is_group], place[is_group]), ok


def _ipv6_shape(
    fields: _Fields,
    line: Index,
    empty: Truth,
    inner: Truth,
    gap: Index,
    total: Index,
    is_group: Truth,
) -> Truth:
    """Whether a line has eight groups, or fewer and one `::`; empty fields only beside that."""
    lines = len(fields.first)
    groups = np.bincount(line, is_group, minlength=lines)
    gaps = np.bincount(line, inner, minlength=lines)
    first_empty = fields.length[fields.first] == 0
    last_empty = fields.length[fields.first + np.maximum(total - 1, 0)] == 0
    led = ~first_empty | (gap == 1)
    trailed = ~last_empty | (gap == total - 2)
    whole = (gaps == 0) & (groups == 8) & (total == 8)
    cut = (gaps == 1) & (groups <= 7) & led & trailed
    too_long = np.bincount(line, is_group & (fields.length > 4), minlength=lines)
    spare = np.bincount(line, empty, minlength=lines) - gaps
    shaped: Truth = (whole | cut) & (too_long == 0) & (spare <= 2)
    return shaped


def _hex_digits() -> npt.NDArray[np.uint8]:
    value = np.full(256, 255, np.uint8)
    for digit in range(16):
        value[list(b"%x%X" % (digit, digit))] = digit
    return value


HEX_DIGIT = _hex_digits()


def _ipv6_words(
    lines: Lines, fields: _Fields, groups: _Groups
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], Truth]:
    """Return the upper and lower 64 bits of each line's address, and whether all was hex."""
    place, length = fields.place[groups.at], fields.length[groups.at]
    value = np.zeros(len(place), np.uint64)
    hexed = np.ones(len(fields.first), np.bool_)
    for back in range(1, 5):
        digit = HEX_DIGIT[lines.buffer[np.maximum(place - back, 0)]]
        used = length >= back
        hexed[groups.line[used & (digit > 15)]] = False
        value |= np.where(used, digit, 0).astype(np.uint64) << np.uint64(4 * (back - 1))
    shift = (48 - 16 * (groups.place & 3)).astype(np.uint64)
    words = np.zeros((2, len(fields.first)), np.uint64)
    fits = (groups.place >= 0) & (groups.place < 8)
    half = np.where(groups.place < 4, 0, 1)[fits]
    np.bitwise_or.at(words, (half, groups.line[fits]), (value << shift)[fits])
    return words[0], words[1], hexed

"""Plain address lines, read in columns: one numpy operation does one step for all lines.

A mark is a separator (dot, colon, slash, newline); the field before a mark is the number that
ends there. Lines that are not right, a prefix length of 0 among them, are returned by number, for
somebody else to say why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fos1d.compile.ranges import Ranges4, Ranges6

Index = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint16]

NEWLINE, DOT, SLASH, ZERO, COLON, HASH, SEMICOLON = b"\n./0:#;"
BLANKS = np.frombuffer(b" \t\n\r\v\f", np.uint8)


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

    def trimmed(self) -> Lines:
        """Return the lines without comments, and without blanks at both ends."""
        ends = self._comments()
        place = np.arange(len(self.buffer))
        is_text = ~np.isin(self.buffer, BLANKS)
        last = np.maximum.accumulate(np.where(is_text, place, -1))
        ends = np.maximum(np.where(ends > 0, last[ends - 1] + 1, 0), self.starts)
        following = np.minimum.accumulate(np.where(is_text, place, len(place))[::-1])[::-1]
        starts = np.minimum(following[self.starts], ends)
        steps = np.zeros(len(self.buffer) + 1, np.int8)
        np.add.at(steps, starts, 1)
        np.add.at(steps, ends, -1)
        keep = np.cumsum(steps[:-1]) > 0
        keep[self.ends] = True
        return Lines._cut(self.buffer[keep], self.numbers)

    def _comments(self) -> Index:
        """Return where each line's comment begins, or where the line ends."""
        marks = np.flatnonzero((self.buffer == HASH) | (self.buffer == SEMICOLON))
        line = np.searchsorted(self.ends, marks)
        begins = self.ends.copy()
        # Backwards, so that the first of a line is the last to be written.
        begins[line[::-1]] = marks[::-1]
        return begins


def is_plain_ipv4(buffer: Bytes) -> bool:
    """Whether there are only digits, dots, slashes and newlines."""
    # From the dot to the nine they stand side by side.
    return bool(((buffer - np.uint8(DOT) < 12) | (buffer == NEWLINE)).all())


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
    length = np.empty_like(place)
    length[:1] = place[:1]
    length[1:] = place[1:] - place[:-1] - 1
    return _Fields(place, byte, length, first, last - first + 1)


# A field of so many digits must say at least this much: no leading zero, one to three digits.
LEAST_BY_LENGTH = np.array([1000, 0, 10, 100, 1000], np.uint16)


def _decimals(lines: Lines, is_mark: Truth, fields: _Fields) -> tuple[Numbers, Truth]:
    """Return the decimal field before every mark, and whether it is written right.

    All bytes at once: neighbours in memory are cheaper than the few bytes that matter.
    """
    is_digit = ~is_mark
    digit = ((lines.buffer - np.uint8(ZERO)) * is_digit).astype(np.uint16)
    value = digit.copy()
    value[1:] += 10 * digit[:-1]
    value[2:] += 100 * digit[:-2] * is_digit[1:-1]
    value = value[fields.place - 1]
    return value, value >= LEAST_BY_LENGTH[np.minimum(fields.length, 4)]


def read_ipv4_lines(lines: Lines) -> tuple[Ranges4, Index]:
    """Read lines of digits, dots and slashes; return ranges and the numbers of the bad lines."""
    if not len(lines.ends):
        return Ranges4.empty(), lines.numbers
    is_mark = lines.buffer < ZERO
    fields = _fields(lines, is_mark)
    value, fine = _decimals(lines, is_mark, fields)
    ok, sliced = _ipv4_shape(fields)
    first = fields.first[ok]
    bits = np.where(sliced, value[first + 3 + sliced], 32)
    good = fine[first + 3 + sliced] & (bits >= 1) & (bits <= 32)
    fine &= value <= 255
    start: npt.NDArray[np.uint32] = np.zeros(len(first), np.uint32)
    for k in range(4):
        start = start << np.uint32(8) | value[first + k]
        good &= fine[first + k]
    rest = ONES_BELOW_32[np.minimum(bits, 32)]
    good &= start & rest == 0
    return Ranges4(start[good], (start | rest)[good]), _others(lines, ok, good)


# What a prefix of so many bits leaves to the hosts.
ONES_BELOW_32 = np.array([0xFFFFFFFF >> bits for bits in range(33)], np.uint32)


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
    is_mark = (buffer == COLON) | (buffer == SLASH) | (buffer == NEWLINE)
    fields = _fields(lines, is_mark)
    groups, ok = _ipv6_groups(fields)
    high, low = _ipv6_words(lines, is_mark, fields, groups)
    last = fields.first + fields.count - 1
    sliced = fields.byte[np.maximum(last - 1, 0)] == SLASH
    bits, fine = _prefix_bits(lines, fields, last)
    prefix: Index = np.where(sliced, bits, 128).astype(np.int64)
    ok &= (fine | ~sliced) & (prefix >= 1) & (prefix <= 128)
    ranges, aligned = Ranges6.from_prefixes(high[ok], low[ok], prefix[ok])
    return ranges, _others(lines, ok, aligned)


def _prefix_bits(lines: Lines, fields: _Fields, at: Index) -> tuple[Index, Truth]:
    """Return the decimal field before the marks `at`, and whether it is written right."""
    place, length = fields.place[at], fields.length[at]
    value = np.zeros(len(at), np.int64)
    fine = np.ones(len(at), np.bool_)
    for weight, back in ((1, 1), (10, 2), (100, 3)):
        digit = lines.buffer[np.maximum(place - back, 0)] - np.uint8(ZERO)
        used = length >= back
        value += weight * (digit * used).astype(np.int64)
        fine &= (digit <= 9) | ~used
    return value, fine & (value >= LEAST_BY_LENGTH[np.minimum(length, 4)])


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


def _hex_digits() -> bytes:
    value = bytearray(256)
    for digit in range(16):
        for byte in b"%x%X" % (digit, digit):
            value[byte] = digit
    return bytes(value)


HEX_DIGITS = _hex_digits()


def _ipv6_words(
    lines: Lines, is_mark: Truth, fields: _Fields, groups: _Groups
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return the upper and lower 64 bits of each line's address."""
    value = _hexadecimals(lines, is_mark)[fields.place[groups.at] - 1]
    words = np.zeros((len(fields.first), 8), ">u2")
    fits = (groups.place >= 0) & (groups.place < 8)
    words[groups.line[fits], groups.place[fits]] = value[fits]
    halves = words.view(">u8").astype(np.uint64)
    return halves[:, 0].copy(), halves[:, 1].copy()


def _hexadecimals(lines: Lines, is_mark: Truth) -> Numbers:
    """Return, at every byte, the number of up to four hex digits that ends with it."""
    digits = np.frombuffer(lines.buffer.tobytes().translate(HEX_DIGITS), np.uint8)
    is_digit = ~is_mark
    digit = digits.astype(np.uint16)
    value = digit.copy()
    joined = is_digit
    for back in range(1, 4):
        # Whether the `back` bytes before are all digits of the same field.
        joined = joined[1:] & is_digit[: len(is_digit) - back]
        value[back:] += (digit[:-back] << 4 * back) * joined
    return value

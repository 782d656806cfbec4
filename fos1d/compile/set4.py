"""A set of IPv4 addresses as the arrays that bpf/include/fos1/set.h reads.

Merged ranges are cut into pieces: whole /16s, then what of each /24 they cover. A /24's pieces
become its leaf, or a block where a leaf cannot hold them; a /16's leaves stand in a row, and its
line says which /24s have one and where the row begins. All that is done for each /8 by itself, and
the arrays of the /8s are then put one behind the other: whoever changes a few addresses builds the
/8s that have them and puts all together again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.compile.ranges import Ranges4, repeated
from fos1d.compile.shards import shards_of

LINE, LEAF, BLOCK = (np.dtype(r) for r in (abi.SET4_LINE, abi.SET4_LEAF, abi.SET4_BLOCK))

Index = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Lines = npt.NDArray[np.void]

INLINE_OCTETS = 5
IS_BLOCK_SHIFT = np.uint64(63)
IS_BLOCK = np.uint64(1) << IS_BLOCK_SHIFT
# The base of a /16 that is a member as a whole: out of bounds of any leaves, whatever the rank.
WHOLE = 0x80000000
LINES_A_SLASH8 = 256


@dataclass(frozen=True, slots=True, eq=False)
class Set4:
    """The three arrays. The latter two have at least one element, since a map cannot be empty."""

    lines: npt.NDArray[np.void] = field(repr=False)
    leaves: npt.NDArray[np.void] = field(repr=False)
    blocks: npt.NDArray[np.void] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Slash8:
    """The arrays of one /8; leaves and blocks count from 0."""

    lines: Lines = field(repr=False)
    leaves: Words = field(repr=False)
    blocks: npt.NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Parts of ranges inside one /24 each, in order: the /24 and first and last octet."""

    net24: Index
    first: Index
    last: Index


def build_set4(ranges: Ranges4) -> Set4:
    """Build the arrays for merged ranges."""
    return put_together({o: build_slash8(shard) for o, shard in shards_of(ranges).items()})


def put_together(parts: Mapping[int, Slash8]) -> Set4:
    """Return the arrays of the whole set, given those of each /8 that has members."""
    octets = sorted(parts)
    lines = np.zeros(abi.Size.SET4_LINES, LINE).reshape(-1, LINES_A_SLASH8)
    for octet in octets:
        lines[octet] = parts[octet].lines
    leaves = np.concatenate([NO_LEAVES, *(parts[octet].leaves for octet in octets)])
    base = lines["base"]
    first = np.zeros(len(lines), np.uint32)
    first[octets] = _begins([len(parts[octet].leaves) for octet in octets])
    base += np.where(base == WHOLE, 0, first[:, None]).astype(np.uint32)
    blocks = _begins([len(parts[octet].blocks) for octet in octets])
    for octet, begin in zip(octets, blocks.tolist(), strict=True):
        if len(parts[octet].blocks):
            words = leaves[first[octet] : first[octet] + len(parts[octet].leaves)]
            words += (words >> IS_BLOCK_SHIFT) * np.uint64(begin)
    return Set4(
        lines.ravel(),
        _at_least_one([leaves], LEAF),
        _at_least_one([parts[octet].blocks for octet in octets], BLOCK),
    )


def _begins(counts: Sequence[int]) -> npt.NDArray[np.uint32]:
    """Return where each of several rows begins that stand one behind the other."""
    return (np.cumsum(counts) - counts).astype(np.uint32)


def build_slash8(ranges: Ranges4) -> Slash8:
    """Build the arrays for merged ranges that lie in one /8."""
    first, last = (bound.astype(np.int64) & 0xFFFFFF for bound in (ranges.first, ranges.last))
    whole = _whole_slash16s(first, last)
    pieces = _cut_at_24s(*_outside_whole(first, last))
    net24, leaves, blocks = _leaves(pieces)
    return Slash8(_lines(net24, whole), leaves, blocks)


def _whole_slash16s(first: Index, last: Index) -> npt.NDArray[np.bool_]:
    """Say of each /16 whether a range covers it."""
    begin, end = (first + 0xFFFF) >> 16, (last + 1) >> 16
    covered = end > begin
    steps = np.zeros(LINES_A_SLASH8 + 1, np.int64)
    np.add.at(steps, begin[covered], 1)
    np.add.at(steps, end[covered], -1)
    return np.cumsum(steps)[:-1] > 0


def _outside_whole(first: Index, last: Index) -> tuple[Index, Index]:
    """Return, in order, what remains of the ranges outside the /16s that they cover."""
    if (first >> 16 == last >> 16).all() and (last - first < 0xFFFF).all():
        return first, last
    begin, end = (first + 0xFFFF) >> 16 << 16, (last + 1) >> 16 << 16
    inside = end <= begin
    # A range that covers no /16 may still cross the border between two: that is two heads.
    head_last = np.where(inside, last, begin - 1)
    tail_first = np.where(inside, last + 1, end)
    bounds_first = np.stack([first, tail_first], axis=1).ravel()
    bounds_last = np.stack([head_last, last], axis=1).ravel()
    some = bounds_first <= bounds_last
    return bounds_first[some], bounds_last[some]


def _cut_at_24s(first: Index, last: Index) -> _Pieces:
    net24 = first >> 8
    count = (last >> 8) - net24 + 1
    if (count == 1).all():
        return _Pieces(net24, first & 0xFF, last & 0xFF)
    of, nth = repeated(count)
    return _Pieces(
        net24[of] + nth,
        np.where(nth == 0, first[of] & 0xFF, 0),
        np.where(nth == count[of] - 1, last[of] & 0xFF, 0xFF),
    )


def _leaves(pieces: _Pieces) -> tuple[Index, Words, npt.NDArray[np.uint8]]:
    """Return the /24s that have pieces, their leaves, and the blocks that leaves point to."""
    begins = np.ones(len(pieces.net24), np.bool_)
    begins[1:] = pieces.net24[1:] != pieces.net24[:-1]
    leaf_of = np.cumsum(begins) - 1
    net24 = pieces.net24[begins]
    leaves = _whole_28s(pieces, np.flatnonzero(begins))
    octets, owner = _single_octets(pieces, leaf_of)
    many = np.bincount(owner, minlength=len(net24)) > INLINE_OCTETS
    leaves |= _inline_octets(leaves, octets, owner, ~many[owner])
    blocks = _blocks(pieces, leaf_of, many)
    leaves[many] = np.arange(len(blocks), dtype=np.uint64) | IS_BLOCK
    return net24, leaves, blocks


def _whole_28s(pieces: _Pieces, begins: Index) -> Words:
    """Return per /24 the bits of its /28s that a piece covers."""
    first, last = (pieces.first + 15) >> 4, (pieces.last + 1) >> 4
    one = np.uint64(1)
    below = (one << last.astype(np.uint64)) - one
    above = (one << np.minimum(first, last).astype(np.uint64)) - one
    bits = below & ~above
    return np.bitwise_or.reduceat(bits, begins) if len(begins) else bits


def _single_octets(pieces: _Pieces, leaf_of: Index) -> tuple[Index, Index]:
    """Return the octets outside whole /28s, in order, and the leaf of each."""
    ragged = (pieces.first & 15 != 0) | (pieces.last & 15 != 15)
    first, last, leaf_of = pieces.first[ragged], pieces.last[ragged], leaf_of[ragged]
    if (first == last).all():
        return first, leaf_of
    first28, end28 = (first + 15) >> 4 << 4, (last + 1) >> 4 << 4
    none = end28 <= first28
    spans = [
        (first, np.where(none, last, first28 - 1)),
        (np.where(none, last + 1, end28), last),
    ]
    begin = np.stack([s[0] for s in spans], axis=1).ravel()
    end = np.stack([s[1] for s in spans], axis=1).ravel()
    of, nth = repeated(np.maximum(end - begin + 1, 0))
    return begin[of] + nth, leaf_of[of >> 1]


def _inline_octets(
    leaves: Words, octets: Index, owner: Index, wanted: npt.NDArray[np.bool_]
) -> Words:
    """Return per leaf its five octets in place; spare places repeat a member."""
    spare = SOME_MEMBER[leaves]
    octets, owner = octets[wanted], owner[wanted]
    begins = np.ones(len(owner), np.bool_)
    begins[1:] = owner[1:] != owner[:-1]
    starts = np.flatnonzero(begins)
    spare[owner[starts]] = octets[starts]
    packed = spare.astype(np.uint64) * IN_ALL_PLACES
    nth = np.arange(len(owner)) - starts[np.cumsum(begins) - 1]
    owner, octets, nth = owner[~begins], octets[~begins], nth[~begins]
    instead = (octets ^ spare[owner]).astype(np.uint64) << (16 + 8 * nth).astype(np.uint64)
    np.bitwise_xor.at(packed, owner, instead)
    return packed


# Times an octet: that octet in each of a leaf's five places.
IN_ALL_PLACES = np.uint64(0x0101010101 << 16)


def _first_of_lowest_28() -> npt.NDArray[np.int64]:
    words = np.arange(1 << 16)
    nibble = np.zeros(1 << 16, np.int64)
    for k in range(15, -1, -1):
        nibble[words >> k & 1 == 1] = k
    return nibble << 4


# By the bits of a /24's whole /28s: the first octet of the lowest of them, 0 where there is none.
SOME_MEMBER = _first_of_lowest_28()


def _blocks(pieces: _Pieces, leaf_of: Index, many: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return 32 bytes, a bit per address, for each leaf that has too many octets."""
    nth = np.cumsum(many) - 1
    chosen = many[leaf_of]
    first, last = pieces.first[chosen], pieces.last[chosen]
    row = nth[leaf_of[chosen]]
    count = last - first + 1
    of, nth = repeated(count)
    octet = first[of] + nth
    bits = np.zeros((int(many.sum()), 256), np.uint8)
    bits[row[of], octet] = 1
    return np.packbits(bits, axis=1, bitorder="little")


def _lines(net24: Index, whole: npt.NDArray[np.bool_]) -> Lines:
    lines = np.zeros(LINES_A_SLASH8, LINE)
    bits = np.zeros(LINES_A_SLASH8 * 256, np.uint8)
    bits[net24] = 1
    packed = np.packbits(bits, bitorder="little").view("<u8").reshape(-1, 4)
    per_word = np.bincount(net24 >> 6, minlength=LINES_A_SLASH8 * 4).reshape(-1, 4)
    before = np.cumsum(per_word, axis=1) - per_word
    per_line = per_word.sum(axis=1)
    lines["any"] = packed
    lines["before"] = before
    lines["base"] = np.cumsum(per_line) - per_line
    lines["any"][whole] = np.uint64(0xFFFFFFFFFFFFFFFF)
    lines["base"][whole] = WHOLE
    return lines


def _at_least_one(
    parts: Sequence[npt.NDArray[np.generic]], dtype: np.dtype[np.void]
) -> npt.NDArray[np.void]:
    bytes_of = [np.ascontiguousarray(part).view(np.uint8).ravel() for part in parts]
    content = bytes_of[0] if len(bytes_of) == 1 else np.concatenate([NO_BYTES, *bytes_of])
    return content.view(dtype) if len(content) else np.zeros(1, dtype)


NO_BYTES = np.empty(0, np.uint8)
NO_LEAVES = np.empty(0, np.uint64)

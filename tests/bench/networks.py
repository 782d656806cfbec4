"""Random networks as lists that are to be dropped, and sources out of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Random = np.random.Generator

# What the lab itself uses, and what nobody may have as a source, is left out of the lists.
LEAST4, MOST4 = 0x0B000000, 0xC0000000
LEAST6, MOST6 = 0x2400 << 48, 0x2C00 << 48
ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks of one family: upper and lower 64 bits (IPv4: the lower 32), and prefix lengths."""

    family: int
    high: Words = field(repr=False)
    low: Words = field(repr=False)
    bits: npt.NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.low)

    @property
    def width(self) -> int:
        """Bits of an address."""
        return 32 if self.family == 4 else 128

    def lines(self) -> list[str]:
        """Return each network as people write it, hosts without a prefix length."""
        suffixes = ["" if bits == self.width else f"/{bits}" for bits in range(129)]
        texts = _texts4(self.low) if self.family == 4 else _texts6(self.high, self.low)
        return [text + suffixes[bits] for text, bits in zip(texts, self.bits.tolist(), strict=True)]

    def netset(self) -> bytes:
        """Return the list as a file."""
        return ("\n".join(self.lines()) + "\n").encode()

    def members(self, count: int, random: Random) -> Networks:
        """Return random addresses in random networks of these; all networks come up in turn."""
        turns = -(-count // max(len(self), 1))
        chosen = np.concatenate([random.permutation(len(self)) for _ in range(turns)])[:count]
        rest = self.width - self.bits[chosen]
        low = self.low[chosen] | (_noise(count, random) & _ones(rest))
        high = self.high[chosen] | (_noise(count, random) & _ones(rest - 64))
        return Networks(self.family, high, low, np.full(count, self.width))


def _texts4(low: Words) -> list[str]:
    octets = low.astype(">u4").view(np.uint8).reshape(-1, 4).tolist()
    return [f"{a}.{b}.{c}.{d}" for a, b, c, d in octets]


def _texts6(high: Words, low: Words) -> list[str]:
    groups = np.stack([high, low], axis=1).astype(">u8").view(">u2").reshape(-1, 8).tolist()
    return [":".join(f"{group:x}" for group in row) for row in groups]


def _noise(count: int, random: Random) -> Words:
    return random.integers(0, ONES, count, np.uint64, endpoint=True)


def _ones(count: npt.NDArray[np.int64]) -> Words:
    """Return words with the `count` lowest bits set, of counts from below 0 to above 64."""
    shift = np.clip(64 - count, 0, 63).astype(np.uint64)
    return np.where(count <= 0, np.uint64(0), ONES >> shift)


def prefixes4(count: int, bits: int, random: Random) -> Networks:
    """Return different random IPv4 networks of one length, none of them in 127.0.0.0/8."""
    rest = 32 - bits
    drawn = random.integers(LEAST4 >> rest, MOST4 >> rest, count + count // 4 + 64) << rest
    found = np.unique(drawn[drawn >> 24 != 127].astype(np.uint64))
    low = random.permutation(found)[:count]
    return Networks(4, np.zeros(count, np.uint64), low, np.full(count, bits))


def prefixes6(count: int, bits: int, random: Random) -> Networks:
    """Return different random IPv6 networks of one length."""
    high = random.integers(LEAST6, MOST6, count, np.uint64)
    low = _noise(count, random) & ~_ones(np.full(count, 128 - bits))
    high &= ~_ones(np.full(count, 64 - bits))
    while len(unique := np.unique(high)) < count and bits <= 64:
        more = random.integers(LEAST6, MOST6, count - len(unique), np.uint64)
        high = np.concatenate([unique, more & ~_ones(np.full(len(more), 64 - bits))])
    return Networks(6, random.permutation(high), low, np.full(count, bits))


MIXED_SHARES = {32: 0.72, 24: 0.16, 28: 0.03, 26: 0.03, 22: 0.03, 20: 0.01, 29: 0.01, 30: 0.01}


def mixed4(count: int, random: Random) -> Networks:
    """Return a list like the public ones: mostly hosts, huddled in /24s, most of which have few
    and some have many; whole /24s; and some of every other length. No two overlap."""
    low, bits = np.empty(0, np.uint64), np.empty(0, np.int64)
    while len(low) < count:
        missing = count - len(low) + 8
        parts = [_part4(int(missing * share) + 1, b, random) for b, share in MIXED_SHARES.items()]
        low = np.concatenate([low, *(part for part, _ in parts)])
        bits = np.concatenate([bits, *(lengths for _, lengths in parts)])
        low, bits = _without_overlap(low, bits)
    chosen = random.permutation(len(low))[:count]
    return Networks(4, np.zeros(count, np.uint64), low[chosen], bits[chosen])


def _part4(count: int, bits: int, random: Random) -> tuple[Words, npt.NDArray[np.int64]]:
    if bits == 32:
        each = np.minimum(random.zipf(1.7, count), 200)
        of = np.repeat(random.integers(LEAST4 >> 8, MOST4 >> 8, count), each)[:count]
        low = of << 8 | random.integers(0, 256, count)
    else:
        low = random.integers(LEAST4 >> 32 - bits, MOST4 >> 32 - bits, count) << 32 - bits
    low = low[low >> 24 != 127]
    return low.astype(np.uint64), np.full(len(low), bits)


def _without_overlap(
    low: Words, bits: npt.NDArray[np.int64]
) -> tuple[Words, npt.NDArray[np.int64]]:
    """Drop what begins inside a network that begins before it: some yardsticks refuse overlaps."""
    order = np.lexsort((bits, low))
    low, bits = low[order], bits[order]
    reach = np.maximum.accumulate(low | _ones(32 - bits))
    free = np.ones(len(low), np.bool_)
    free[1:] = low[1:] > reach[:-1]
    return low[free], bits[free]


def strangers(networks: Networks, count: int, random: Random) -> Networks:
    """Return random addresses of the same family that are in none of the networks, which have one
    length."""
    bits = int(networks.bits[0])
    draw = prefixes4 if networks.family == 4 else prefixes6
    drawn = draw(2 * count, networks.width, random)
    if networks.family == 4:
        rest = np.uint64(32 - bits)
        listed = np.isin(drawn.low >> rest, networks.low >> rest)
    else:
        listed = np.isin(drawn.high, networks.high)
    keep = np.flatnonzero(~listed)[:count]
    return Networks(
        networks.family, drawn.high[keep], drawn.low[keep], np.full(len(keep), networks.width)
    )

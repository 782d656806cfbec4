"""The arrays of a set, walked as bpf/include/fos1/set.h does, against looking at every range."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fos1d import abi
from fos1d.compile.ranges import Ranges4, Ranges6
from fos1d.compile.set4 import Set4, build_set4
from fos1d.compile.set6 import Set6, build_set6, filter_bits, level_base

TOP4, TOP6 = 2**32 - 1, 2**128 - 1
LOW = 2**64 - 1
Span = tuple[int, int]


# The walks, step by step as in C; all integers are Python's, so nothing can overflow unseen.


def set4_has(found: Set4, address: int) -> bool:
    line = found.lines[address >> 16]
    word, bit = address >> 14 & 3, address >> 8 & 63
    any_word = int(line["any"][word])
    if not any_word >> bit & 1:
        return False
    index = int(line["base"]) + int(line["before"][word]) + (any_word & (1 << bit) - 1).bit_count()
    if index >= len(found.leaves):
        return True
    leaf, octet = int(found.leaves[index]["word"]), address & 0xFF
    if leaf >> 63:
        return bool(int(found.blocks[leaf & 0xFFFFFFFF]["bits"][octet >> 6]) >> (octet & 63) & 1)
    places = [leaf >> 16 + 8 * k & 0xFF for k in range(5)]
    return bool(leaf >> (octet >> 4) & 1) or octet in places


def set6_has(found: Set6, address: int) -> bool:
    high = address >> 64
    prefix = high >> 64 - found.filter_bits if found.filter_bits else 0
    hashed = prefix * 0x9E3779B97F4A7C15 & LOW
    word = int(found.filter[hashed >> 46])
    if not all(word >> (hashed >> shift & 63) & 1 for shift in (40, 34, 28)):
        return False
    if address == TOP6:
        return True
    offset = rank = 0
    for level, base in enumerate(found.level_base):
        offset = offset * abi.Size.SET6_FANOUT + rank if level else 0
        node = found.nodes[base + offset]
        keys = [
            h << 64 | low
            for h, low in zip(node["high"].tolist(), node["low"].tolist(), strict=True)
        ]
        rank = next((i for i, key in enumerate(keys) if key > address), len(keys))
    return bool(rank & 1)


def ranges4(spans: list[Span]) -> Ranges4:
    first, last = np.array(spans, np.int64).reshape(-1, 2).T
    return Ranges4.from_bounds(first, last)


def ranges6(spans: list[Span]) -> Ranges6:
    words = [(a >> 64, a & LOW, b >> 64, b & LOW) for a, b in spans]
    return Ranges6(*np.array(words, np.uint64).reshape(-1, 4).T.copy())


def probes(spans: list[Span], top: int, extra: list[int]) -> set[int]:
    """Return addresses beside all bounds, and beside the borders that the arrays have."""
    near = {bound + step for span in spans for bound in span for step in (-1, 0, 1)}
    edges = {0, 1, top - 1, top}
    borders = {
        bound >> cut << cut for span in spans for bound in span for cut in (4, 8, 16, 24, 64)
    }
    near |= {border + step for border in borders for step in (-1, 0)}
    return {address for address in near | edges | set(extra) if 0 <= address <= top}


def prefixes(top_bits: int, least: int) -> st.SearchStrategy[Span]:
    """Return spans that are prefixes, huddled so that they nest, touch and share /24s."""

    def span(address: int, bits: int) -> Span:
        rest = top_bits - bits
        return address >> rest << rest, (address >> rest << rest) + (1 << rest) - 1

    scattered = st.integers(0, (1 << top_bits) - 1)
    huddled = st.integers(0, 0x3FF).map(lambda low: (0x0A0B << top_bits - 16) + low)
    high = st.integers(0, 0x3FF).map(lambda low: (1 << top_bits) - 1 - low)
    middle = st.integers(0, 0x3FF).map(
        lambda low: (0x0A0BFE << top_bits - 24) + (low << top_bits - 32)
    )
    bits = st.integers(least, top_bits) | st.integers(top_bits - 9, top_bits)
    return st.builds(span, scattered | huddled | high | middle, bits)


def any_spans(top: int) -> st.SearchStrategy[Span]:
    ends = st.integers(0, top) | st.integers(0, 0x2FFFF).map(lambda low: (top >> 1) + low)
    return st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair)))


def naive(spans: list[Span], address: int) -> bool:
    return any(first <= address <= last for first, last in spans)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(prefixes(32, 1) | any_spans(TOP4), max_size=40),
    st.lists(st.integers(0, TOP4), max_size=10),
)
def test_an_ipv4_set_has_its_members(spans: list[Span], extra: list[int]) -> None:
    found = build_set4(ranges4(spans).merged())
    for address in probes(spans, TOP4, extra):
        assert set4_has(found, address) == naive(spans, address), hex(address)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(prefixes(128, 3) | any_spans(TOP6), max_size=40),
    st.lists(st.integers(0, TOP6), max_size=10),
)
def test_an_ipv6_set_has_its_members(spans: list[Span], extra: list[int]) -> None:
    found = build_set6(ranges6(spans).merged())
    for address in probes(spans, TOP6, extra):
        # The last address of all is dropped with whatever shares its filter bit: nobody has it.
        if address != TOP6 or naive(spans, address):
            assert set6_has(found, address) == naive(spans, address), hex(address)


EDGES = (
    "0.0.0.0/0 0.0.0.0/32 255.255.255.255/32 0.0.0.0/1 128.0.0.0/1 10.1.0.0/16 10.1.0.0/15 "
    "10.1.1.0/24 10.1.0.0/17 10.1.255.0/24 255.255.0.0/16 10.1.1.16/28"
)


@pytest.mark.parametrize(
    "network",
    EDGES.split(),
)
def test_an_ipv4_set_of_one(network: str) -> None:
    made = IPv4Network(network, strict=False)
    span = (int(made.network_address), int(made.broadcast_address))
    found = build_set4(Ranges4.of([made]).merged())
    for address in probes([span], TOP4, []):
        assert set4_has(found, address) == (span[0] <= address <= span[1])


@pytest.mark.parametrize(
    "network", ["::/0", "::/128", f"{'ffff:' * 7}ffff/128", "8000::/1", "::/1"]
)
def test_an_ipv6_set_of_one(network: str) -> None:
    made = IPv6Network(network)
    span = (int(made.network_address), int(made.broadcast_address))
    found = build_set6(Ranges6.of([made]).merged())
    for address in probes([span], TOP6, []) - ({TOP6} - {span[1]}):
        assert set6_has(found, address) == (span[0] <= address <= span[1])


def test_an_empty_set_has_no_members() -> None:
    four, six = build_set4(Ranges4.empty()), build_set6(Ranges6.empty())
    assert not any(set4_has(four, address) for address in (0, 1, 0x0A000000, TOP4))
    assert not any(set6_has(six, address) for address in (0, 1, 1 << 100, TOP6 - 1))
    assert min(len(four.leaves), len(four.blocks), len(six.nodes)) == 1, "no map can be empty"


def test_a_24_holds_any_pattern() -> None:
    """From one address to all of them, in a leaf or in a block."""
    for step in (1, 2, 3, 16, 17, 51, 52, 128, 255):
        members = set(range(0, 256, step))
        found = build_set4(ranges4([(octet, octet) for octet in members]).merged())
        assert {octet for octet in range(256) if set4_has(found, octet)} == members
        assert not set4_has(found, 256)


def test_a_set_of_many_has_its_members() -> None:
    random = np.random.default_rng(7)
    first = np.unique(random.integers(0, TOP4, 50_000) >> 4 << 4)
    four = build_set4(Ranges4.from_bounds(first, first + 15).merged())
    high = np.unique(random.integers(0, 2**48, 50_000))
    six = build_set6(ranges6([(int(h) << 80, (int(h) + 1 << 80) - 1) for h in high]).merged())
    assert len(six.level_base) == 6
    for index in random.integers(0, len(high), 500).tolist():
        here4, here6 = int(first[index % len(first)]), int(high[index]) << 80
        assert all(set4_has(four, here4 + step) for step in (0, 7, 15))
        assert all(set6_has(six, here6 + step) for step in (0, 1 << 79, (1 << 80) - 1))
        assert set4_has(four, here4 + 16) == ((here4 + 16) in first)
        assert set6_has(six, here6 - 1) == ((int(high[index]) - 1) in high)


def merged(spans: list[Span]) -> list[Span]:
    out: list[Span] = []
    for first, last in sorted(spans):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out


@settings(deadline=None)
@given(st.lists(prefixes(32, 1) | any_spans(TOP4), max_size=30))
def test_ipv4_ranges_merge(spans: list[Span]) -> None:
    found = ranges4(spans).merged()
    assert list(zip(found.first.tolist(), found.last.tolist(), strict=True)) == merged(spans)
    assert found.addresses == sum(last - first + 1 for first, last in merged(spans))


@settings(deadline=None)
@given(st.lists(prefixes(128, 1) | any_spans(TOP6), max_size=30))
def test_ipv6_ranges_merge(spans: list[Span]) -> None:
    found = ranges6(spans).merged()
    columns = (found.first_high, found.first_low, found.last_high, found.last_low)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    assert [(fh << 64 | fl, lh << 64 | ll) for fh, fl, lh, ll in rows] == merged(spans)


def test_the_filter_stays_sparse() -> None:
    """A filter of too many bits of a short prefix would be full, and slow for all others."""
    assert filter_bits(Ranges6.of([IPv6Network("2001:db8::/64")])) == 64
    assert filter_bits(Ranges6.of([IPv6Network("2001:db8::/32")])) == 52
    assert filter_bits(Ranges6.of([IPv6Network("::/0")])) == 20
    assert level_base(Ranges6.empty()) == (0,)

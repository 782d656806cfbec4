"""First-match networks as longest-prefix entries, and servers that share a port."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fos1d.compile.balance import NOBODY as NO_SERVER
from fos1d.compile.balance import shares
from fos1d.compile.first_match import NOBODY, Network, Wish, first_match

SLOTS = 1021


def networks(bits: int) -> st.SearchStrategy[Network]:
    """Networks of few bits, so that they meet."""
    return st.tuples(st.integers(0, 255), st.integers(bits - 8, bits)).map(
        lambda pair: IPv4Network(((10 << 24) + pair[0], pair[1]), strict=False)
    )


WISHES = st.lists(
    st.builds(
        Wish,
        st.integers(1, 4),
        st.lists(networks(32), max_size=4).map(tuple),
        st.lists(networks(32), max_size=3).map(tuple),
    ),
    max_size=5,
)


def by_order(wishes: Sequence[Wish], address: IPv4Address | IPv6Address) -> int:
    """Whose an address is, by the definition."""
    for wish in wishes:
        if any(address in n for n in wish.takes) and not any(address in n for n in wish.leaves):
            return wish.who
    return NOBODY


def by_length(entries: dict[Network, int], address: IPv4Address | IPv6Address) -> int:
    """Whose an address is, by the longest prefix."""
    found = [network for network in entries if address in network]
    return entries[max(found, key=lambda n: n.prefixlen)] if found else NOBODY


@given(WISHES)
def test_the_longest_prefix_is_the_first_match(wishes: list[Wish]) -> None:
    entries = first_match(wishes)
    for last in range(256):
        address = IPv4Address((10 << 24) + last)
        assert by_length(entries, address) == by_order(wishes, address)


def test_what_says_the_same_is_left_out() -> None:
    inner, outer = IPv6Network("2001:db8:1::/48"), IPv6Network("2001:db8::/32")
    assert first_match([Wish(1, (outer, inner))]) == {outer: 1}
    assert first_match([Wish(1, (outer,), (inner,)), Wish(2, (inner,))]) == {outer: 1, inner: 2}
    assert first_match([Wish(1, (outer,)), Wish(2, (inner,))]) == {outer: 1}


def test_the_shares_follow_the_weights() -> None:
    counts = Counter(shares([(b"a", 1), (b"b", 3), (b"c", 0)], SLOTS).tolist())
    assert counts.keys() == {0, 1}
    assert 0.2 < counts[0] / SLOTS < 0.3
    assert set(shares([(b"a", 0)], SLOTS).tolist()) == {NO_SERVER}


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.data())
def test_a_server_that_goes_moves_nobody_else(weights: list[int], data: st.DataObject) -> None:
    servers = [(bytes([n]), weight) for n, weight in enumerate(weights)]
    gone = data.draw(st.integers(0, len(servers) - 1))
    before = shares(servers, SLOTS)
    drained = [(name, 0 if n == gone else weight) for n, (name, weight) in enumerate(servers)]
    after = shares(drained, SLOTS)
    stayed = before != gone
    assert np.array_equal(before[stayed], after[stayed])

"""Reading lists in columns against reading them line by line with ipaddress."""

from __future__ import annotations

import re
from collections import Counter
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fos1d.compile import netset
from fos1d.compile.edits import Edit, edit_between
from fos1d.compile.netset import MOST_PROBLEMS, NetSet, read_netset

Network = IPv4Network | IPv6Network
Bounds = tuple[int, int, int]

NUMBER_IN_PREFIX = re.compile(r"[0-9]+\Z")


def naive_line(line: bytes) -> Network | None:
    """Read a line as its author means it; ValueError where that is nothing."""
    text = re.split(rb"[#;]", line)[0].strip().decode("ascii")
    if not text:
        return None
    address, slash, bits = text.partition("/")
    if "%" in address or (slash and not NUMBER_IN_PREFIX.match(bits)):
        raise ValueError(text)
    network = ip_network(text)
    if network.prefixlen == 0:
        raise ValueError(text)
    return network


def naive(data: bytes) -> tuple[Counter[Bounds], list[int]]:
    """Return the ranges of a list, and the numbers of its wrong lines."""
    ranges: Counter[Bounds] = Counter()
    wrong = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            network = naive_line(line)
        except ValueError:
            wrong.append(number)
            continue
        if network is not None:
            first, last = int(network.network_address), int(network.broadcast_address)
            ranges[network.version, first, last] += 1
    return ranges, wrong


def ranges_of(found: NetSet) -> Counter[Bounds]:
    """Return the ranges that were read."""
    v4, v6 = found.v4, found.v6
    ranges = Counter(
        (4, int(first), int(last)) for first, last in zip(v4.first, v4.last, strict=True)
    )
    columns = (v6.first_high, v6.first_low, v6.last_high, v6.last_low)
    for fh, fl, lh, ll in zip(*(column.tolist() for column in columns), strict=True):
        ranges[6, fh << 64 | fl, lh << 64 | ll] += 1
    return ranges


def prefix4(address: int, bits: int) -> str:
    return str(IPv4Network((address >> (32 - bits) << (32 - bits), bits)))


def prefix6(address: int, bits: int, exploded: bool, upper: bool) -> str:
    network = IPv6Network((address >> (128 - bits) << (128 - bits), bits))
    text = network.exploded if exploded else str(network)
    return text.upper() if upper else text


ADDRESS4 = st.integers(0, 2**32 - 1) | st.sampled_from([0, 2**32 - 1, 0x0A000000, 0xFFFF0000])
ADDRESS6 = (
    st.integers(0, 2**128 - 1)
    | st.sampled_from([0, 2**128 - 1, 1, 0x20010DB8 << 96, 0xFFFF << 32, 1 << 64, 1 << 112])
    | st.integers(0, 2**48 - 1).map(lambda head: head << 80)
)
PLAIN = (
    st.builds(prefix4, ADDRESS4, st.integers(0, 32))
    | st.builds(prefix4, ADDRESS4, st.just(32)).map(lambda text: text.removesuffix("/32"))
    | st.builds(prefix6, ADDRESS6, st.integers(0, 128), st.booleans(), st.booleans())
    | ADDRESS6.map(lambda number: str(IPv6Network(number)).removesuffix("/128"))
)
MARGIN = st.text(" \t\r\v\f", max_size=2)
COMMENT = st.sampled_from(["", "", "", "# x", ";SBL1 ; SBL2", "#;", "; 1.2.3.4#"])
ALPHABET = "0123456789abcdefF.:/ #;\t%x-"
ODD_LINES = (
    "::ffff:1.2.3.4 1.2.3 1.2.3.4.5 1.2.3.04 256.1.1.1 1.2.3.4/ 1.2.3.4/33 1.2.3.4/024 "
    "1.2.3.4/24 10.0.0.0/255.0.0.0 /8 1..2.3 .1.2.3 1.2.3.4/8/8 255.255.255.255 0.0.0.0/0 "
    ":: ::/0 ::: 1::2::3 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:8:9 ::1:: 1:2:3:4:5:6:7:: : a g:: 1: "
    "::2:3:4:5:6:7:8 1::3:4:5:6:7:8 :1:2:3:4:5:6:7:8 12345:: 2001:db8::/a 2001:db8::/4a "
    "2001:db8::/129 2001:db8::/032 fe80::1%eth0 2001:db8::/ ::/64/64 1.2.3.4:5 0x1.2.3.4"
)
ODD = st.sampled_from(ODD_LINES.split())


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Return a plain line with a byte too many, too few or another one."""
    text = draw(PLAIN)
    at = draw(st.integers(0, len(text)))
    instead = draw(st.text(ALPHABET, max_size=2))
    return text[:at] + instead + text[at + draw(st.integers(0, 1)) :]


LINE = st.builds(
    lambda left, text, right, comment: left + text + right + comment,
    MARGIN,
    PLAIN | mutated() | ODD | st.just("") | st.text(ALPHABET, max_size=6),
    MARGIN,
    COMMENT,
)
PLAIN_LINES = st.lists(PLAIN | st.just(""), max_size=40)
LINES = st.lists(LINE, max_size=12) | PLAIN_LINES


@settings(deadline=None, max_examples=200)
@given(LINES, st.booleans(), st.sampled_from([24, 64, 1 << 18]))
def test_a_list_is_read_as_line_by_line(lines: list[str], ended: bool, chunk_bytes: int) -> None:
    data = ("\n".join(lines) + "\n" * ended).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(netset, "CHUNK_BYTES", chunk_bytes)
        found = read_netset(data)
    ranges, wrong = naive(data)
    assert ranges_of(found) == ranges
    assert [number for number, _ in found.problems] == wrong


def test_wrong_lines_say_why() -> None:
    found = read_netset(
        b"10.0.0.0/8\n\n10.0.0.1/8 # host bits\nexample.org\n10.0.0.0/255.0.0.0\nfe80::1%eth0\n"
    )
    assert found.problems == (
        (3, "`10.0.0.1/8` has bits set behind its prefix: write 10.0.0.0/8"),
        (4, "`example.org` is no IPv4 or IPv6 address or CIDR"),
        (5, "`10.0.0.0/255.0.0.0` has no prefix length: write 10.0.0.0/8"),
        (6, "`fe80::1%eth0` names a zone, which no packet does: leave it out"),
    )


def test_after_many_mistakes_the_rest_is_not_read() -> None:
    data = b"1.2.3.4\n" + b"nonsense\n" * 1_000_000
    found = read_netset(data)
    assert len(found.problems) == MOST_PROBLEMS
    assert found.problems[-1][0] == MOST_PROBLEMS + 1


def test_a_line_of_megabytes_is_a_line() -> None:
    comment = b"#" + b" 1.2.3.4" * 500_000
    assert ranges_of(read_netset(b"1.2.3.4 " + comment)) == Counter(
        {(4, 0x01020304, 0x01020304): 1}
    )
    assert read_netset(b" " * 4_000_000).problems == ()
    assert [n for n, _ in read_netset(b"1.1.1.1\n" + b"1.2.3.4" * 500_000).problems] == [2]


TEXT = st.text("ab\n", max_size=12).map(str.encode)


def edit_of(before: bytes, after: bytes, piece: int = 1 << 17) -> Edit | None:
    pieces = [after[at : at + piece] for at in range(0, len(after), piece)]
    return edit_between(before, len(after), pieces, len(before) + len(after))


@given(TEXT, TEXT, TEXT, TEXT, st.integers(1, 9))
def test_an_edit_is_the_lines_between_common_ones(
    head: bytes, one: bytes, other: bytes, tail: bytes, piece: int
) -> None:
    before, after = head + one + tail, head + other + tail
    edit = edit_of(before, after, piece)
    assert edit
    assert after == before[: edit.begin] + edit.text + before[edit.end :]
    assert edit.begin <= edit.end <= len(before)
    for text, end in ((before, edit.end), (after, edit.begin + len(edit.text))):
        cuts = [edit.begin, end]
        assert all(cut in (0, len(text)) or text[cut - 1 : cut] == b"\n" for cut in cuts)


@given(TEXT, TEXT, st.integers(0, 9), st.integers(1, 9))
def test_texts_that_differ_too_much_have_no_edit(
    before: bytes, after: bytes, most: int, piece: int
) -> None:
    pieces = [after[at : at + piece] for at in range(0, len(after), piece)]
    whole, found = edit_of(before, after), edit_between(before, len(after), pieces, most)
    assert whole
    assert found == whole or (not found and max(len(before), len(after)) > most)
    for size in (len(after) - 1, len(after) + 1):
        assert edit_between(before, size, pieces, 100) is None


def test_an_edit_of_a_big_text_is_small() -> None:
    lines = [b"%d\n" % number for number in range(100_000)]
    before = b"".join(lines)
    for at in (0, 1, 4711, 99_999, 100_000):
        after = b"".join([*lines[:at], b"new\n", *lines[at:]])
        for edit in (edit_of(before, after), edit_of(after, before), edit_of(before, before)):
            assert edit
            assert edit.end - edit.begin + len(edit.text) < 30
    assert all(a != b for a, b in pairwise(lines))

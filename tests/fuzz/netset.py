"""Address lists: read in columns, they say what they say when read line by line."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

from fos1d.compile.netset import MOST_PROBLEMS, NetSet, read_netset

Range = tuple[int, int, int]
BLANKS = " \t\r\v\f"


def check(data: bytes) -> None:
    """Read both ways: the same ranges, the same wrong lines."""
    found = read_netset(data)
    wrong = [line for line, _ in found.problems]
    ranges, bad = naive(data)
    assert wrong == bad[:MOST_PROBLEMS], (wrong, bad)
    assert all(message for _, message in found.problems)
    if len(bad) < MOST_PROBLEMS:
        assert ranges_of(found) == ranges


def naive(data: bytes) -> tuple[Counter[Range], list[int]]:
    """Return the ranges (version, first, last) and the numbers of the wrong lines."""
    ranges: Counter[Range] = Counter()
    wrong = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            text = line.partition(b"#")[0].partition(b";")[0].decode("ascii").strip(BLANKS)
            if text:
                ranges[naive_range(text)] += 1
        except ValueError:
            wrong.append(number)
    return ranges, wrong


def naive_range(text: str) -> Range:
    """Read `address` or `address/bits`; ValueError at zones, masks, host bits, everything."""
    address, slash, bits = text.partition("/")
    if "%" in address or (slash and not (bits.isascii() and bits.isdecimal())):
        raise ValueError(text)
    network = ip_network(f"{address}/{int(bits)}" if slash else address)
    if not network.prefixlen:
        raise ValueError(text)
    return network.version, int(network.network_address), int(network.broadcast_address)


def ranges_of(found: NetSet) -> Counter[Range]:
    """Return the ranges that were read, in the same form."""
    v4, v6 = found.v4, found.v6
    four = zip(v4.first.tolist(), v4.last.tolist(), strict=True)
    ranges: Counter[Range] = Counter((4, first, last) for first, last in four)
    halves = (v6.first_high, v6.first_low, v6.last_high, v6.last_low)
    for fh, fl, lh, ll in zip(*(half.tolist() for half in halves), strict=True):
        ranges[6, fh << 64 | fl, lh << 64 | ll] += 1
    return ranges

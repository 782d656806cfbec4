"""NPTv6 (RFC 6296): prefixes for prefixes, without state, and no checksum changes."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest

from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests.kernel.nat_packets import Seen, error, packet, ping, tcp, udp
from tests.kernel.nat_places import V6, dest, masquerade, source
from tests.kernel.nat_rig import Nat, Rules

pytestmark = pytest.mark.kernel


def sum16(prefix: str) -> int:
    """Return the sum of a prefix's words, in ones' complement."""
    total: int = sum(struct.unpack("!8H", ip_network(prefix).network_address.packed))
    return (total & 0xFFFF) + (total >> 16)


def adjustment(old: str, new: str) -> int:
    """Return what makes up for a new prefix."""
    total = sum16(old) + (~sum16(new) & 0xFFFF)
    return (total & 0xFFFF) + (total >> 16)


def swap(inside: str, outside: str) -> Rules:
    """Return the rules of one prefix for another."""
    rules = masquerade(V6)
    rules.sources = []
    rules.prefixes = [
        ("out", inside, outside, adjustment(inside, outside)),
        ("in", outside, inside, adjustment(outside, inside)),
    ]
    return rules


CASES = [
    ("fd01:203:405::/48", "2001:db8:1::/48", "fd01:203:405:1::1234"),
    ("fd01:203::/32", "2001:db8::/32", "fd01:203:405:1::1234"),
    ("fd01:203:405:100::/56", "2001:db8:1:aa00::/56", "fd01:203:405:101::1234"),
    ("fd01:203:405:1::/64", "2001:db8:1:2::/64", "fd01:203:405:1:ffff::1234"),
]


@pytest.mark.parametrize(("inside", "outside", "host"), CASES)
def test_a_prefix_for_another(kernel: RealKernel, inside: str, outside: str, host: str) -> None:
    nat = Nat(kernel, 6, swap(inside, outside))
    for make in (udp, tcp):
        sent = make(host, 9, V6.far, 53)
        seen = nat.out(sent)
        assert seen is not None
        assert ip_address(seen.source) in ip_network(outside)
        assert seen.content == sent[40:]
        assert seen.sport == 9
        assert dest(nat, make(V6.far, 53, seen.source, 9)) == (host, 9)
    address, _ = source(nat, udp(host, 9, V6.far, 53))
    assert source(nat, ping(host, V6.far, 3)) == (address, 3)
    assert nat.rows("flows") == []
    assert nat.counts()["stateless"] == 6


def test_the_example_of_the_rfc(kernel: RealKernel) -> None:
    nat = Nat(kernel, 6, swap(*CASES[0][:2]))
    assert source(nat, udp(CASES[0][2], 9, V6.far, 53)) == ("2001:db8:1:d550::1234", 9)


def test_what_no_word_makes_up_for(kernel: RealKernel) -> None:
    nat = Nat(kernel, 6, swap(*CASES[0][:2]))
    assert nat.out(udp("fd01:203:405:ffff::1", 9, V6.far, 53)) is None
    assert nat.counts()["refused"] == 1


def test_what_is_excluded(kernel: RealKernel) -> None:
    rules = swap(*CASES[0][:2])
    apart = "fd01:203:405:ffff::/64"
    rules.prefixes.append(("out", apart, apart, 0))
    nat = Nat(kernel, 6, rules)
    host = "fd01:203:405:ffff::1"
    assert source(nat, udp(host, 9, V6.far, 53)) == (host, 9)


def test_errors_and_fragments_of_prefixes(kernel: RealKernel) -> None:
    nat = Nat(kernel, 6, swap(*CASES[0][:2]))
    host, outside = CASES[0][2], "2001:db8:1:d550::1234"
    seen = nat.come(error(V6.far, outside, udp(outside, 9, V6.far, 53)))
    assert seen is not None
    assert seen.dest == host
    assert seen.quoted == Seen(host, 9, V6.far, 53, f.UDP)
    whole = f.udp(9, 53, b"x" * 24)
    for fragment, content in ((0x2000, whole[:16]), (2, whole[16:])):
        part = packet(host, V6.far, f.UDP, content, fragment, whole=whole)
        seen = nat.out(part)
        assert seen is not None
        assert seen.source == outside

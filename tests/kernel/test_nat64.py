"""NAT64 (RFC 6146, 7915): from IPv6 to IPv4 and back, every header and checksum."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests.kernel.nat_packets import Seen, packet, ping, tcp, udp
from tests.kernel.nat_rig import POLICY, Nat, Rules, words

pytestmark = pytest.mark.kernel

INSIDE, SECOND, OUTSIDE, FAR = "2001:db8:1::7", "2001:db8:1::8", "203.0.113.1", "192.0.2.9"
# RFC 6052, 2.4: prefixes, and where 192.0.2.33 is in each.
EXAMPLES = [
    ("2001:db8::", 4, "2001:db8:c000:221::"),
    ("2001:db8:100::", 5, "2001:db8:1c0:2:21::"),
    ("2001:db8:122::", 6, "2001:db8:122:c000:2:2100::"),
    ("2001:db8:122:300::", 7, "2001:db8:122:3c0:0:221::"),
    ("2001:db8:122:344::", 8, "2001:db8:122:344:c0:2:2100::"),
    ("2001:db8:122:344::", 12, "2001:db8:122:344::c000:221"),
    ("64:ff9b::", 12, "64:ff9b::c000:221"),
]


def embedded(address: str) -> str:
    """Return an address behind the well-known prefix."""
    return str(IPv6Address(int(IPv6Address("64:ff9b::")) | int(IPv4Address(address))))


def make(kernel: RealKernel, prefix: str = "64:ff9b::", size: int = 12, **policy: int) -> Nat:
    """Return NAT64 for the inside."""
    rule = {
        "external4": words(OUTSIDE),
        "prefix64": words(prefix),
        "prefix64_bytes": size,
        **policy,
    }
    return Nat(kernel, 6, Rules({POLICY: rule}, [("2001:db8:1::/48", POLICY)]), program="tc_nat64")


@pytest.mark.parametrize("protocol", [f.UDP, f.TCP])
def test_there_and_back(kernel: RealKernel, protocol: int) -> None:
    nat = make(kernel)
    packet_of = udp if protocol == f.UDP else tcp
    sent = packet_of(INSIDE, 5001, embedded(FAR), 53)
    for _ in range(2):
        seen = nat.out(sent)
        assert seen is not None
        assert (seen.source, seen.sport, seen.dest, seen.dport) == (OUTSIDE, 5001, FAR, 53)
        assert seen.protocol == protocol
        back = nat.come(packet_of(FAR, 53, OUTSIDE, 5001))
        assert back is not None
        assert (back.source, back.sport) == (embedded(FAR), 53)
        assert (back.dest, back.dport) == (INSIDE, 5001)
    other = nat.out(packet_of(SECOND, 5001, embedded(FAR), 53))
    assert other is not None
    assert other.sport != 5001
    assert nat.counts()["packets"] == 5


def test_a_ping(kernel: RealKernel) -> None:
    nat = make(kernel)
    seen = nat.out(ping(INSIDE, embedded(FAR), 77))
    assert seen is not None
    assert (seen.source, seen.dest, seen.protocol) == (OUTSIDE, FAR, f.ICMP)
    assert seen.content[0] == 8
    back = nat.come(ping(FAR, OUTSIDE, seen.sport, is_answer=True))
    assert back is not None
    assert (back.dest, back.sport, back.content[0]) == (INSIDE, 77, 129)


@pytest.mark.parametrize(("prefix", "size", "address"), EXAMPLES)
def test_prefixes(kernel: RealKernel, prefix: str, size: int, address: str) -> None:
    nat = make(kernel, prefix, size)
    seen = nat.out(udp(INSIDE, 5001, address, 53))
    assert seen is not None
    assert seen.dest == "192.0.2.33"
    back = nat.come(udp("192.0.2.33", 53, OUTSIDE, 5001))
    assert back is not None
    assert back.source == str(ip_address(address))


def test_headers(kernel: RealKernel) -> None:
    nat = make(kernel)
    sent = bytearray(udp(INSIDE, 5001, embedded(FAR), 53, b"x" * 1300))
    sent[0:2] = b"\x6b\x80"
    data = nat._run("out", bytes(sent), 2)
    assert data is not None
    assert data[1] == 0xB8
    assert data[8] == 63
    assert data[6:8] == b"\x40\0"
    data = nat._run("out", udp(INSIDE, 5001, embedded(FAR), 53), 2)
    assert data is not None
    assert data[6:8] == b"\0\0"
    back = bytearray(udp(FAR, 53, OUTSIDE, 5001))
    data = nat._run("in", bytes(back), 0)
    assert data is not None
    assert data[7] == 64


def test_what_is_filtered_and_what_is_not_translated(kernel: RealKernel) -> None:
    nat = make(kernel)
    nat.out(udp(INSIDE, 5001, embedded(FAR), 53))
    assert nat.come(udp("192.0.2.10", 53, OUTSIDE, 5001)) is None
    stray = nat.come(udp(FAR, 53, OUTSIDE, 9))
    assert stray is not None
    assert stray.dest == OUTSIDE
    elsewhere = nat.out(udp(INSIDE, 5001, "2001:db8:9::9", 53))
    assert elsewhere is not None
    assert elsewhere.dest == "2001:db8:9::9"
    assert nat.out(packet(INSIDE, embedded(FAR), 47, b"12345678")) is None
    last_hop = bytearray(udp(INSIDE, 5001, embedded(FAR), 53))
    last_hop[7] = 1
    assert nat.out(bytes(last_hop)) is None


def test_its_ports_are_not_nat44s(kernel: RealKernel) -> None:
    nat = make(kernel)
    nat.out(udp(INSIDE, 5001, embedded(FAR), 53))
    nat.family = 4
    ((key, end),) = nat.rows("ends")
    assert (int(key["port"]), int(end["port"])) == (5001, 5001)
    assert int(key["address"]) == int(end["address"]) == words(OUTSIDE)


# Errors: (type, code, rest) of ICMP and of ICMPv6 (RFC 7915, 4.2 and 5.2).
FROM_4_TO_6 = [
    ((3, 1, 0), (1, 0, 0)),
    ((3, 3, 0), (1, 4, 0)),
    ((3, 13, 0), (1, 1, 0)),
    ((3, 2, 0), (4, 1, 6)),
    ((3, 4, 1400), (2, 0, 1420)),
    ((3, 4, 576), (2, 0, 1280)),
    ((11, 0, 0), (3, 0, 0)),
    ((12, 1, 0), None),
]
FROM_6_TO_4 = [
    ((1, 0, 0), (3, 1, 0)),
    ((1, 1, 0), (3, 10, 0)),
    ((1, 4, 0), (3, 3, 0)),
    ((2, 0, 1400), (3, 4, 1380)),
    ((3, 1, 0), (11, 1, 0)),
    ((4, 1, 6), (3, 2, 0)),
    ((4, 2, 0), None),
]


def message(source: str, dest: str, said: tuple[int, int, int], quoted: bytes) -> bytes:
    """Return an error that quotes a packet."""
    protocol = f.ICMPV6 if ":" in source else f.ICMP
    content = struct.pack("!BBHI", said[0], said[1], 0, said[2]) + quoted
    return packet(source, dest, protocol, content)


def said_by(seen: Seen | None) -> tuple[int, int, int] | None:
    """Return what an error says."""
    if seen is None:
        return None
    kind, code, _, rest = struct.unpack("!BBHI", seen.content[:8])
    return kind, code, rest


@pytest.mark.parametrize(("said", "expected"), FROM_4_TO_6)
def test_errors_from_outside(
    kernel: RealKernel, said: tuple[int, int, int], expected: tuple[int, int, int] | None
) -> None:
    nat = make(kernel)
    for protocol, packet_of in ((f.UDP, udp), (f.TCP, tcp)):
        nat.out(packet_of(INSIDE, 5001, embedded(FAR), 53))
        quoted = packet_of(OUTSIDE, 5001, FAR, 53)
        seen = nat.come(message("192.0.2.99", OUTSIDE, said, quoted))
        assert said_by(seen) == expected
        if seen is not None:
            assert (seen.source, seen.dest) == (embedded("192.0.2.99"), INSIDE)
            assert seen.quoted == Seen(INSIDE, 5001, embedded(FAR), 53, protocol)


@pytest.mark.parametrize(("said", "expected"), FROM_6_TO_4)
def test_errors_from_inside(
    kernel: RealKernel, said: tuple[int, int, int], expected: tuple[int, int, int] | None
) -> None:
    nat = make(kernel)
    for protocol, packet_of in ((f.UDP, udp), (f.TCP, tcp)):
        nat.out(packet_of(INSIDE, 5001, embedded(FAR), 53))
        quoted = packet_of(embedded(FAR), 53, INSIDE, 5001)
        seen = nat.out(message(INSIDE, embedded(FAR), said, quoted))
        assert said_by(seen) == expected
        if seen is not None:
            assert (seen.source, seen.dest) == (OUTSIDE, FAR)
            assert seen.quoted == Seen(FAR, 53, OUTSIDE, 5001, protocol)


def test_errors_about_pings_and_strays(kernel: RealKernel) -> None:
    nat = make(kernel)
    nat.out(ping(INSIDE, embedded(FAR), 77))
    seen = nat.come(message(FAR, OUTSIDE, (3, 1, 0), ping(OUTSIDE, FAR, 77)))
    assert seen is not None
    assert seen.quoted == Seen(INSIDE, 77, embedded(FAR), 77, f.ICMPV6)
    stray = nat.come(message(FAR, OUTSIDE, (3, 1, 0), udp(OUTSIDE, 9, FAR, 53)))
    assert stray is not None
    assert stray.dest == OUTSIDE
    quoted = udp(embedded(FAR), 53, INSIDE, 9)
    assert nat.out(message(INSIDE, embedded(FAR), (1, 4, 0), quoted)) is None


def test_the_checksums_of_what_is_quoted(kernel: RealKernel) -> None:
    nat = make(kernel)
    nat.out(udp(INSIDE, 5001, embedded(FAR), 53, b""))
    seen = nat.come(message(FAR, OUTSIDE, (3, 3, 0), udp(OUTSIDE, 5001, FAR, 53, b"")))
    assert seen is not None
    assert seen.content[8:] == udp(INSIDE, 5001, embedded(FAR), 53, b"")
    nat.out(udp(SECOND, 6001, embedded(FAR), 53, b""))
    quoted = udp(embedded(FAR), 53, SECOND, 6001, b"")
    seen = nat.out(message(SECOND, embedded(FAR), (1, 4, 0), quoted))
    assert seen is not None
    assert seen.content[28:] == udp(FAR, 53, OUTSIDE, 6001, b"")[20:]

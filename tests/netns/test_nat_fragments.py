"""Fragments in and out of order: RFC 4787 REQ-14."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from tests import frames
from tests.netns.nat_how import Translator, dnat, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import SILENCE_S, pings, udp
from tests.netns.nat_wire import Packet, finished, inject, packet_of, wire

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT, SIZE = 40_000, 3000
MORE = 0x2000
PLACES = (1008, 2016)


def content_of(size: int) -> bytes:
    """Return bytes that tell their places."""
    return b"".join(struct.pack("!H", number) for number in range(size // 2))


def cut(whole: bytes, identification: int, *places: int) -> list[bytes]:
    """Return the fragments of a packet, cut at places of its payload, multiples of eight."""
    packet = Packet(whole)
    ends = [0, *places, len(packet.payload)]
    return [
        _fragment(packet, packet.payload[begin:end], identification, begin, end != ends[-1])
        for begin, end in pairwise(ends)
    ]


def _fragment(packet: Packet, part: bytes, identification: int, begin: int, more: bool) -> bytes:
    if packet.version == 4:
        field = begin // 8 | (MORE if more else 0)
        made = frames.ipv4(packet.source, packet.dest, packet.protocol, part, fragment=field)
        return finished(made[:4] + struct.pack("!H", identification) + made[6:])
    head = struct.pack("!BBHI", packet.protocol, 0, begin | more, identification)
    return frames.ipv6(packet.source, packet.dest, frames.FRAGMENT, head + part)


def udp_packet(source: tuple[str, int], dest: tuple[str, int], size: int = SIZE) -> bytes:
    """Return a large UDP packet."""
    content = frames.udp(source[1], dest[1], content_of(size))
    return packet_of(source[0], dest[0], frames.UDP, content)


def test_large_datagrams_of_sockets_pass_both_ways(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    with udp(home.a, at.a, PORT) as inside, udp(home.far, at.far) as far:
        for size in (1400, 1500, 3000, 8000, 30_000):
            content = content_of(size)
            inside.send(far.endpoint, content)
            got = far.receive()
            assert got == (content, (at.outside, PORT))
            far.send((at.outside, PORT), content)
            assert inside.receive() == (content, far.endpoint)


def test_large_pings_pass_both_ways(home: Household, either: Translator, at: Addresses) -> None:
    either(home, masquerade())
    assert pings(home.a, at.far, "-s", "4000", count=3)
    assert pings(home.b, at.far, "-s", "9001", count=3)


def test_fragments_in_order_from_outside(
    home: Household, either: Translator, at: Addresses
) -> None:
    mapping = {"protocol": "udp", "externalPort": 7000, "internalIP": at.a}
    either(home, dnat(at.outside, mapping))
    with udp(home.a, at.a, 7000) as inside:
        for number in range(3):
            whole = udp_packet((at.far, 5000), (at.outside, 7000))
            inject(home.far, *cut(whole, 100 + number, *PLACES))
            assert inside.receive() == (content_of(SIZE), (at.far, 5000))


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("way", ["out", "in"])
def test_fragments_out_of_order(
    home: Household, either: Translator, at: Addresses, way: str, order: tuple[int, ...]
) -> None:
    mapping = {"protocol": "udp", "externalPort": 7000, "internalIP": at.a}
    either(home, dnat(at.outside, mapping), masquerade())
    with udp(home.a, at.a, 7000) as inside, udp(home.far, at.far, 7000) as far:
        is_out = way == "out"
        dest = far.endpoint if is_out else (at.outside, 7000)
        source = (at.a, 7000) if is_out else far.endpoint
        pieces = cut(udp_packet(source, dest), 77, *PLACES)
        inject(home.a if is_out else home.far, *(pieces[one] for one in order))
        receiver = far if is_out else inside
        got = receiver.receive()
    assert got is not None
    assert got[0] == content_of(SIZE)


def test_fragments_whose_first_never_comes_go_nowhere(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """Neither to an inside host nor, with an inside address, out; and they hold no memory."""
    translate(home, masquerade())
    with udp(home.far, at.far, 7000) as far, udp(home.a, at.a, PORT) as inside:
        assert far.hears(inside, far.endpoint)
        with wire(home.far) as outside, wire(home.a) as within:
            for number in range(50):
                pieces = cut(udp_packet((at.a, PORT), far.endpoint), 1000 + number, *PLACES)
                inject(home.a, *pieces[1:])
                pieces = cut(udp_packet(far.endpoint, (at.outside, PORT)), 500 + number, *PLACES)
                inject(home.far, *pieces[1:])
            assert outside.of(frames.UDP, SILENCE_S) == []
            assert within.of(frames.UDP, SILENCE_S) == []
        inside.send(far.endpoint, content_of(8000))
        assert far.receive() == (content_of(8000), (at.outside, PORT))


def test_fragments_of_two_datagrams_are_not_mixed(
    home: Household, either: Translator, at: Addresses
) -> None:
    """Two hosts with the same identification at once: after translation they look alike, which
    the translator must not make worse than it is (RFC 6864)."""
    either(home, masquerade())
    with udp(home.far, at.far, 7000) as far:
        one = cut(udp_packet((at.a, PORT), far.endpoint), 1, *PLACES)
        two = cut(udp_packet((at.b, PORT + 1), far.endpoint), 2, *PLACES)
        for first, second in zip(one, two, strict=True):
            inject(home.a, first)
            inject(home.b, second)
        seen = {far.receive() for _ in range(2)}
    assert seen == {
        (content_of(SIZE), (at.outside, PORT)),
        (content_of(SIZE), (at.outside, PORT + 1)),
    }

"""Checksums as receivers find them: with and without offload, large segments, odd lengths."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests import frames
from tests.lab import Namespace
from tests.netns.nat_how import Translator, dnat, masquerade
from tests.netns.nat_site import FAMILIES, WAN, Addresses, Household
from tests.netns.nat_talk import dialed, endpoint_of, listener, udp
from tests.netns.nat_wire import Packet, Wire, faults, finished, inject, packet_of, wire

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

ON, OFF = "on", "off"
# Of the hosts, and of the router's two interfaces on the way.
OFFLOADS = [(ON, ON), (OFF, ON), (ON, OFF), (OFF, OFF)]
SIZES = (0, 1, 2, 3, 17, 18, 101, 1399, 1400, 1451)
BULK = 3_000_001
PORT = 40_000


def offload(host: Namespace, interface: str, value: str) -> None:
    """Switch checksum offload, and with it segmentation offload, on or off."""
    host.run("ethtool", "-K", interface, "tx", value, "rx", value)


def set_offloads(home: Household, hosts: str, router: str) -> None:
    """Switch them at both hosts, and where the router sends."""
    for host in (home.a, home.far):
        offload(host, "eth0", hosts)
    for interface in (WAN, "lan0"):
        offload(home.middle, interface, router)


def judged(seen: Wire, protocol: int) -> list[Packet]:
    """Return the packets of a protocol that came, all of which must be right."""
    found = seen.of(protocol)
    for packet in found:
        assert list(faults(packet)) == [], packet
    return found


@pytest.mark.parametrize(("hosts", "router"), OFFLOADS)
def test_datagrams_of_all_lengths(
    home: Household, either: Translator, at: Addresses, hosts: str, router: str
) -> None:
    either(home, masquerade())
    set_offloads(home, hosts, router)
    with (
        udp(home.a, at.a, PORT) as inside,
        udp(home.far, at.far) as far,
        wire(home.far) as outside,
        wire(home.a) as within,
    ):
        for size in SIZES:
            content = bytes(range(256)) * 6
            inside.send(far.endpoint, content[:size])
            assert far.receive() == (content[:size], (at.outside, PORT))
            far.send((at.outside, PORT), content[:size])
            assert inside.receive() == (content[:size], far.endpoint)
        for seen in (outside, within):
            assert len(judged(seen, frames.UDP)) == len(SIZES)


@pytest.mark.parametrize(("hosts", "router"), OFFLOADS)
def test_a_bulk_of_tcp_both_ways(
    home: Household, either: Translator, at: Addresses, hosts: str, router: str
) -> None:
    """With offload at the hosts, segments of up to 64 KB are translated in one piece; the router
    cuts them up behind that where it has none."""
    either(home, masquerade())
    set_offloads(home, hosts, router)
    with (
        listener(home.far, at.far) as server,
        dialed(home.a, at.a, 0, endpoint_of(server.getsockname())) as made,
        wire(home.far) as outside,
        wire(home.a) as within,
    ):
        taken, _ = server.accept()
        for one, other in ((made, taken), (taken, made)):
            content = bytes(range(251)) * (BULK // 251 + 1)
            sender = threading.Thread(target=one.sendall, args=(content[:BULK],))
            sender.start()
            other.settimeout(5)
            assert b"".join(pieces(other)) == content[:BULK]
            sender.join()
        largest = 0
        for seen in (outside, within):
            found = judged(seen, frames.TCP)
            largest = max(largest, *(len(packet.data) for packet in found))
        assert (largest > 1500) == (hosts == router == ON)
        taken.close()


def pieces(one: object) -> Iterator[bytes]:
    """Yield what comes until all has."""
    left = BULK
    while left:
        data = one.recv(1 << 18)  # type: ignore[attr-defined]
        assert data, f"the connection ended, {left} bytes are missing"
        left -= len(data)
        yield data


def test_a_datagram_without_a_checksum_stays_without(
    home: Household, either: Translator, at: Addresses
) -> None:
    if at.version == 6:
        return
    either(home, masquerade())
    whole = packet_of(at.a, at.far, frames.UDP, frames.udp(PORT, 7000, b"no sum"))
    bare = whole[:26] + b"\0\0" + whole[28:]
    with wire(home.far) as outside:
        inject(home.a, bare)
        got = outside.one(lambda packet: packet.protocol == frames.UDP)
    assert got.source == at.outside
    assert got.payload[6:8] == b"\0\0"


def test_no_checksum_becomes_zero(home: Household, either: Translator, at: Addresses) -> None:
    """A sum of 0 is written as 0xffff: 0 would say that there is none. All sums are tried."""
    either(home, masquerade())
    home.finish_checksums()
    with wire(home.far) as outside:
        fields = set()
        for number in range(0, 65_536, 37):
            content = frames.udp(PORT, 7000, number.to_bytes(2, "big"))
            inject(home.a, packet_of(at.a, at.far, frames.UDP, content))
        inject(home.a, zero_after(at))
        for packet in judged(outside, frames.UDP):
            fields.add(packet.payload[6:8])
    assert b"\xff\xff" in fields
    assert b"\0\0" not in fields


def zero_after(at: Addresses) -> bytes:
    """Return the datagram whose sum is 0 once its source is the router's."""
    translated = packet_of(at.outside, at.far, frames.UDP, frames.udp(PORT, 7000, b"\0\0"))
    field = translated[-4:-2]
    content = frames.udp(PORT, 7000, field)
    return packet_of(at.a, at.far, frames.UDP, content)


def test_a_wrong_checksum_is_not_made_right(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """What is adjusted and not made anew stays as wrong as it was: the receiver must see it."""
    translate(home, dnat(at.outside, {"protocol": "udp", "externalPort": 7000, "internalIP": at.a}))
    home.finish_checksums()
    whole = packet_of(at.far, at.outside, frames.UDP, frames.udp(PORT, 7000, b"right"))
    with wire(home.a) as within:
        inject(home.far, whole[:-1] + b"\0", finished(whole))
        wrong, right = within.of(frames.UDP)
    assert list(faults(wrong)) == ["the transport checksum"]
    assert list(faults(right)) == []

"""Packets in words, in bytes, and in the ring of events."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TypeAlias

import pytest

from fos1d.abi import PlaceKind, PolicyChain, Reason
from fos1d.cli.exits import Stop
from fos1d.cli.explain import end_of
from fos1d.kinds.policy_lower import PolicyView
from fos1d.model.frame import answered, frame_of
from fos1d.model.packet import ICMP, ICMPV6, SCTP, TCP, UDP, Address, LoggedPacket, Tuple
from fos1d.report.events import MOST_PACKETS, Event, Events, EventType
from fos1d.report.packets import packet_event

Ends: TypeAlias = tuple[Address, Address]

FOUR: Ends = ip_address("192.0.2.1"), ip_address("198.51.100.2")
SIX: Ends = ip_address("2001:db8::1"), ip_address("2001:db8::2")


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        (Tuple(TCP, *FOUR, 4000, 22), "tcp 192.0.2.1:4000 -> 198.51.100.2:22"),
        (Tuple(UDP, *SIX, 4000, 53), "udp [2001:db8::1]:4000 -> [2001:db8::2]:53"),
        (Tuple(ICMP, *FOUR, type=8), "icmp 192.0.2.1 -> 198.51.100.2 type 8 code 0"),
        (Tuple(47, *FOUR), "47 192.0.2.1 -> 198.51.100.2"),
    ],
)
def test_a_five_tuple_in_words(ends: Tuple, text: str) -> None:
    assert str(ends) == text


def test_a_packet_of_a_rule_that_is_gone() -> None:
    seen = LoggedPacket(
        5,
        77,
        PlaceKind.PLACE_INTERFACE,
        3,
        PolicyChain.CHAIN_OUT,
        Reason.PASS_ESTABLISHED,
        Tuple(TCP, *FOUR, 4000, 22),
        60,
    )
    event = packet_event(seen, PolicyView())
    assert event.about is None and event.origin is None
    assert event.message == (
        "tcp 192.0.2.1:4000 -> 198.51.100.2:22, 60 bytes, out interface 3: pass-established; logged"
    )
    assert event.packet and event.packet["dest_port"] == 22


def test_packets_do_not_push_out_what_happened() -> None:
    events = Events(lambda: 1.0, lambda _: None)
    events.add(Event(EventType.NORMAL, "Ready", "it is"))
    for number in range(MOST_PACKETS + 5):
        events.add(Event(EventType.NORMAL, "PacketLogged", f"packet {number}", packet={}))
    found = [event.message for event in events.newest()]
    assert len(found) == MOST_PACKETS + 1
    assert "it is" in found and "packet 4" not in found


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP, ICMP, ICMPV6, 47])
def test_frames_have_the_lengths_that_they_claim(protocol: int, ends: Ends) -> None:
    frame = frame_of(Tuple(protocol, *ends, 1, 2, 8), opens=True)
    assert len(frame) >= 60
    claimed = int.from_bytes(frame[16:18]) if ends is FOUR else int.from_bytes(frame[18:20]) + 40
    assert len(frame.rstrip(b"\0")) <= 14 + claimed <= len(frame)


def test_the_checksum_of_an_ipv4_header() -> None:
    header = frame_of(Tuple(UDP, *FOUR, 1, 2), opens=True)[14:34]
    total = sum(int.from_bytes(header[at : at + 2]) for at in range(0, 20, 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_who_asked_what_is_answered() -> None:
    reply = Tuple(ICMP, *FOUR, type=0)
    assert answered(reply) == Tuple(ICMP, FOUR[1], FOUR[0], type=8)
    assert answered(Tuple(TCP, *FOUR, 1, 2)) == Tuple(TCP, FOUR[1], FOUR[0], 2, 1)


def test_ends_on_the_command_line() -> None:
    assert end_of("--src", "192.0.2.1:80", True) == ("192.0.2.1", 80)
    assert end_of("--src", "[2001:db8::1]:80", True) == ("2001:db8::1", 80)
    assert end_of("--src", "2001:db8::1", False) == ("2001:db8::1", None)
    for wrong in ("192.0.2.1", "192.0.2.1:x", "2001:db8::1:80", "[192.0.2.1]:80", "host:80"):
        with pytest.raises(Stop, match="ADDRESS:PORT"):
            end_of("--src", wrong, True)

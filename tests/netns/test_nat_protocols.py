"""What has no ports, and what is not to be translated."""

from __future__ import annotations

import pytest

from tests.netns.nat_how import Translator, full, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import SILENCE_S, udp
from tests.netns.nat_wire import Packet, inject, packet_of, wire

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

GRE, ESP, SCTP, UNKNOWN = 47, 50, 132, 253
# Contents that nobody may touch. netfilter wants to understand SCTP: it is no yardstick for that.
CONTENTS = {
    GRE: bytes.fromhex("2000080000000007") + bytes(20),
    ESP: bytes.fromhex("c0ffee00000000010011223344556677"),
    SCTP: bytes.fromhex("0bb80bb800000000a1b2c3d4010000140000000100010000000a000a00000001"),
    UNKNOWN: b"nobody knows this protocol",
}
WITHOUT_STATE = (GRE, ESP, UNKNOWN)


@pytest.mark.parametrize("protocol", WITHOUT_STATE)
def test_other_protocols_by_address_only(
    home: Household, either: Translator, at: Addresses, protocol: int
) -> None:
    either(home, masquerade())
    by_address(home, at, protocol)


def test_sctp_by_address_only(home: Household, translate: Translator, at: Addresses) -> None:
    translate(home, masquerade())
    by_address(home, at, SCTP)


def by_address(home: Household, at: Addresses, protocol: int) -> None:
    """Send out and back, and find all but the address as it was."""
    content = CONTENTS[protocol]
    with wire(home.far) as outside, wire(home.a) as inside:
        inject(home.a, packet_of(at.a, at.far, protocol, content))
        got = outside.one(lambda packet: packet.protocol == protocol)
        assert (got.source, got.dest, got.payload) == (at.outside, at.far, content)
        inject(home.far, packet_of(at.far, at.outside, protocol, content))
        back = inside.one(lambda packet: packet.protocol == protocol)
        assert (back.source, back.dest, back.payload) == (at.far, at.a, content)


def test_a_second_host_without_ports_must_wait(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """Answers could not be told apart, so one inside host has each far end."""
    translate(home, masquerade())
    with wire(home.far) as outside:
        inject(home.a, packet_of(at.a, at.far, ESP, CONTENTS[ESP]))
        outside.one(lambda packet: packet.protocol == ESP)
        inject(home.b, packet_of(at.b, at.far, ESP, CONTENTS[ESP]))
        assert outside.of(ESP, SILENCE_S) == []
        inject(home.b, packet_of(at.b, at.far2, ESP, CONTENTS[ESP]))
        assert outside.one(lambda packet: packet.protocol == ESP).source == at.outside


@pytest.mark.parametrize("protocol", WITHOUT_STATE)
def test_other_protocols_reach_a_host_with_an_address_of_its_own(
    home: Household, either: Translator, at: Addresses, protocol: int
) -> None:
    either(home, full(at.second, at.a))
    content = CONTENTS[protocol]
    with wire(home.far) as outside, wire(home.a) as inside:
        inject(home.far, packet_of(at.far, at.second, protocol, content))
        got = inside.one(lambda packet: packet.protocol == protocol)
        assert (got.source, got.dest, got.payload) == (at.far, at.a, content)
        inject(home.a, packet_of(at.a, at.far, protocol, content))
        assert outside.one(lambda packet: packet.protocol == protocol).source == at.second


def test_excluded_sources_and_other_sources_keep_their_addresses(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade(excludeAddresses=[f"{at.b}/{at.host_bits}"]))
    home.provider.ip("route", "add", at.b, "via", at.outside)
    with (
        udp(home.far, at.far) as far,
        udp(home.a, at.a, 1234) as inside,
        udp(home.b, at.b, 1234) as excluded,
    ):
        assert far.hears(inside, far.endpoint) == (at.outside, 1234)
        assert far.hears(excluded, far.endpoint) == (at.b, 1234)
        assert excluded.hears(far, (at.b, 1234)) == far.endpoint


def test_traffic_between_inside_networks_is_left_alone(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    with udp(home.a, at.a, 1234) as one, udp(home.b, at.b, 1234) as two:
        assert two.hears(one, two.endpoint) == (at.a, 1234)
        assert one.hears(two, one.endpoint) == (at.b, 1234)


def test_no_inside_address_leaves(home: Household, translate: Translator, at: Addresses) -> None:
    """What begins nothing is dropped: netfilter lets stray segments out as they are."""
    translate(home, masquerade())
    tcp = bytes.fromhex("9c400050000000010000000050040400") + bytes(4)
    echo_reply = b"\0\0\0\0\0\7\0\1" if at.version == 4 else b"\x81\0\0\0\0\7\0\1"
    icmp = 1 if at.version == 4 else 58
    with wire(home.far) as outside:
        inject(
            home.a,
            packet_of(at.a, at.far, 6, tcp),
            packet_of(at.a, at.far, icmp, echo_reply),
            packet_of(at.a, at.far, 17, b"\0"),
            packet_of(at.a, at.far, 6, b"\1\2\3"),
        )
        seen: list[Packet] = list(outside.packets(SILENCE_S))
    assert [one for one in seen if one.protocol in (6, 17) and one.dest == at.far] == []
    assert home.leaked() == 0

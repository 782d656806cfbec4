"""Who may send to a mapped endpoint: RFC 4787 REQ-8, RFC 5382 REQ-3, RFC 5508 REQ-9."""

from __future__ import annotations

import pytest

from tests.netns.nat_how import Translator, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import (
    SILENCE_S,
    dialed,
    endpoint_of,
    fate_of_dial,
    listener,
    udp,
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

# Filtering, and whether another port of the same host, and another host, may send.
KINDS = [
    ("address-and-port", False, False),
    ("address", True, False),
    ("endpoint-independent", True, True),
]
PORT = 40_000


@pytest.mark.parametrize(("filtering", "other_port", "other_host"), KINDS)
def test_who_may_send_to_a_udp_endpoint(
    home: Household,
    translate: Translator,
    at: Addresses,
    filtering: str,
    other_port: bool,
    other_host: bool,
) -> None:
    translate(home, masquerade(filtering=filtering))
    with (
        udp(home.a, at.a) as inside,
        udp(home.far, at.far) as asked,
        udp(home.far, at.far) as same_host,
        udp(home.far, at.far2) as stranger,
    ):
        outside = asked.hears(inside, asked.endpoint)
        assert outside is not None
        assert inside.hears(asked, outside) == asked.endpoint
        for sender, may in ((same_host, other_port), (stranger, other_host)):
            heard = inside.hears(sender, outside, 1.5 if may else SILENCE_S)
            assert heard == (sender.endpoint if may else None)
        # What was refused has changed nothing, and what was let in can be answered.
        assert inside.hears(asked, outside) == asked.endpoint
        assert same_host.hears(inside, same_host.endpoint) == outside
        assert inside.hears(same_host, outside) == same_host.endpoint


@pytest.mark.parametrize(("filtering", "other_port", "other_host"), KINDS)
def test_who_may_connect_to_a_tcp_endpoint(
    home: Household,
    translate: Translator,
    at: Addresses,
    filtering: str,
    other_port: bool,
    other_host: bool,
) -> None:
    translate(home, masquerade(filtering=filtering))
    with (
        listener(home.far, at.far) as server,
        listener(home.a, at.a, PORT),
        dialed(home.a, at.a, PORT, endpoint_of(server.getsockname())),
    ):
        _, outside = server.accept()
        dest = endpoint_of(outside)
        for source, may in ((at.far, other_port), (at.far2, other_host)):
            fate = fate_of_dial(home.far, (source, 0), dest, 1.5 if may else SILENCE_S)
            assert fate == ("" if may else "ETIMEDOUT")


@pytest.mark.parametrize("filtering", [kind for kind, _, _ in KINDS])
def test_unmapped_ports_stay_closed(
    home: Household, translate: Translator, at: Addresses, filtering: str
) -> None:
    translate(home, masquerade(filtering=filtering))
    with udp(home.a, at.a, PORT) as inside, udp(home.far, at.far) as far:
        assert inside.is_deaf_to(far, (at.outside, PORT))
        assert far.hears(inside, far.endpoint)
        assert inside.is_deaf_to(far, (at.outside, PORT + 2))

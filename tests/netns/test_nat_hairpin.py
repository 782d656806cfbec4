"""Inside hosts that reach each other by outside endpoints: RFC 4787 REQ-9, RFC 5382 REQ-8,
RFC 5508 REQ-7.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.netns.nat_how import Translator, dnat, masquerade, snat
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import (
    Udp,
    dialed,
    endpoint_of,
    fate_of_dial,
    listener,
    tcp_between,
    udp,
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT, DECLARED = 40_000, 8080


def introduced(home: Household, at: Addresses, one: Udp) -> tuple[str, int]:
    """Learn an inside socket's outside endpoint from a host outside, as STUN does."""
    with udp(home.far, at.far) as far:
        seen = far.hears(one, far.endpoint)
    assert seen is not None
    return seen


@pytest.mark.parametrize("neighbour", ["same network", "other network"])
def test_udp_hosts_meet_by_their_outside_endpoints(
    home: Household, translate: Translator, at: Addresses, neighbour: str
) -> None:
    translate(home, masquerade(filtering="endpoint-independent"))
    other = (home.a, at.a2) if neighbour == "same network" else (home.b, at.b)
    with udp(home.a, at.a, PORT) as one, udp(*other, PORT) as two:
        outside_one, outside_two = introduced(home, at, one), introduced(home, at, two)
        for _ in range(2):
            # REQ-9a: as whom it is heard is the outside endpoint, never the inside one.
            assert two.hears(one, outside_two) == outside_one
            assert one.hears(two, outside_one) == outside_two


def test_filtering_holds_for_hairpins_and_two_that_try_meet(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade(filtering="address-and-port"))
    with udp(home.a, at.a, PORT) as one, udp(home.b, at.b, PORT) as two:
        outside_one, outside_two = introduced(home, at, one), introduced(home, at, two)
        assert two.is_deaf_to(one, outside_two)
        assert one.hears(two, outside_one) == outside_two
        assert two.hears(one, outside_two) == outside_one


def test_without_hairpin_nobody_meets(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade(filtering="endpoint-independent", hairpin=False))
    with udp(home.a, at.a, PORT) as one, udp(home.b, at.b, PORT) as two:
        introduced(home, at, one)
        assert two.is_deaf_to(one, introduced(home, at, two))


def test_a_declared_port_is_reached_from_inside(
    home: Household, either: Translator, at: Addresses
) -> None:
    mapping = {"protocol": "tcp", "externalPort": DECLARED, "internalIP": at.b}
    either(home, snat(at.second, sourceAddresses=[at.inside]), dnat(at.second, mapping))
    with listener(home.b, at.b, DECLARED) as server:
        for client in ((home.a, at.a), (home.b, at.b), (home.far, at.far)):
            host, address = client
            seen = tcp_between(host, (address, 0), server, (at.second, DECLARED))
            assert seen[0] == (at.far if host is home.far else at.second)


def test_tcp_hosts_meet_by_simultaneous_open(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """Both dial each other's outside endpoint from the port that it maps (RFC 5382 REQ-2, REQ-8).

    The first SYN of the one that is early finds nobody who asked for it; TCP sends it again.
    """
    translate(home, masquerade(filtering="address-and-port"))
    with listener(home.far, at.far) as server:
        known = endpoint_of(server.getsockname())
        with dialed(home.a, at.a, PORT, known), dialed(home.b, at.b, PORT, known):
            outside_one, outside_two = (endpoint_of(server.accept()[1]) for _ in range(2))
            fates = opened_together(home, ((at.a, PORT), outside_two), ((at.b, PORT), outside_one))
    assert fates == ("", "")


def opened_together(
    home: Household, *dials: tuple[tuple[str, int], tuple[str, int]]
) -> tuple[str, ...]:
    """Dial from a and b at once; return their fates."""
    with ThreadPoolExecutor(len(dials)) as pool:
        going = [
            pool.submit(fate_of_dial, host, source, dest, 6.0)
            for host, (source, dest) in zip((home.a, home.b), dials, strict=True)
        ]
        return tuple(one.result() for one in going)

"""Outside ports when they run short, and those that are not NAT's to give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.netns.nat_how import Translator, masquerade, snat
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import (
    SILENCE_S,
    Udp,
    dialed,
    endpoint_of,
    listener,
    pings,
    tcp_between,
    udp,
)
from tests.running import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT = 40_000
TEN = "20000-20009"


@contextmanager
def crowd(home: Household, at: Addresses, count: int) -> Iterator[list[Udp]]:
    """Open many sockets inside."""
    with ExitStack() as stack:
        yield [stack.enter_context(udp(home.a, at.a)) for _ in range(count)]


def test_exhaustion_is_counted_harms_nobody_and_ends(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """RFC 4787 has no word for it; RFC 5508 REQ-8 has."""
    translate(home, masquerade(portRange=TEN, timeouts={"udp": "2s"}))
    with udp(home.far, at.far) as far, crowd(home, at, 12) as hosts:
        seen = [far.hears(host, far.endpoint, SILENCE_S) for host in hosts]
        served = [(host, end) for host, end in zip(hosts, seen, strict=True) if end]
        late = [host for host, end in zip(hosts, seen, strict=True) if not end]
        assert len({end for _, end in served}) == len(served) == 10
        for host, end in served:
            assert host.hears(far, end) == far.endpoint
        status = home.router.json("get", "enat/nat0")["status"]
        assert status["metrics"]["exhausted"] >= len(late)
        # An idle binding ends, and its port is another's.
        until(lambda: far.hears(late[0], far.endpoint, SILENCE_S), 8)


def test_a_limit_of_connections_holds_for_new_ones_only(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade(maxConnections=5, timeouts={"udp": "2s"}))
    with udp(home.far, at.far) as far, crowd(home, at, 8) as hosts:
        seen = [far.hears(host, far.endpoint, SILENCE_S) for host in hosts]
        assert len([end for end in seen if end]) == 5
        for host, end in zip(hosts, seen, strict=True):
            if end:
                assert host.hears(far, end) == far.endpoint


def test_a_port_of_the_routers_own_sockets_is_never_given_away(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade())
    with (
        udp(home.middle, at.outside, PORT) as own,
        udp(home.a, at.a, PORT) as inside,
        udp(home.far, at.far) as far,
    ):
        outside = far.hears(inside, far.endpoint)
        assert outside is not None
        assert outside[1] != PORT
        assert own.hears(far, (at.outside, PORT)) == far.endpoint
        assert inside.is_deaf_to(far, (at.outside, PORT))
        assert far.hears(own, far.endpoint) == (at.outside, PORT)


def test_what_the_router_opens_itself_is_answered_to_it(
    home: Household, either: Translator, at: Addresses
) -> None:
    """A client of the router first, then an inside host with the same port, to the same server."""
    either(home, masquerade())
    with (
        udp(home.far, at.far) as far,
        udp(home.middle, at.outside, PORT) as own,
        udp(home.a, at.a, PORT) as inside,
    ):
        assert far.hears(own, far.endpoint) == (at.outside, PORT)
        outside = far.hears(inside, far.endpoint)
        assert outside is not None
        assert outside != (at.outside, PORT)
        assert own.hears(far, (at.outside, PORT)) == far.endpoint
        assert inside.hears(far, outside) == far.endpoint


def test_a_client_of_the_router_on_a_port_that_an_inside_host_has(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """The inside host was first: both talk to the very same server and neither loses a word."""
    translate(home, masquerade())
    with (
        udp(home.far, at.far) as far,
        udp(home.far, at.far2) as other,
        udp(home.a, at.a, PORT) as inside,
    ):
        assert far.hears(inside, far.endpoint) == (at.outside, PORT)
        with udp(home.middle, at.outside, PORT) as own:
            for server in (far, other):
                outside = server.hears(own, server.endpoint)
                assert outside is not None
                assert own.hears(server, outside) == server.endpoint
            assert inside.hears(far, (at.outside, PORT)) == far.endpoint


def test_servers_and_pings_of_the_router_go_on(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    with listener(home.middle, at.outside, 22) as server, listener(home.far, at.far) as far:
        for host, source in ((home.far, at.far), (home.a, at.a)):
            seen = tcp_between(host, (source, 0), server, (at.outside, 22))
            assert seen[0] == source
        dest = endpoint_of(far.getsockname())
        assert tcp_between(home.middle, (at.outside, 50_000), far, dest) == (at.outside, 50_000)
    assert pings(home.middle, at.far)
    assert pings(home.far, at.outside)
    assert pings(home.a, at.gate_a)


def test_a_port_on_which_the_router_listens_is_never_given_away(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade())
    with (
        listener(home.middle, "" if at.version == 4 else "::", 22) as server,
        listener(home.far, at.far) as far,
        dialed(home.a, at.a, 22, endpoint_of(far.getsockname())),
    ):
        _, peer = far.accept()
        assert peer[1] != 22
        seen = tcp_between(home.far, (at.far, 0), server, (at.outside, 22))
        assert seen[0] == at.far


def test_a_range_of_one_address_spares_other_addresses(
    home: Household, either: Translator, at: Addresses
) -> None:
    """The second address is the router's: what uses it stays as it is."""
    either(home, snat(at.second, sourceAddresses=[at.a], portRange=TEN))
    with udp(home.far, at.far) as far, udp(home.middle, at.second, PORT) as own:
        assert far.hears(own, far.endpoint) == (at.second, PORT)
        assert own.hears(far, (at.second, PORT)) == far.endpoint

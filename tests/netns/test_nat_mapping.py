"""Which outside endpoint an inside one gets: RFC 4787 REQ-1 to REQ-4, RFC 5382 REQ-1 and REQ-7."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.netns.nat_how import Translator, masquerade, snat
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import Endpoint, Udp, dialed, endpoint_of, listener, pings, udp

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT = 40_000


def heard_as(stack: ExitStack, home: Household, at: Addresses, source: Endpoint) -> Endpoint:
    """Send from an inside endpoint, which stays open, and return as whom it is heard outside."""
    host = home.b if source[0] == at.b else home.a
    inside = stack.enter_context(udp(host, *source))
    with udp(home.far, at.far) as far:
        seen = far.hears(inside, far.endpoint)
    assert seen is not None
    return seen


def test_one_endpoint_is_one_outside_for_all_destinations(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    with ExitStack() as stack:
        inside = stack.enter_context(udp(home.a, at.a))
        seen = set()
        for address in (at.far, at.far2):
            for _ in range(2):
                far = stack.enter_context(udp(home.far, address))
                seen.add(far.hears(inside, far.endpoint))
        assert seen == {(at.outside, inside.endpoint[1])}


def test_a_tcp_endpoint_is_one_outside_for_all_destinations(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    with ExitStack() as stack:
        seen = set()
        for address in (at.far, at.far2):
            server = stack.enter_context(listener(home.far, address))
            dest = endpoint_of(server.getsockname())
            stack.enter_context(dialed(home.a, at.a, PORT, dest))
            taken, peer = server.accept()
            stack.enter_context(taken)
            seen.add(endpoint_of(peer))
        assert seen == {(at.outside, PORT)}


def test_mapping_is_independent_where_the_port_had_to_change(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """netfilter fails this: it asks only whether a flow is free, so its ports depend on the far."""
    translate(home, masquerade())
    with ExitStack() as stack:
        heard_as(stack, home, at, (at.a, PORT))
        inside = stack.enter_context(udp(home.b, at.b, PORT))
        seen: set[Endpoint | None] = set()
        for address in (at.far, at.far2):
            for _ in range(2):
                far = stack.enter_context(udp(home.far, address))
                seen.add(far.hears(inside, far.endpoint))
        assert len(seen) == 1
        assert seen != {(at.outside, PORT)}


def test_hosts_never_share_an_outside_port(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade())
    with ExitStack() as stack:
        inside = [(address, PORT) for address in (at.a, at.a2, at.b)]
        seen = [heard_as(stack, home, at, one) for one in inside]
    assert len(set(seen)) == 3
    assert seen[0] == (at.outside, PORT)


@pytest.mark.parametrize("port", [700, 701, 40_000, 40_001])
def test_a_taken_port_is_replaced_by_one_of_its_class_and_parity(
    home: Household, translate: Translator, at: Addresses, port: int
) -> None:
    translate(home, masquerade())
    with ExitStack() as stack:
        first, second, third = (
            heard_as(stack, home, at, (one, port))[1] for one in (at.a, at.a2, at.b)
        )
    assert first == port
    assert len({first, second, third}) == 3
    for other in (second, third):
        assert other % 2 == port % 2
        assert (other < 1024) == (port < 1024)


def test_a_port_range_is_kept_to(home: Household, either: Translator, at: Addresses) -> None:
    either(home, snat(at.second, sourceAddresses=[at.inside], portRange="20000-20099"))
    with ExitStack() as stack:
        far = stack.enter_context(udp(home.far, at.far))
        hosts = [stack.enter_context(udp(home.a, at.a)) for _ in range(20)]
        seen = {far.hears(host, far.endpoint) for host in hosts}
    assert len(seen) == 20
    for end in seen:
        assert end is not None
        assert end[0] == at.second
        assert 20_000 <= end[1] <= 20_099


def test_answers_reach_the_endpoint_that_asked(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    with ExitStack() as stack:
        hosts = ((home.a, at.a), (home.a, at.a2), (home.b, at.b))
        inside = [stack.enter_context(udp(host, address, PORT)) for host, address in hosts]
        far = stack.enter_context(udp(home.far, at.far))
        outside = [far.hears(one, far.endpoint) for one in inside]
        for one, seen in zip(inside, outside, strict=True):
            assert seen is not None
            assert one.hears(far, seen) == far.endpoint
            assert all(is_silent(other) for other in inside if other is not one)


def is_silent(one: Udp) -> bool:
    """Whether nothing waits to be read."""
    return one.receive(0.01) is None


def test_pings_of_two_hosts_with_one_identifier(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    for host, address in ((home.a, at.a), (home.a, at.a2), (home.b, at.b)):
        assert pings(host, at.far, "-I", address, "-e", "77", count=3)
    assert pings(home.far, at.outside, "-e", "77")

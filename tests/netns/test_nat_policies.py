"""Translations beside network policies, which come first or later: policies see inside addresses at
each of their hooks, and what they say of an outside port they say of the inside one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns.nat_how import Spec, Translator, dnat, masquerade
from tests.netns.nat_site import FAMILIES, WAN, Addresses, Household
from tests.netns.nat_talk import Udp, udp
from tests.netns.talk import in_force, network_policy
from tests.running import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

# The first two declared ports lead to two inside ports, of which the policy allows the first.
PUBLIC, SHUT = 7000, 7001
OPEN, CLOSED = 9000, 9001


def translations() -> tuple[Spec, ...]:
    """Return what is translated: everything that leaves, and two ports of each family."""
    ports = ((PUBLIC, OPEN), (SHUT, CLOSED))
    return (
        masquerade(),
        *(
            dnat(
                at.second,
                *(
                    {"protocol": "udp", "externalPort": a, "internalIP": at.a, "internalPort": b}
                    for a, b in ports
                ),
            )
            for at in FAMILIES
        ),
    )


def guard(home: Household, allowed: int) -> None:
    """Allow one inside port to be reached from outside, and nothing else to begin there."""
    spec = (
        f"  selector: {{interfaces: [{WAN}]}}\n"
        f"  ingress:\n    - {{ports: [{{protocol: UDP, port: {allowed}}}]}}\n"
    )
    home.router.write("guard.yaml", network_policy("guard", spec))
    if home.router.process is None:
        home.router.start()
    in_force(home.router, "guard")


@pytest.fixture(params=["policy first", "translation first"])
def guarded(home: Household, translate: Translator, request: pytest.FixtureRequest) -> Household:
    """The lab with both, one after the other."""
    is_first = request.param == "policy first"
    if is_first:
        guard(home, OPEN)
    translate(home, *translations())
    if not is_first:
        guard(home, OPEN)
    return home


@contextmanager
def ends(home: Household, at: Addresses, port: int) -> Iterator[tuple[Udp, Udp]]:
    """A socket inside, and one outside."""
    with udp(home.a, at.a, port) as inside, udp(home.far, at.far) as far:
        yield inside, far


def test_what_begins_inside_is_answered(guarded: Household, at: Addresses) -> None:
    with ends(guarded, at, 0) as (inside, far):
        outside = far.hears(inside, far.endpoint)
        assert outside is not None
        assert outside[0] == at.outside
        assert inside.hears(far, outside) == far.endpoint
        assert far.hears(inside, far.endpoint) == outside


def test_declared_ports_are_judged_by_where_they_lead(guarded: Household, at: Addresses) -> None:
    with ends(guarded, at, OPEN) as (inside, far):
        assert inside.hears(far, (at.second, PUBLIC)) == far.endpoint
        assert far.hears(inside, far.endpoint) == (at.second, PUBLIC)
    with ends(guarded, at, CLOSED) as (inside, far):
        assert inside.is_deaf_to(far, (at.second, SHUT))


def test_a_revoked_permission_stops_what_is_translated(guarded: Household, at: Addresses) -> None:
    with ends(guarded, at, OPEN) as (inside, far):
        assert inside.hears(far, (at.second, PUBLIC)) == far.endpoint
        assert far.hears(inside, far.endpoint) == (at.second, PUBLIC)
        guard(guarded, CLOSED)
        until(lambda: inside.is_deaf_to(far, (at.second, PUBLIC)), 10, "it is revoked")
        guard(guarded, OPEN)
        until(lambda: not inside.is_deaf_to(far, (at.second, PUBLIC)), 10, "it is granted again")

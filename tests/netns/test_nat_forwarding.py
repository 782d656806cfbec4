"""What outsiders reach: declared ports, ranges, several servers, a whole address."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from tests.netns.nat_how import Spec, Translator, dnat, full, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import (
    PATIENCE_S,
    Udp,
    dialed,
    endpoint_of,
    fate_of_dial,
    listener,
    pings,
    tcp_between,
    udp,
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

CLIENTS = 120


def mapping(protocol: str, port: int | str, **more: Any) -> Spec:
    """Return a port mapping."""
    return {"protocol": protocol, "externalPort": port, **more}


def test_declared_ports_lead_inside_and_others_do_not(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(
        home,
        dnat(
            at.outside,
            mapping("tcp", 8080, internalIP=at.a, internalPort=80),
            mapping("udp", 5353, internalIP=at.b),
        ),
    )
    with listener(home.a, at.a, 80) as web, udp(home.b, at.b, 5353) as names:
        assert tcp_between(home.far, (at.far, 0), web, (at.outside, 8080))[0] == at.far
        with udp(home.far, at.far) as far:
            assert names.hears(far, (at.outside, 5353)) == far.endpoint
            # The answer has the declared port as its source.
            assert far.hears(names, far.endpoint) == (at.outside, 5353)
    for port in (80, 5353, 8081):
        assert fate_of_dial(home.far, (at.far, 0), (at.outside, port)) == "ECONNREFUSED"


def test_a_range_of_ports(home: Household, either: Translator, at: Addresses) -> None:
    either(home, dnat(at.outside, mapping("udp", "8000-8099", internalIP=at.a)))
    with udp(home.far, at.far) as far:
        for port in (8000, 8001, 8050, 8099):
            with udp(home.a, at.a, port) as inside:
                assert inside.hears(far, (at.outside, port)) == far.endpoint
                assert far.hears(inside, far.endpoint) == (at.outside, port)


def test_a_range_that_begins_elsewhere_inside(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(
        home,
        dnat(at.outside, mapping("udp", "8000-8099", internalIP=at.a, internalPort="9000-9099")),
    )
    with udp(home.far, at.far) as far:
        for port in (8000, 8099):
            with udp(home.a, at.a, port + 1000) as inside:
                assert inside.hears(far, (at.outside, port)) == far.endpoint
                assert far.hears(inside, far.endpoint) == (at.outside, port)


def test_a_whole_address_both_ways(home: Household, either: Translator, at: Addresses) -> None:
    either(home, full(at.second, at.a), masquerade())
    with udp(home.far, at.far) as far, udp(home.a, at.a, 1234) as inside:
        assert inside.hears(far, (at.second, 1234)) == far.endpoint
        assert far.hears(inside, far.endpoint) == (at.second, 1234)
        with udp(home.a, at.a, 700) as another:
            assert far.hears(another, far.endpoint) == (at.second, 700)
    with listener(home.a, at.a, 443) as server:
        assert tcp_between(home.far, (at.far, 0), server, (at.second, 443))[0] == at.far
    with listener(home.far, at.far) as server:
        dest = endpoint_of(server.getsockname())
        assert tcp_between(home.a, (at.a, 0), server, dest)[0] == at.second
        assert tcp_between(home.b, (at.b, 0), server, dest)[0] == at.outside
    assert pings(home.far, at.second, count=2)
    assert pings(home.a, at.far, "-I", at.a, count=2)


def balanced(at: Addresses, *weights: int) -> Spec:
    """Return a policy that spreads over a, a2 and b by weight."""
    servers = zip((at.a, at.a2, at.b), weights, strict=False)
    backends = [{"internalIP": one, "weight": weight} for one, weight in servers]
    return dnat(at.outside, mapping("udp", 7000, backends=backends))


def chosen(servers: list[Udp], client: Udp, dest: tuple[str, int]) -> int:
    """Return which server hears a client."""
    client.send(dest, b"which")
    for _ in range(20):
        for number, server in enumerate(servers):
            if (got := server.receive(0.01)) and got[1][1] == client.endpoint[1]:
                return number
    raise AssertionError("no server heard it")


def test_servers_share_by_weight_and_a_change_moves_few(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, balanced(at, 1, 1, 2))
    dest = (at.outside, 7000)
    with ExitStack() as stack:
        places = ((home.a, at.a), (home.a, at.a2), (home.b, at.b))
        servers = [stack.enter_context(udp(*place, 7000)) for place in places]
        ports = range(30_000, 30_000 + CLIENTS)

        def picture() -> list[int]:
            """Who serves whom, by flows that are new each time: the addresses take turns."""
            return [picked(home, at, servers, port, dest) for port in ports]

        first = picture()
        shares = [first.count(number) / CLIENTS for number in range(3)]
        assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.17)
        # An established flow stays where it is though its server gets no new ones.
        translate(home, balanced(at, 0, 1, 2))
        assert picture() == first
        home.router.ctl("nat", "flush", "--all")
        drained = picture()
        assert 0 not in drained
        moved = sum(1 for old, new in zip(first, drained, strict=True) if old not in (0, new))
        assert moved <= CLIENTS * 0.1


def picked(
    home: Household, at: Addresses, servers: list[Udp], port: int, dest: tuple[str, int]
) -> int:
    """Return who serves a client's port."""
    with udp(home.far, at.far, port) as client:
        return chosen(servers, client, dest)


def test_a_connection_outlives_the_draining_of_its_server(
    home: Household, translate: Translator, at: Addresses
) -> None:
    def tcp(weight_a: int, weight_b: int) -> Spec:
        backends = [
            {"internalIP": at.a, "weight": weight_a},
            {"internalIP": at.b, "weight": weight_b},
        ]
        return dnat(at.outside, mapping("tcp", 7000, backends=backends))

    translate(home, tcp(1, 0))
    dest = (at.outside, 7000)
    with (
        listener(home.a, at.a, 7000) as old,
        listener(home.b, at.b, 7000) as new,
        dialed(home.far, at.far, 0, dest) as kept,
    ):
        taken, _ = old.accept()
        taken.settimeout(PATIENCE_S)
        translate(home, tcp(0, 1))
        for number in range(5):
            word = f"{number}".encode()
            kept.sendall(word)
            assert taken.recv(16) == word
        with dialed(home.far, at.far, 0, dest):
            new.accept()[0].close()
        taken.close()

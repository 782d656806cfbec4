"""The oracle's flows, in short stories: what is compared with must itself be right."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.oracle.policy import (
    ACK,
    FIN,
    ICMP,
    SYN,
    TCP,
    UDP,
    Block,
    NetworkPolicy,
    Packet,
    Policies,
    Ports,
    Rule,
)
from tests.oracle.router import Router

LAN, WAN = "lan0", "wan0"
INSIDE, OUTSIDE = ip_address("10.0.0.5"), ip_address("198.51.100.9")
TO_WEB = Rule((Block(ip_network("198.51.100.0/24")),), (Ports("TCP", 443),))
OPEN = Packet(INSIDE, OUTSIDE, TCP, 40000, 443)
GO_ON = replace(OPEN, tcp_flags=ACK)
REPLY = replace(OPEN.reversed(), tcp_flags=SYN | ACK)


def filtering(name: str, place: str, **rules: tuple[Rule, ...]) -> NetworkPolicy:
    return NetworkPolicy(name, frozenset({place}), **rules)  # type: ignore[arg-type]


OUTBOUND = filtering("out", WAN, egress=(TO_WEB,), ingress=())


def router(*policies: NetworkPolicy) -> Router:
    return Router(Policies(policies))


def test_replies_to_what_is_allowed_pass() -> None:
    box = router(OUTBOUND)
    assert not box.feed(WAN, "ingress", REPLY, 0).passes
    assert box.feed(WAN, "egress", OPEN, 1).passes
    assert box.feed(WAN, "ingress", REPLY, 2).passes
    assert not box.feed(WAN, "ingress", replace(REPLY, source_port=80), 3).passes


def test_without_stateful_they_do_not() -> None:
    box = router(replace(OUTBOUND, stateful=False))
    assert box.feed(WAN, "egress", OPEN, 1).passes
    assert not box.feed(WAN, "ingress", REPLY, 2).passes


def test_a_revoked_permission_stops_both_directions() -> None:
    box = router(OUTBOUND)
    box.feed(WAN, "egress", OPEN, 1)
    box.policies = Policies((replace(OUTBOUND, egress=()),))
    assert not box.feed(WAN, "egress", GO_ON, 2).passes
    assert not box.feed(WAN, "ingress", REPLY, 2).passes
    box.policies = Policies((OUTBOUND,))
    assert box.feed(WAN, "ingress", REPLY, 3).passes


def test_each_hook_has_its_own_say() -> None:
    elsewhere = filtering("lan", LAN, egress=())
    box = router(OUTBOUND, elsewhere)
    box.feed(WAN, "egress", OPEN, 1)
    assert box.feed(WAN, "ingress", REPLY, 2).passes
    # The way in at lan0 is not policed, so what came that way may be answered there.
    assert box.feed(LAN, "egress", REPLY, 2).passes


def test_a_flow_is_forgotten_after_its_lifetime() -> None:
    box = router(OUTBOUND)
    box.feed(WAN, "egress", OPEN, 0)
    assert not box.feed(WAN, "ingress", REPLY, 241).passes


def test_a_closed_connection_is_forgotten_sooner() -> None:
    box = router(OUTBOUND)
    box.feed(WAN, "egress", OPEN, 0)
    box.feed(WAN, "ingress", replace(REPLY, tcp_flags=FIN | ACK), 1)
    box.feed(WAN, "egress", replace(OPEN, tcp_flags=ACK), 2)
    assert box.feed(WAN, "ingress", REPLY, 1000).passes
    box.feed(WAN, "egress", replace(OPEN, tcp_flags=FIN | ACK), 1001)
    assert not box.feed(WAN, "ingress", REPLY, 1300).passes


@pytest.mark.parametrize(("flags", "since_s", "known"), [(ACK, 0, True), (ACK, -61, False)])
def test_segments_are_adopted_in_the_first_minute(flags: int, since_s: int, known: bool) -> None:
    box = router(OUTBOUND)
    box.policed_since_s = {WAN: since_s}
    assert box.feed(WAN, "egress", replace(OPEN, tcp_flags=flags), 0).passes
    assert box.feed(WAN, "ingress", REPLY, 1).passes is known


def test_icmp_errors_about_a_flow_pass() -> None:
    box = router(OUTBOUND)
    error = Packet(ip_address("203.0.113.1"), INSIDE, ICMP, icmp_type=3, icmp_code=4, quoted=GO_ON)
    assert not box.feed(WAN, "ingress", error, 0).passes
    box.feed(WAN, "egress", OPEN, 1)
    assert box.feed(WAN, "ingress", error, 2).passes
    assert not box.feed(WAN, "ingress", replace(error, icmp_type=8), 2).passes


def test_echoes_are_answered() -> None:
    box = router(
        filtering("ping", WAN, egress=(Rule(ports=(Ports("ICMP", icmp_type=8),)),), ingress=())
    )
    ask = Packet(INSIDE, OUTSIDE, ICMP, 7, 7, icmp_type=8)
    assert not box.feed(WAN, "ingress", ask.reversed(), 0).passes
    assert box.feed(WAN, "egress", ask, 1).passes
    assert box.feed(WAN, "ingress", ask.reversed(), 2).passes
    assert not box.feed(WAN, "ingress", replace(ask.reversed(), icmp_type=8), 2).passes


def test_later_fragments_have_the_ports_of_the_first() -> None:
    dns = filtering("dns", WAN, ingress=(Rule(ports=(Ports("UDP", 53),)),))
    box = router(dns)
    first = Packet(OUTSIDE, INSIDE, UDP, 5000, 53, fragment_id=1)
    later = replace(first, source_port=0, destination_port=0, later_fragment=True)
    assert not box.feed(WAN, "ingress", later, 0).passes
    box.feed(WAN, "ingress", first, 1)
    assert box.feed(WAN, "ingress", later, 2).passes
    assert not box.feed(WAN, "ingress", replace(later, fragment_id=2), 2).passes


def test_what_keeps_the_router_reachable_passes() -> None:
    box = router(filtering("closed", WAN, ingress=(), egress=()))
    box.failsafe_ports = frozenset({22})
    ssh = Packet(OUTSIDE, INSIDE, TCP, 50000, 22, to_router=True)
    assert box.feed(WAN, "ingress", ssh, 0).passes
    assert box.feed(WAN, "egress", ssh.reversed(), 0).passes
    assert not box.feed(WAN, "ingress", replace(ssh, to_router=False), 0).passes
    query = Packet(INSIDE, OUTSIDE, UDP, 40000, 53, from_router=True)
    assert box.feed(WAN, "egress", query, 0).passes


def test_malformed_packets_are_dropped_where_something_polices() -> None:
    box = router(filtering("in", WAN, ingress=(Rule(),)))
    assert not box.feed(WAN, "ingress", replace(OPEN, is_malformed=True), 0).passes
    assert box.feed(LAN, "ingress", replace(OPEN, is_malformed=True), 0).passes

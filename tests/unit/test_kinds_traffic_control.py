"""EBPFTrafficControl: queues, classes, filters."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from fos1d.kinds.traffic_control import (
    NEEDS_RATE,
    TAKES,
    EBPFTrafficControl,
    TrafficControlSpec,
)
from fos1d.quantity import PortRange
from tests.manifests import found, manifest, resource

EGRESS = "interface: eth0\ndirection: egress\n"
HTB = EGRESS + "queueingDiscipline: {type: htb, rate: 1Gbit}\n"


def spec(text: str) -> TrafficControlSpec:
    return resource(EBPFTrafficControl, text).spec


def complaints(text: str) -> list[str]:
    return found(manifest("EBPFTrafficControl", text))


def test_classes() -> None:
    queue = spec(
        HTB
        + """
classes:
  - {id: 10, rate: 100Mbit, burst: 15kb}
  - {id: 11, rate: 50Mbit, ceiling: 80Mbit, parent: 10, priority: 7, default: true}
  - {id: 12, rate: 50Mbit, parent: 10, leaf: {type: fq_codel, latency: 5ms}}
"""
    )
    assert queue.queueing_discipline is not None
    assert queue.queueing_discipline.rate == 10**9
    assert [part.ceiling_bits_per_s for part in queue.classes] == [10**8, 8 * 10**7, 5 * 10**7]
    assert queue.classes[0].burst == 15360
    assert queue.classes[2].leaf is not None
    assert queue.classes[2].leaf.latency == 5_000_000
    assert queue.parents() == {10}


def test_filters() -> None:
    queue = spec(
        EGRESS
        + """
filters:
  - match: {srcIP: 10.1.0.0/16, dstIP: ["2001:db8::/32", 10.0.0.1], dstPort: 443, dscp: [46, 34]}
  - {priority: 5, protocol: udp, match: {srcPort: ["1-9", 80]}, action: {type: mark, mark: 46}}
  - action: {type: police, police: {rate: 5Mbit, burst: 50kb, exceed: remark, remarkDscp: 8}}
"""
    )
    first, second, third = queue.filters
    assert first.match.src_ip == (IPv4Network("10.1.0.0/16"),)
    assert first.match.dst_ip == (IPv6Network("2001:db8::/32"), IPv4Network("10.0.0.1/32"))
    assert first.match.dst_port == (PortRange(443, 443),)
    assert first.match.dscp == (46, 34)
    assert (first.priority, first.protocol, first.action.type) == (1000, "all", "pass")
    assert second.match.src_port == (PortRange(1, 9), PortRange(80, 80))
    assert second.action.mark == 46
    assert third.matches_all
    assert third.action.police is not None
    assert third.action.police.rate == 5_000_000


@pytest.mark.parametrize("kind", sorted(TAKES))
@pytest.mark.parametrize("field", ["rate", "burst", "latency", "quantum"])
def test_settings_belong_to_queues(kind: str, field: str) -> None:
    value = {"rate": "1Mbit", "latency": "5ms"}.get(field, "15kb")
    rate = "rate: 1Mbit, " if kind in NEEDS_RATE and field != "rate" else ""
    said = complaints(EGRESS + f"queueingDiscipline: {{type: {kind}, {rate}{field}: {value}}}")
    expected = f"spec.queueingDiscipline.{field} does not belong to type {kind}"
    assert [line.startswith(expected) for line in said] == [True] * (field not in TAKES[kind])


@pytest.mark.parametrize("kind", sorted(NEEDS_RATE))
def test_some_queues_need_a_rate(kind: str) -> None:
    assert complaints(EGRESS + f"queueingDiscipline: {{type: {kind}}}") == [
        f"spec.queueingDiscipline.rate is required for type {kind}"
    ]


def test_circles_of_classes() -> None:
    classes = "".join(
        f"  - {{id: {own}, rate: 1Mbit, parent: {parent}}}\n"
        for own, parent in [(1, 2), (2, 3), (3, 1), (4, 1), (5, 5)]
    )
    said = complaints(HTB + "classes:\n" + classes)
    assert [line.split(" ", 1)[0] for line in said] == [
        f"spec.classes[{index}].parent" for index in (0, 1, 2, 4)
    ]


def test_guarantees_may_fill_the_rate() -> None:
    classes = "classes: [{id: 1, rate: 600Mbit}, {id: 2, rate: 400Mbit}]"
    assert complaints(HTB + classes) == []
    assert len(complaints(HTB + classes.replace("400", "401"))) == 1

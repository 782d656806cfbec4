"""Random policies and packets: the data path against the oracle, packet by packet."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from fos1d.abi import PlaceFlag, PlaceKind
from fos1d.kernel.port import RealKernel
from tests import lab
from tests.classifier import Compiled, compiled
from tests.kernel.policy_rig import TC_NEXT, Place, Rig, frame_of
from tests.oracle.draw import Extent, draw_packet, draw_policies
from tests.oracle.policy import WITH_TYPES, Direction, Packet, Policies, Source, Verdict
from tests.oracle.router import Router

pytestmark = pytest.mark.kernel

# Ports by which the router itself lives; other tests are about them.
LIFELINES = {53, 67, 68, 546, 547}
WAYS: dict[Direction, tuple[str, str]] = {"ingress": ("in", "receive"), "egress": ("out", "send")}


@pytest.fixture
def rig(namespace: lab.Namespace, bpffs: Path) -> Iterator[Rig]:
    for pair in range(3):
        names = f"p{2 * pair}", f"p{2 * pair + 1}"
        namespace.ip("link", "add", "name", names[0], "type", "veth", "peer", "name", names[1])
        for name in names:
            namespace.ip("link", "set", "dev", name, "up")
    kernel = RealKernel(bpffs)
    try:
        yield Rig(kernel)
    finally:
        kernel.close()


def place_of(found: Compiled, name: str, kind: PlaceKind, number: int) -> Place:
    subject = found.number[name]
    flags = [
        flag | (PlaceFlag.PLACE_EFFECTS if chain.has_effects[subject] else 0)
        for flag, chain in zip(found.rules.flags[subject], found.chains, strict=True)
    ]
    vectors = [int(chain.subjects[subject]) for chain in found.chains]
    return Place(kind, number, tuple(vectors), tuple(flags))  # type: ignore[arg-type]


def drawn(random: Random, policies: Policies) -> Packet:
    packet = draw_packet(random, policies)
    if {packet.source_port, packet.destination_port} & LIFELINES:
        packet = replace(packet, source_port=1, destination_port=2)
    if packet.protocol in WITH_TYPES:
        number = random.randrange(4)
        packet = replace(packet, source_port=number, destination_port=number)
    return packet


def feed(
    rig: Rig, policies: Policies, found: Compiled, random: Random, packets: int, at_cgroup: bool
) -> int:
    router, counts = Router(policies, adoption_s=3600), Counter[int]()
    numbers = {
        (s.policy.namespace, s.policy.name, s.direction, s.index): counter
        for counter, s in found.rules.sources.items()
    }
    places = sorted(policies.places)
    recent: list[Packet] = []
    for _ in range(packets):
        place = random.choice(places)
        direction: Direction = random.choice(("ingress", "egress"))
        packet = drawn(random, policies)
        if recent and random.random() < 0.3:
            packet = random.choice(recent)
        if random.random() < 0.3 and not packet.later_fragment:
            packet = packet.reversed()
        recent = [*recent[-20:], packet]
        meant = router.feed(place, direction, packet, 0.0)
        runner = rig.runners[WAYS[direction][at_cgroup]]
        ifindex = 2 + found.number[place]
        if at_cgroup:
            ifindex = 0
        ran = runner.run(frame_of(packet), ifindex)
        passes = ran.verdict == (1 if at_cgroup else TC_NEXT)
        assert passes == meant.passes, (place, direction, packet, meant)
        counts.update(_counted(meant, numbers))
    return packets


def _counted(verdict: Verdict, numbers: dict[tuple[str, str, str, int], int]) -> list[int]:
    return [_number(source, numbers) for _, source in verdict.effects]


def _number(source: Source, numbers: dict[tuple[str, str, str, int], int]) -> int:
    return numbers[(source.policy.namespace, source.policy.name, source.direction, source.index)]


def judge_many(rig: Rig, seeds: range, packets: int, extent: Extent) -> int:
    done = 0
    for seed in seeds:
        random = Random(seed)
        policies = replace(draw_policies(random, extent), container=())
        if not policies.places:
            continue
        found = compiled(policies)
        found.tables["policy_rules"]["flags"] &= 0xFFFF ^ 2
        places = [
            place_of(found, name, PlaceKind.PLACE_INTERFACE, 2 + found.number[name])
            for name in policies.places
        ]
        rig.put(found.tables, places, "in out", adoption_ns=3600 * 10**9)
        rig.clear("new_flows4", "new_flows6", "flows4", "flows6", "rule_stats", "policed_since")
        done += feed(rig, policies, found, random, packets, at_cgroup=False)
    return done


def test_interfaces(rig: Rig) -> None:
    assert judge_many(rig, range(int(os.environ.get("SEEDS", "20"))), 1000, Extent(3, 8, 8)) > 0

"""Random policies and packets: the data path against the oracle, packet by packet."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from random import Random

import pytest

from fos1d.abi import PlaceFlag, PlaceKind, PolicyRuleFlag
from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.port import RealKernel
from tests import lab
from tests.classifier import Compiled, compiled
from tests.kernel.policy_rig import TC_NEXT, Place, Rig, frame_of
from tests.oracle.draw import Extent, draw_packet, draw_policies
from tests.oracle.policy import WITH_TYPES, Direction, Packet, Policies, Verdict
from tests.oracle.router import ERRORS, Router

pytestmark = pytest.mark.kernel

# Ports by which the router itself lives; other tests are about them.
LIFELINES = {53, 67, 68, 546, 547}
HOOKS: dict[Direction, tuple[str, str]] = {"ingress": ("in", "receive"), "egress": ("out", "send")}
CGROUP_PASS = 1
FIRST_INTERFACE = 2
# Of a policy and a packet: on interfaces, and again on workloads.
PAIRS, PACKETS = int(os.environ.get("PAIRS", "102000")), 3400
ADOPTING = {"adoption_ns": 3600 * 10**9}
STATE = ("new_flows4", "new_flows6", "flows4", "flows6", "policed_since")


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


@dataclass
class Judged:
    """Policies in the kernel beside the oracle's. `at_cgroup`: on this process's own cgroup, which
    is made each place in turn; else on interfaces."""

    rig: Rig
    policies: Policies
    at_cgroup: bool
    random: Random
    found: Compiled = field(init=False)
    router: Router = field(init=False)
    counted: Counter[int] = field(default_factory=Counter)
    judged: int = 0
    recent: deque[Packet] = field(default_factory=lambda: deque(maxlen=20))

    def __post_init__(self) -> None:
        """Put the policies into the kernel."""
        self.found = compiled(self.policies)
        # Limits depend on time; other tests are about them.
        self.found.tables["policy_rules"]["flags"] &= 0xFFFF ^ PolicyRuleFlag.RULE_LIMITED
        self.router = Router(self.policies, adoption_s=3600)
        places = [self.place(name) for name in sorted(self.policies.places)]
        hooks = "receive send sent" if self.at_cgroup else "in out"
        self.rig.put(self.found.tables, places[: 1 if self.at_cgroup else None], hooks, **ADOPTING)
        self.rig.clear(*STATE)

    def place(self, name: str) -> Place:
        """Return the record of a place."""
        if self.at_cgroup:
            return place_of(self.found, name, PlaceKind.PLACE_CGROUP, own_cgroup())
        number = FIRST_INTERFACE + self.found.number[name]
        return place_of(self.found, name, PlaceKind.PLACE_INTERFACE, number)

    def feed(self, packets: int) -> int:
        """Let random packets come to random places, with much talk to and fro; return how many."""
        names = sorted(self.policies.places)
        if not self.at_cgroup:
            self.talk(names, packets)
        for name in names if self.at_cgroup else ():
            self.router = Router(self.policies, adoption_s=3600)
            self.rig.clear(*STATE)
            self.rig.put_place(self.place(name))
            self.talk([name], packets // len(names))
        counts = {counter: packets for counter, (packets, _) in self.rig.counts().items()}
        if self.at_cgroup:  # of two rules that allow, the oracle names the network policy's
            counts = {counter: counts.get(counter, 0) for counter in self.counted}
        assert counts == self.counted
        return self.judged

    def talk(self, names: list[str], packets: int) -> None:
        """Judge packets at random ones of some places."""
        for _ in range(packets):
            self.judge(self.random.choice(names), self.draw())

    def draw(self) -> Packet:
        """Return a packet, often one of before, or its answer."""
        packet = drawn(self.random, self.policies)
        if self.recent and self.random.random() < 0.3:
            packet = self.random.choice(self.recent)
        if self.random.random() < 0.3 and not packet.later_fragment:
            packet = packet.reversed()
        self.recent.append(packet)
        return packet

    def judge(self, name: str, packet: Packet) -> None:
        """Compare verdict and DSCP of one packet."""
        direction: Direction = self.random.choice(("ingress", "egress"))
        meant = self.router.feed(name, direction, packet, 0.0)
        runner = self.rig.runners[HOOKS[direction][self.at_cgroup]]
        interface = 0 if self.at_cgroup else FIRST_INTERFACE + self.found.number[name]
        ran = runner.run(frame_of(packet), interface)
        passes = ran.verdict == (CGROUP_PASS if self.at_cgroup else TC_NEXT)
        assert passes == meant.passes, (name, direction, packet, meant)
        if passes and not self.at_cgroup:
            assert dscp_of(ran.frame) == meant_dscp(meant), (packet, meant)
        if passes and self.at_cgroup and direction == "egress":
            self.leave(packet, meant)
        self.count(meant)
        self.judged += 1

    def leave(self, packet: Packet, meant: Verdict) -> None:
        """Compare the DSCP with which a workload's packet leaves; ICMP errors go as they are."""
        ran = self.rig.runners["sent"].run(frame_of(packet))
        is_error = packet.icmp_type in ERRORS.get(packet.protocol, ())
        assert ran.verdict == TC_NEXT, (packet, meant)
        assert is_error or dscp_of(ran.frame) == meant_dscp(meant), (packet, meant)

    def count(self, meant: Verdict) -> None:
        """Note which rules must have counted the packet."""
        sources = [source for _, source in meant.effects]
        if meant.by:
            sources.append(meant.by)
        for source in sources:
            policy = source.policy
            key = policy.namespace, policy.name, source.direction, source.index
            self.counted[self.numbers[key]] += 1

    @cached_property
    def numbers(self) -> dict[tuple[str, str, str, int], int]:
        """The counter of each rule."""
        return {
            (s.policy.namespace, s.policy.name, s.direction, s.index): counter
            for counter, s in self.found.rules.sources.items()
        }


def own_cgroup() -> int:
    """Return the id of this process's cgroup: what test runs take for the socket's."""
    line = next(x for x in Path("/proc/self/cgroup").read_text().split() if x.startswith("0::"))
    found = Cgroupfs().id_of(line.removeprefix("0::/"))
    assert found is not None
    return found


def dscp_of(frame: bytes) -> int:
    return (int.from_bytes(frame[14:16], "big") >> (6 if frame[14] >> 4 == 6 else 2)) & 63


def meant_dscp(meant: Verdict) -> int:
    marks = [source.rule.mark for effect, source in meant.effects if effect == "mark"]
    return marks[-1] or 0 if marks else 0


def policies_of(random: Random, at_cgroup: bool) -> Policies:
    """Return random policies; those of interfaces are network policies."""
    policies = draw_policies(random, Extent(3, 8, 8))
    return policies if at_cgroup else replace(policies, container=())


@pytest.mark.parametrize("at_cgroup", [False, True], ids=["interfaces", "workloads"])
def test_the_data_path_means_what_the_oracle_means(rig: Rig, at_cgroup: bool) -> None:
    judged = 0
    for seed in count():
        random = Random(seed)
        if (policies := policies_of(random, at_cgroup)).places:
            judged += Judged(rig, policies, at_cgroup, random).feed(PACKETS)
        if judged >= PAIRS:
            break

"""The same random packets through our translation and through netfilter's, in twin labs.

Where what comes out differs, `reason` must know why, and the RFC decides. Each packet carries a
number by which it is found again; ports that a translator chose are compared by what they lead to.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import frames, lab
from tests.netns.nat_how import Translator, by_daemon, by_nftables, dnat, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household, household
from tests.netns.nat_talk import Endpoint
from tests.netns.nat_wire import Packet, Wire, faults, inject, packet_of, wire

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

ROUNDS, EACH = 12, 25
DECLARED, SERVER = 8080, 80
# Few, so that they meet often.
PORTS, FAR_PORTS = (40_000, 40_001, 700), (53, 7000)
MARK_BYTES = 8
SETTLED_S = 0.3


@dataclass(frozen=True, slots=True)
class Step:
    """A packet: outwards from an inside endpoint, or inwards from a far one to where the
    translator has `inside` for `met`, or to a declared or an unused port."""

    number: int
    is_out: bool
    inside: Endpoint
    far: Endpoint
    met: Endpoint | None = None
    port: int = 0

    @property
    def mark(self) -> bytes:
        """What its payload begins with."""
        return self.number.to_bytes(MARK_BYTES, "big")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who got a packet, and as whose it came."""

    dest: Endpoint
    source: Endpoint


@dataclass
class Twin:
    """A lab, what leads to what there, and what became of each step."""

    home: Household
    at: Addresses
    wires: list[Wire]
    mapped: dict[tuple[Endpoint, Endpoint], int] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def packet(self, step: Step) -> bytes | None:
        """Return a step's packet here; None if it leads nowhere."""
        if step.is_out:
            source, dest = step.inside, step.far
        else:
            port = self.mapped.get((step.inside, step.met)) if step.met else step.port
            if port is None:
                return None
            source, dest = step.far, (self.at.outside, port)
        content = frames.udp(source[1], dest[1], step.mark)
        return packet_of(source[0], dest[0], frames.UDP, content)

    def play(self, steps: list[Step]) -> None:
        """Send all, and see what comes out."""
        for step in steps:
            packet = self.packet(step)
            if packet is not None:
                inject(self._host(step), packet)
                time.sleep(0.001)
        by_mark = {step.mark: step for step in steps}
        time.sleep(SETTLED_S)
        for seen in self.wires:
            for one in seen.of(frames.UDP, 0.02):
                self._note(one, by_mark.get(one.payload[8 : 8 + MARK_BYTES]))

    def _host(self, step: Step) -> lab.Namespace:
        if not step.is_out:
            return self.home.far
        return self.home.b if step.inside[0] == self.at.b else self.home.a

    def _note(self, packet: Packet, step: Step | None) -> None:
        if step is None:
            return
        assert list(faults(packet)) == [], (step, packet)
        source, dest = packet.ports
        found = Outcome((packet.dest, dest), (packet.source, source))
        self.outcomes[step.number] = found
        if step.is_out and source != DECLARED:
            self.mapped[step.inside, step.far] = source


@contextmanager
def twin_lab(bpffs: Path, folder: Path, at: Addresses) -> Iterator[Twin]:
    """Make one of the two labs."""
    with household(bpffs, folder) as home, ExitStack() as stack:
        wires = [stack.enter_context(wire(host)) for host in (home.a, home.b, home.far)]
        yield Twin(home, at, wires)


def drawn(at: Addresses, chance: random.Random, begin: int) -> Iterator[Step]:
    """Yield a round of steps."""
    for number in range(begin, begin + EACH):
        inside = (chance.choice((at.a, at.a2, at.b)), chance.choice(PORTS))
        far, met = ((chance.choice((at.far, at.far2)), chance.choice(FAR_PORTS)) for _ in range(2))
        match chance.randrange(8):
            case 0 | 1 | 2 | 3:
                yield Step(number, True, inside, far)
            case 4 | 5:
                yield Step(number, False, inside, far, met=chance.choice((far, met)))
            case 6:
                yield Step(number, False, (at.a, SERVER), far, port=DECLARED)
                number_of_answer = number + 10_000_000
                yield Step(number_of_answer, True, (at.a, SERVER), far)
            case _:
                yield Step(number, False, inside, far, port=chance.randrange(50_000, 60_000))


def shared(twin: Twin, step: Step) -> bool:
    """Whether the port that a step is for belongs to several inside endpoints here."""
    port = twin.mapped.get((step.inside, step.met or step.far))
    return len({inside for (inside, _), other in twin.mapped.items() if other == port}) > 1


def reason(step: Step, ours: Twin, theirs: Twin) -> str:
    """Return why the outcomes of a step differ, "" if there is no good reason."""
    mine, other = (twin.outcomes.get(step.number) for twin in (ours, theirs))
    if mine == other:
        return "same"
    if step.is_out:
        if mine and other and (mine.dest, mine.source[0]) == (other.dest, other.source[0]):
            return "the port is chosen by who chooses"
        return ""
    if shared(theirs, step):
        return "RFC 4787 REQ-3: netfilter gives one port to several inside endpoints"
    if mine and other is None and step.met != step.far:
        return "RFC 4787 REQ-1: one outside port, where netfilter has one for each far end"
    return ""


@pytest.mark.parametrize("seed", [1, 2])
def test_random_packets_through_both(bpffs: Path, tmp_path: Path, at: Addresses, seed: int) -> None:
    chance = random.Random(seed)
    mapping = {
        "protocol": "udp",
        "externalPort": DECLARED,
        "internalIP": at.a,
        "internalPort": SERVER,
    }
    policies = (masquerade(), dnat(at.outside, mapping))
    with ExitStack() as stack:
        hows: tuple[tuple[str, Translator], ...] = (("ours", by_daemon), ("theirs", by_nftables))
        ours, theirs = (
            stack.enter_context(twin_lab(bpffs, tmp_path / name, at)) for name, _ in hows
        )
        for twin, (_, how) in zip((ours, theirs), hows, strict=True):
            how(twin.home, *policies)
        steps = []
        for round_ in range(ROUNDS):
            drawn_now = list(drawn(at, chance, round_ * EACH))
            for twin in (ours, theirs):
                twin.play(drawn_now)
            steps += drawn_now
        assert ours.home.leaked() == 0
    reasons = Counter(reason(step, ours, theirs) for step in steps)
    unexplained = [
        (step, ours.outcomes.get(step.number), theirs.outcomes.get(step.number))
        for step in steps
        if not reason(step, ours, theirs)
    ]
    assert unexplained == []
    # That nothing comes out at all, on both sides alike, is not what is wanted.
    arrived = [step for step in steps if step.number in ours.outcomes]
    assert reasons["same"] > len(steps) / 2
    assert len(arrived) > len(steps) / 2

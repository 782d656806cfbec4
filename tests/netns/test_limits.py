"""Bandwidth limits on real traffic: what the receiver gets is the declared rate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fos1d.kernel.usage import Usage, workload_usage
from tests import lab
from tests.limited import Limiter, limiter, policy
from tests.others import Others

pytestmark = pytest.mark.netns

INSIDE4, OUTSIDE4 = "10.77.0.1", "10.77.0.2"
INSIDE6, OUTSIDE6 = "2001:db8:77::1", "2001:db8:77::2"
WARM_S, WINDOW_S = 1.0, 5.0
# What a packet of 1500 bytes carries: TCP with timestamps, UDP in datagrams of 1400.
PAYLOAD = {("tcp", 4): 1448 / 1500, ("tcp", 6): 1428 / 1500}
PAYLOAD |= {("udp", 4): 1400 / 1428, ("udp", 6): 1400 / 1448}
MBIT = (1, 10, 100)
TRIES = 3


@dataclass(frozen=True)
class Wire:
    """A host whose workloads are limited, and another host."""

    limiter: Limiter
    inside: lab.Namespace
    outside: lab.Namespace
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, cgroup: str, namespace: lab.Namespace, *words: str) -> subprocess.Popen[bytes]:
        """Start one end of a stream."""
        started = self.limiter.popen(
            cgroup, namespace, sys.executable, "-m", "tests.stream", *words
        )
        self.running.append(started)
        return started


@pytest.fixture
def wire(bpffs: Path, cgroup: Path) -> Iterator[Wire]:
    """Two hosts and nothing running."""
    with limiter(bpffs, cgroup) as made, lab.namespaces("in", "out") as (inside, outside):
        lab.veth(inside, "eth0", outside, "eth0")
        lab.address(inside, "eth0", f"{INSIDE4}/24", f"{INSIDE6}/64")
        lab.address(outside, "eth0", f"{OUTSIDE4}/24", f"{OUTSIDE6}/64")
        wire = Wire(made, inside, outside)
        try:
            yield wire
        finally:
            for started in wire.running:
                started.kill()
                started.wait()


@dataclass(frozen=True)
class Stream:
    """What is sent: by how many flows, which way as the workload sees it."""

    kind: str
    way: str
    flows: int = 1
    version: int = 4
    congestion: str = ""
    burst: str = ""

    def addresses(self) -> tuple[str, str]:
        """Return the workload's address and the other host's."""
        return (INSIDE4, OUTSIDE4) if self.version == 4 else (INSIDE6, OUTSIDE6)


def measure(wire: Wire, stream: Stream, cgroups: dict[str, float]) -> dict[str, float]:
    """Send to or from all cgroups at once; return the share of its rate that each one got."""
    (inside, outside), is_out = stream.addresses(), stream.way == "egress"
    receivers = {}
    for port, cgroup in enumerate(cgroups, 5001):
        where = (".", wire.outside) if is_out else (cgroup, wire.inside)
        to = outside if is_out else inside
        words = ("receive", stream.kind, to, str(port), str(WARM_S), str(WINDOW_S))
        receivers[cgroup] = wire.start(*where, *words)
    for receiver in receivers.values():
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == b"ready\n"
    for port, (cgroup, rate) in enumerate(cgroups.items(), 5001):
        where = (cgroup, wire.inside) if is_out else (".", wire.outside)
        to = outside if is_out else inside
        words = ("send", stream.kind, to, str(port), str(WARM_S + WINDOW_S + 1), str(rate * 1.5))
        wire.start(*where, *words, str(stream.flows), stream.congestion)
    share = PAYLOAD[stream.kind, stream.version]
    return {
        cgroup: float(receivers[cgroup].communicate(timeout=30)[0]) * 8 / share / rate
        for cgroup, rate in cgroups.items()
    }


def limited(mbit: int, way: str, burst: str = "") -> str:
    limit = f"{way}BitsPerSecond: {mbit}Mbit" + (f", burstBytes: {burst}" if burst else "")
    text = policy(f"resourceLimits: {{bandwidthLimits: {{{limit}}}}}", f"p{mbit}")
    return text.replace("podSelector: {}", f"podSelector: {{matchLabels: {{mbit: '{mbit}'}}}}")


STREAMS = [
    Stream("tcp", "egress"),
    Stream("tcp", "egress", flows=4, version=6, congestion="cubic"),
    Stream("udp", "egress", flows=2),
    Stream("tcp", "ingress", congestion="cubic"),
    Stream("tcp", "ingress", flows=4),
    Stream("udp", "ingress", version=6),
    Stream("tcp", "egress", flows=4, burst="64kb"),
    Stream("tcp", "ingress", flows=1, burst="64kb"),
]


def is_right(got: dict[str, float]) -> bool:
    """Whether every share is within 5 % of what was declared."""
    return all(0.95 <= share <= 1.05 for share in got.values())


@pytest.mark.parametrize("stream", STREAMS, ids=str)
def test_the_receiver_gets_the_declared_rate(others: Others, wire: Wire, stream: Stream) -> None:
    """At three rates at once, each in a workload of its own. What else runs on the machine may
    disturb one measurement; no other test runs during the next ones."""
    workloads = [wire.limiter.workload(f"w{mbit}", mbit=str(mbit)) for mbit in MBIT]
    wire.limiter.apply(workloads, *(limited(mbit, stream.way, stream.burst) for mbit in MBIT))
    cgroups = {f"w{mbit}": mbit * 1e6 for mbit in MBIT}
    tries = [measure(wire, stream, cgroups)]
    while len(tries) < TRIES and not is_right(tries[-1]):
        with others.wait():
            tries.append(measure(wire, stream, cgroups))
    assert is_right(tries[-1]), tries


def usage_of(wire: Wire, cgroup: str) -> Usage:
    number = (wire.limiter.root / cgroup).stat().st_ino
    return workload_usage(wire.limiter.kernel.bpffs)[number]


def test_ecn_is_marked_before_anything_is_dropped(wire: Wire) -> None:
    for namespace in (wire.inside, wire.outside):
        namespace.run("sysctl", "-qw", "net.ipv4.tcp_ecn=1")
    wire.limiter.apply([wire.limiter.workload("w20", mbit="20")], limited(20, "egress"))
    stream = Stream("tcp", "egress", flows=4, congestion="cubic")
    got = measure(wire, stream, {"w20": 20e6})
    used = usage_of(wire, "w20")
    assert 0.9 <= got["w20"] <= 1.1
    assert used.marked > 0
    assert used.limited_out.packets < used.sent.packets / 10, used


def test_one_connection_is_paced_and_hardly_dropped(wire: Wire) -> None:
    """A segment that was dropped on the way out is not lost: TCP still has it."""
    wire.limiter.apply([wire.limiter.workload("w20", mbit="20")], limited(20, "egress"))
    measure(wire, Stream("tcp", "egress", congestion="cubic"), {"w20": 20e6})
    used = usage_of(wire, "w20")
    assert used.limited_out.packets < used.sent.packets / 20, used

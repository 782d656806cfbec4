"""Flow tracking: XDP on the way in, its companion on the way out, one table for both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fos1d import abi
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpf import Fd
from fos1d.kernel.flows import sweep
from fos1d.model.failsafe import Direction, FailsafePort, Transport
from fos1d.model.objects import Attachment, Hook
from tests import frames as f
from tests import lab
from tests.applied import XDP_PASS, Applied, applied, program, verdict

pytestmark = pytest.mark.kernel

SSH = FailsafePort(Direction.IN, Transport.TCP, 22)

Ends = tuple[str, int, str, int]


@dataclass
class Wire:
    """Both directions of an interface: what comes in through XDP, what goes out through TC."""

    kernel: Applied
    xdp: Fd
    tc: Fd

    def comes(self, frame: bytes) -> bool:
        """Whether XDP lets the frame in."""
        return verdict(self.xdp, frame) == XDP_PASS

    def goes(self, frame: bytes) -> None:
        """Let the frame out; the companion never stops anything."""
        assert verdict(self.tc, frame) == 0xFFFFFFFF

    def flows(self, name: str) -> int:
        """Count the entries of a flow table."""
        for path in self.kernel.kernel.bpffs.pins(f"state/_flow/{name}"):
            with self.kernel.kernel.bpffs.open(path) as fd:
                return contents.count_entries(fd, bpf.map_info(fd))
        raise AssertionError(name)


def wire(kernel: Applied, settings: str) -> Wire:
    report = kernel.ready({"p.yaml": program("p", "v0", settings)})
    companion = next(
        found.program
        for found in report.facts.attached.values()
        if isinstance(found, Attachment) and found.hook is Hook.TC_EGRESS
    )
    bpffs = kernel.kernel.bpffs
    return Wire(kernel, bpffs.open(kernel.attached(report, "v0")), bpffs.open(companion))


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def segment(ends: Ends, flags: int) -> bytes:
    source, sport, dest, dport = ends
    make = f.ipv6 if ":" in source else f.ipv4
    return f.ethernet(make(source, dest, f.TCP, f.tcp(sport, dport, flags)))


def datagram(ends: Ends) -> bytes:
    source, sport, dest, dport = ends
    make = f.ipv6 if ":" in source else f.ipv4
    return f.ethernet(make(source, dest, f.UDP, f.udp(sport, dport)))


def back(ends: Ends) -> Ends:
    source, sport, dest, dport = ends
    return dest, dport, source, sport


STRICT = "{stateful: true, statefulGraceSeconds: 0}"
PAIRS = [
    ("203.0.113.9", 1234, "198.51.100.1", 80),
    ("198.51.100.1", 80, "203.0.113.9", 1234),
    ("2001:db8:9::9", 1234, "2001:db8:1::1", 80),
    ("2001:db8:1::1", 7, "2001:db8:1::1", 80),
]


@pytest.mark.parametrize("ends", PAIRS)
def test_a_connection_from_outside(kernel: Applied, ends: Ends) -> None:
    line = wire(kernel, STRICT)
    assert not line.comes(segment(ends, f.ACK)), "belongs to nothing"
    assert line.comes(segment(ends, f.SYN))
    assert not line.comes(segment(ends, f.ACK)), "our side has not answered yet"
    line.goes(segment(back(ends), f.SYN | f.ACK))
    assert line.comes(segment(ends, f.ACK))
    assert line.comes(segment(ends, f.ACK | f.PSH))
    other = (ends[0], ends[1] + 1, ends[2], ends[3])
    assert not line.comes(segment(other, f.ACK)), "another port is another flow"


@pytest.mark.parametrize("ends", PAIRS)
def test_a_connection_from_inside(kernel: Applied, ends: Ends) -> None:
    line = wire(kernel, STRICT)
    assert not line.comes(segment(back(ends), f.SYN | f.ACK)), "nobody asked"
    line.goes(segment(ends, f.SYN))
    assert line.comes(segment(back(ends), f.SYN | f.ACK))
    assert line.comes(segment(back(ends), f.ACK))


def test_floods_of_one_direction_never_reach_the_lasting_table(kernel: Applied) -> None:
    line = wire(kernel, STRICT)
    for port in range(1, 300):
        line.comes(segment(("203.0.113.9", port, "198.51.100.1", 80), f.SYN))
        line.goes(segment(("198.51.100.1", 80, "203.0.113.9", port), f.SYN | f.ACK))
    assert line.flows("flows4") == 0
    assert line.flows("new_flows4") == 299
    line.comes(segment(("203.0.113.9", 7, "198.51.100.1", 80), f.ACK))
    assert (line.flows("flows4"), line.flows("new_flows4")) == (1, 298)


@pytest.mark.parametrize(
    "flags", [f.ACK, f.SYN | f.ACK, f.FIN | f.ACK, f.RST, f.RST | f.ACK, 0, f.FIN, 0xFF]
)
def test_what_opens_nothing_is_dropped(kernel: Applied, flags: int) -> None:
    assert not wire(kernel, STRICT).comes(segment(PAIRS[0], flags))


def test_other_protocols_pass_without_a_flow(kernel: Applied) -> None:
    line = wire(kernel, STRICT)
    assert line.comes(datagram(PAIRS[0]))
    assert line.comes(f.ethernet(f.ipv4("203.0.113.9", "198.51.100.1", f.ICMP, f.icmp(8))))
    assert line.comes(f.ethernet(f.ipv4("203.0.113.9", "198.51.100.1", 47, b"gre")))
    later = f.ipv4("203.0.113.9", "198.51.100.1", f.TCP, b"x" * 24, fragment=100)
    assert line.comes(f.ethernet(later)), "without its first fragment it is harmless"


def test_in_the_grace_period_unknown_flows_are_adopted(kernel: Applied) -> None:
    line = wire(kernel, "{stateful: true, statefulGraceSeconds: 1}")
    assert line.comes(segment(PAIRS[0], f.ACK))
    time.sleep(1.1)
    assert line.comes(segment(PAIRS[0], f.ACK)), "adopted"
    assert not line.comes(segment(PAIRS[2], f.ACK)), "the grace is over"
    line.goes(segment(back(PAIRS[0]), f.ACK))
    assert line.flows("flows4") == 1, "an adopted flow settles when our side speaks"


def test_the_grace_is_not_renewed_by_a_changed_setting(kernel: Applied) -> None:
    line = wire(kernel, "{stateful: true, statefulGraceSeconds: 1}")
    assert line.comes(segment(PAIRS[0], f.ACK))
    time.sleep(1.1)
    line = wire(kernel, "{stateful: true, statefulGraceSeconds: 1, synFloodProtection: true}")
    assert line.comes(segment(PAIRS[0], f.ACK)), "the flows outlive the program"
    assert not line.comes(segment(PAIRS[2], f.ACK))


def test_established_flows_skip_the_rate_limit(kernel: Applied) -> None:
    rate = "rateLimiting: {enabled: true, packetsPerSecond: 1, burst: 5}"
    line = wire(kernel, f"{{stateful: true, statefulGraceSeconds: 0, {rate}}}")
    line.goes(datagram(back(PAIRS[0])))
    assert all(line.comes(datagram(PAIRS[0])) for _ in range(100))
    other = ("203.0.113.10", 5, "198.51.100.1", 80)
    assert sum(line.comes(datagram(other)) for _ in range(100)) == 5


def test_answered_udp_is_no_flood(kernel: Applied) -> None:
    line = wire(kernel, "{udpFloodProtection: true}")
    line.goes(datagram(back(PAIRS[0])))
    assert all(line.comes(datagram(PAIRS[0])) for _ in range(3000))


def test_failsafe_ports_stay_open(kernel: Applied) -> None:
    kernel.options = replace(kernel.options, failsafe_ports=(SSH, replace(SSH, port=2222)))
    line = wire(kernel, STRICT)
    assert line.comes(segment(("203.0.113.9", 999, "198.51.100.1", 22), f.ACK))
    assert line.comes(segment(("203.0.113.9", 999, "198.51.100.1", 2222), f.ACK))
    assert not line.comes(segment(("203.0.113.9", 999, "198.51.100.1", 23), f.ACK))


def connect(line: Wire, port: int, source: str = "203.0.113.9") -> bool:
    """Go through a handshake from outside; False if any of its segments is dropped."""
    ends = (source, port, "198.51.100.1", 80)
    if not line.comes(segment(ends, f.SYN)):
        return False
    line.goes(segment(back(ends), f.SYN | f.ACK))
    return line.comes(segment(ends, f.ACK))


def close(line: Wire, port: int, source: str = "203.0.113.9") -> None:
    """Close a connection from both sides."""
    ends = (source, port, "198.51.100.1", 80)
    line.comes(segment(ends, f.FIN | f.ACK))
    line.goes(segment(back(ends), f.FIN | f.ACK))
    line.comes(segment(ends, f.ACK))


def test_connections_per_ip(kernel: Applied) -> None:
    line = wire(kernel, "{connectionsPerIP: 3}")
    assert [connect(line, port) for port in range(1, 6)] == [True] * 3 + [False] * 2
    assert connect(line, 1, "203.0.113.10"), "another source has its own count"
    close(line, 2)
    assert connect(line, 9)
    assert not connect(line, 10)


def test_connections_opened_by_us_do_not_count_against_the_source(kernel: Applied) -> None:
    line = wire(kernel, "{connectionsPerIP: 1}")
    for port in range(1, 5):
        ends = ("198.51.100.1", port, "203.0.113.9", 443)
        line.goes(segment(ends, f.SYN))
        assert line.comes(segment(back(ends), f.SYN | f.ACK))
    assert connect(line, 77)


def test_the_sweep_frees_what_expired_and_recounts(kernel: Applied) -> None:
    line = wire(kernel, "{connectionsPerIP: 2}")
    assert [connect(line, port) for port in (1, 2, 3)] == [True, True, False]
    bpffs, now_ns = kernel.kernel.bpffs, time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert sweep(bpffs, now_ns).living == 2
    assert not connect(line, 3), "the recount found the two"
    later_ns = now_ns + (abi.Lifetime.TCP_ESTABLISHED_S + 1) * 10**9
    assert sweep(bpffs, later_ns).freed == 2
    assert line.flows("flows4") == 0
    assert connect(line, 3)


def test_a_new_connection_on_old_ports_lives_as_long_as_any(kernel: Applied) -> None:
    """The bits of the old one's end must not shorten the new one's life."""
    line = wire(kernel, STRICT)
    assert connect(line, 5)
    close(line, 5)
    assert connect(line, 5)
    now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    later_ns = now_ns + (abi.Lifetime.TCP_TRANSITORY_S + 1) * 10**9
    assert sweep(kernel.kernel.bpffs, later_ns).living == 1

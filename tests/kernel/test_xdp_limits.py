"""Limits per source, packet by packet through BPF_PROG_TEST_RUN."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fos1d import abi
from fos1d.kernel.bpf import Fd
from fos1d.kinds import program_knobs
from fos1d.model.failsafe import Direction, FailsafePort, Transport
from tests import frames as f
from tests import lab
from tests.applied import XDP_PASS, Applied, applied, program, verdict

pytestmark = pytest.mark.kernel

SSH = FailsafePort(Direction.IN, Transport.TCP, 22)

HERE4, HERE6 = "198.51.100.1", "2001:db8:1::1"


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def packet(source: str, protocol: int = f.UDP, content: bytes | None = None) -> bytes:
    content = content if content is not None else f.udp(1000, 2000)
    if ":" in source:
        return f.ethernet(f.ipv6(source, HERE6, protocol, content))
    return f.ethernet(f.ipv4(source, HERE4, protocol, content))


def passed(fd: Fd, frames: Iterable[bytes]) -> int:
    return sum(verdict(fd, frame) == XDP_PASS for frame in frames)


def test_a_source_gets_its_burst_and_no_more(kernel: Applied) -> None:
    rate = "{rateLimiting: {enabled: true, packetsPerSecond: 1, burst: 5}}"
    fd = kernel.open({"p.yaml": program("p", "v0", rate)})
    assert passed(fd, [packet("8.8.8.8")] * 20) == 5
    assert passed(fd, [packet("8.8.8.9")] * 20) == 5, "another IPv4 address is another source"
    assert passed(fd, [packet("2600::1")] * 20) == 5
    assert passed(fd, [packet("2600::2")] * 20) == 0, "one /64 is one source"
    assert passed(fd, [packet("2600:0:0:1::1")] * 20) == 5


def test_the_default_burst_is_a_tenth_of_a_second_at_least_32(kernel: Applied) -> None:
    fd = kernel.open(
        {"p.yaml": program("p", "v0", "{rateLimiting: {enabled: true, packetsPerSecond: 2}}")}
    )
    assert passed(fd, [packet("8.8.8.8")] * 100) == 32


@pytest.mark.parametrize("tags", [(), (0x8100,), (0x88A8, 0x8100)])
def test_a_vlan_tag_is_no_way_around(kernel: Applied, tags: tuple[int, ...]) -> None:
    rate = "{rateLimiting: {enabled: true, packetsPerSecond: 1, burst: 3}}"
    fd = kernel.open({"p.yaml": program("p", "v0", rate)})
    frame = f.ethernet(f.ipv4("8.8.8.8", HERE4, f.UDP, f.udp(1, 2)), None, tags)
    assert passed(fd, [frame] * 10) == 3


def test_later_fragments_are_counted_too(kernel: Applied) -> None:
    rate = "{rateLimiting: {enabled: true, packetsPerSecond: 1, burst: 3}}"
    fd = kernel.open({"p.yaml": program("p", "v0", rate)})
    frame = f.ethernet(f.ipv4("8.8.8.8", HERE4, f.UDP, b"x" * 32, fragment=100))
    assert passed(fd, [frame] * 10) == 3


def test_neighbour_discovery_is_not_limited(kernel: Applied) -> None:
    rate = "{rateLimiting: {enabled: true, packetsPerSecond: 1, burst: 1}}"
    fd = kernel.open({"p.yaml": program("p", "v0", rate)})
    solicitation = f.icmp(135, 0, bytes(16))
    near = f.ethernet(f.ipv6("fe80::2", "ff02::1:ff00:1", f.ICMPV6, solicitation, hops=255))
    far = f.ethernet(f.ipv6("fe80::2", "ff02::1:ff00:1", f.ICMPV6, solicitation, hops=254))
    assert passed(fd, [near] * 50) == 50
    assert passed(fd, [far] * 50) == 1, "with another hop limit it came from afar"


def test_what_is_not_ip_is_not_limited(kernel: Applied) -> None:
    rate = "{rateLimiting: {enabled: true, packetsPerSecond: 1, burst: 1}}"
    fd = kernel.open({"p.yaml": program("p", "v0", rate)})
    assert passed(fd, [f.ethernet(bytes(46), 0x0806)] * 50) == 50


SYN = f.tcp(1000, 80, f.SYN)


@pytest.mark.parametrize(
    ("setting", "protocol", "content", "burst"),
    [
        ("synFloodProtection", f.TCP, SYN, 200),
        ("icmpFloodProtection", f.ICMP, f.icmp(8), 100),
        ("icmpFloodProtection", f.ICMPV6, f.icmp(128), 100),
        ("udpFloodProtection", f.UDP, f.udp(5, 6), 1000),
    ],
)
def test_flood_protection(
    kernel: Applied, setting: str, protocol: int, content: bytes, burst: int
) -> None:
    fd = kernel.open({"p.yaml": program("p", "v0", f"{{{setting}: true}}")})
    source = "2600::1" if protocol == f.ICMPV6 else "8.8.8.8"
    flood = passed(fd, [packet(source, protocol, content)] * (burst * 3))
    assert burst <= flood < burst * 2, "the burst, and what the time of the test earns"
    other = "2600:1::1" if protocol == f.ICMPV6 else "8.8.8.9"
    assert passed(fd, [packet(other, protocol, content)]) == 1


def test_syn_flood_protection_leaves_other_segments_alone(kernel: Applied) -> None:
    fd = kernel.open({"p.yaml": program("p", "v0", "{synFloodProtection: true}")})
    for flags in (f.ACK, f.SYN | f.ACK, f.RST, f.FIN | f.ACK):
        frames = [packet("8.8.8.8", f.TCP, f.tcp(1, 2, flags))] * 500
        assert passed(fd, frames) == 500


def test_connections_per_second(kernel: Applied) -> None:
    fd = kernel.open({"p.yaml": program("p", "v0", "{connectionsPerSecond: 3}")})
    syns = [packet("8.8.8.8", f.TCP, f.tcp(port, 80, f.SYN)) for port in range(1, 30)]
    assert passed(fd, syns) in (3, 4)
    assert passed(fd, [packet("8.8.8.8", f.UDP, f.udp(1, 2))] * 30) == 30


def test_a_flood_of_invented_sources_does_not_push_out_the_known(
    kernel: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit of new sources a second, unknown ones share buckets; known keep theirs."""
    monkeypatch.setattr(program_knobs, "NEWCOMERS_PER_SECOND", 500)
    rate = "{rateLimiting: {enabled: true, packetsPerSecond: 100, burst: 100}}"
    fd = kernel.open({"p.yaml": program("p", "v0", rate)})
    assert passed(fd, [packet("8.8.8.8")] * 10) == 10
    invented = (f"{a}.{b}.{c}.1" for a in range(20, 24) for b in range(100) for c in range(200))
    flood = passed(fd, (packet(source) for source in invented))
    assert flood < 50_000, "the crowd as a whole is limited"
    assert passed(fd, [packet("8.8.8.8")] * 90) == 90, "a known source has all of its own"


def test_counters_name_the_reason_and_leave_the_self_check_out(kernel: Applied) -> None:
    """BPF_PROG_TEST_RUN shows packets on loopback; they are not traffic and not counted."""
    fd = kernel.open(
        {"p.yaml": program("p", "v0", '{blacklist: {enabled: true, ips: ["8.8.8.8"]}}')}
    )
    assert passed(fd, [packet("8.8.8.8"), packet("8.8.8.9")]) == 1
    assert kernel.counts("p") == {}
    fd = kernel.open(
        {"p.yaml": program("p", "lo", '{blacklist: {enabled: true, ips: ["8.8.8.8"]}}')}, "lo"
    )
    assert passed(fd, [packet("8.8.8.8"), packet("8.8.8.9")]) == 1
    counts = {reason: count.packets for reason, count in kernel.counts("p").items()}
    assert counts[abi.Reason.DROP_BLACKLIST] >= 1
    assert counts[abi.Reason.PASS] >= 1


def test_failsafe_ports_are_spared_by_the_limit_on_connections(kernel: Applied) -> None:
    kernel.options = replace(kernel.options, failsafe_ports=(SSH,))
    fd = kernel.open({"p.yaml": program("p", "v0", "{connectionsPerSecond: 1}")})
    assert passed(fd, [packet("8.8.8.8", f.TCP, f.tcp(1, 22))] * 10) == 10
    assert passed(fd, [packet("8.8.8.8", f.TCP, f.tcp(1, 23))] * 10) == 1

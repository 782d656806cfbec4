"""How exactly the limits per source keep their rates, by the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fos1d.kernel.bpf import Fd
from tests import frames as f
from tests import lab
from tests.applied import XDP_PASS, Applied, applied, program, verdict
from tests.kernel.test_xdp_limits import packet

pytestmark = pytest.mark.kernel


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def flood(fd: Fd, frame: bytes, seconds: float) -> tuple[int, float]:
    """Offer a frame as fast as possible; return how many passed and how long it took."""
    began, passed = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        passed += verdict(fd, frame) == XDP_PASS
    return passed, time.monotonic() - began


@pytest.mark.parametrize("source", ["8.8.8.8", "2600::1"])
@pytest.mark.parametrize("rate", [7, 100])
def test_a_flood_gets_the_burst_and_the_rate(kernel: Applied, source: str, rate: int) -> None:
    """The burst is so deep that a busy machine's pauses waste nothing of the rate."""
    settings = f"{{rateLimiting: {{enabled: true, packetsPerSecond: {rate}, burst: {rate}}}}}"
    fd = kernel.open({"p.yaml": program("p", "v0", settings)})
    passed, seconds = flood(fd, packet(source), 1.5)
    expected = rate + rate * seconds
    assert expected * 0.9 <= passed <= expected + 1


@pytest.mark.parametrize("rate", [20_000, 999_999])
def test_a_high_rate_lets_no_more_through(kernel: Applied, rate: int) -> None:
    settings = f"{{rateLimiting: {{enabled: true, packetsPerSecond: {rate}, burst: 1}}}}"
    fd = kernel.open({"p.yaml": program("p", "v0", settings)})
    passed, seconds = flood(fd, packet("8.8.8.8"), 0.5)
    assert 0 < passed <= 1 + rate * seconds + 1


def test_a_pause_refills_the_burst_and_no_more(kernel: Applied) -> None:
    settings = "{rateLimiting: {enabled: true, packetsPerSecond: 100, burst: 20}}"
    fd = kernel.open({"p.yaml": program("p", "v0", settings)})
    flood(fd, packet("8.8.8.8"), 0.1)
    time.sleep(1.0)
    passed, seconds = flood(fd, packet("8.8.8.8"), 0.1)
    assert 20 <= passed <= 20 + 100 * seconds + 1


def test_a_raised_limit_is_in_force_at_once(kernel: Applied) -> None:
    """What a source did under the old limit must not lock it out under the new one."""
    limit = "{{rateLimiting: {{enabled: true, packetsPerSecond: {}, burst: {}}}}}"
    fd = kernel.open({"p.yaml": program("p", "v0", limit.format(1, 50))})
    assert sum(verdict(fd, packet("8.8.8.8")) == XDP_PASS for _ in range(60)) >= 50
    fd = kernel.open({"p.yaml": program("p", "v0", limit.format(1000, 10))})
    assert verdict(fd, packet("8.8.8.8")) == XDP_PASS


@pytest.mark.parametrize(
    ("settings", "frame", "rate", "burst"),
    [
        ("synFloodProtection: true", packet("8.8.8.8", f.TCP, f.tcp(1, 2)), 100, 200),
        ("icmpFloodProtection: true", packet("8.8.8.8", f.ICMP, f.icmp(8)), 50, 100),
        ("connectionsPerSecond: 30", packet("8.8.8.8", f.TCP, f.tcp(1, 2)), 30, 30),
        ("icmpFloodProtection: true", packet("2600::1", f.ICMPV6, f.icmp(128)), 50, 100),
    ],
)
def test_every_limit_keeps_its_rate(
    kernel: Applied, settings: str, frame: bytes, rate: int, burst: int
) -> None:
    fd = kernel.open({"p.yaml": program("p", "v0", f"{{{settings}}}")})
    passed, seconds = flood(fd, frame, 1.0)
    expected = burst + rate * seconds
    assert expected * 0.9 <= passed <= expected + 1

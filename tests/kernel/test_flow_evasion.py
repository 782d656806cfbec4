"""What an attacker may try with flows: to be taken for established, or not to be counted."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fos1d import abi
from fos1d.kernel.flows import sweep
from tests import frames as f
from tests import lab
from tests.applied import Applied, applied, program
from tests.kernel.test_flows import (
    PAIRS,
    STRICT,
    Ends,
    back,
    connect,
    datagram,
    segment,
    wire,
)

pytestmark = pytest.mark.kernel

OUTSIDE, INSIDE = "203.0.113.9", "198.51.100.1"
SLOW = "rateLimiting: {enabled: true, packetsPerSecond: 1, burst: 5}"
LIMITED = f"{{stateful: true, statefulGraceSeconds: 0, {SLOW}}}"


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def echo(kind: int, source: str, dest: str) -> bytes:
    if ":" in source:
        return f.ethernet(f.ipv6(source, dest, f.ICMPV6, f.icmp(kind, 5)))
    return f.ethernet(f.ipv4(source, dest, f.ICMP, f.icmp(kind, 5)))


OUTSIDE6, INSIDE6 = "2001:db8:9::9", "2001:db8:1::1"
ECHOES = [(OUTSIDE, INSIDE, 8, 0), (OUTSIDE6, INSIDE6, 128, 129)]


@pytest.mark.parametrize(("outside", "inside", "request_type", "reply_type"), ECHOES)
@pytest.mark.parametrize("limit", ["icmpFloodProtection: true", SLOW])
def test_pings_from_outside_stay_limited_though_we_answer(
    kernel: Applied, outside: str, inside: str, request_type: int, reply_type: int, limit: str
) -> None:
    line = wire(kernel, f"{{stateful: true, {limit}}}")
    passed = 0
    for _ in range(200):
        if line.comes(echo(request_type, outside, inside)):
            line.goes(echo(reply_type, inside, outside))
            passed += 1
    assert passed <= 105


@pytest.mark.parametrize(("outside", "inside", "request_type", "reply_type"), ECHOES)
def test_answers_to_our_pings_skip_the_limit(
    kernel: Applied, outside: str, inside: str, request_type: int, reply_type: int
) -> None:
    line = wire(kernel, LIMITED)
    line.goes(echo(request_type, inside, outside))
    assert all(line.comes(echo(reply_type, outside, inside)) for _ in range(50))


@pytest.mark.parametrize("ends", PAIRS[:3:2])
def test_a_refused_connection_is_no_flow(kernel: Applied, ends: Ends) -> None:
    line = wire(kernel, LIMITED)
    assert line.comes(segment(ends, f.SYN))
    line.goes(segment(back(ends), f.RST | f.ACK))
    assert not line.comes(segment(ends, f.ACK))


def test_a_closed_connection_skips_no_limit(kernel: Applied) -> None:
    line = wire(kernel, LIMITED)
    assert connect(line, 7)
    ends = (OUTSIDE, 7, INSIDE, 80)
    assert all(line.comes(segment(ends, f.ACK)) for _ in range(50))
    line.comes(segment(ends, f.FIN | f.ACK))
    line.goes(segment(back(ends), f.FIN | f.ACK))
    assert sum(line.comes(segment(ends, f.ACK)) for _ in range(50)) <= 5


def test_a_forged_reset_shortens_no_life(kernel: Applied) -> None:
    """It must not make the tracker forget what the ends still hold."""
    line = wire(kernel, STRICT)
    assert connect(line, 7)
    ends = (OUTSIDE, 7, INSIDE, 80)
    line.comes(segment(ends, f.RST))
    line.goes(segment(back(ends), f.ACK))
    later_ns = now_ns() + (abi.Lifetime.TCP_TRANSITORY_S + 1) * 10**9
    assert sweep(kernel.kernel.bpffs, later_ns).living == 1


def test_resets_that_nobody_believes_free_no_place(kernel: Applied) -> None:
    line = wire(kernel, "{connectionsPerIP: 3}")
    for port in (1, 2, 3):
        assert connect(line, port)
        ends = (OUTSIDE, port, INSIDE, 80)
        line.comes(segment(ends, f.RST))
        line.goes(segment(back(ends), f.ACK))
    sweep(kernel.kernel.bpffs, now_ns())
    assert not connect(line, 4)


def test_a_reset_that_is_meant_frees_its_place(kernel: Applied) -> None:
    line = wire(kernel, "{connectionsPerIP: 1}")
    assert connect(line, 1)
    line.goes(segment((INSIDE, 80, OUTSIDE, 1), f.ACK | f.PSH))
    line.comes(segment((OUTSIDE, 1, INSIDE, 80), f.RST))
    assert connect(line, 2)


@pytest.mark.parametrize("flags", [f.SYN | f.FIN, f.SYN | f.FIN | f.PSH])
def test_a_segment_that_opens_and_ends_opens_nothing(kernel: Applied, flags: int) -> None:
    assert not wire(kernel, STRICT).comes(segment(PAIRS[0], flags))


# Fragments


def fragments4(id_: int, source: str = OUTSIDE) -> tuple[bytes, bytes]:
    """Return a first and a later fragment of one datagram of the flow PAIRS[0]."""
    first = f.ipv4(source, INSIDE, f.UDP, f.udp(1234, 80, b"x" * 24), fragment=0x2000)
    later = f.ipv4(source, INSIDE, f.UDP, b"x" * 24, fragment=4)
    number = id_.to_bytes(2, "big")
    numbered = [packet[:4] + number + packet[6:] for packet in (first, later)]
    return f.ethernet(numbered[0]), f.ethernet(numbered[1])


def fragments6(id_: int) -> tuple[bytes, bytes]:
    def packet(fragment: int, content: bytes) -> bytes:
        header = f.extension(f.FRAGMENT, f.UDP, fragment=fragment)[:4] + id_.to_bytes(4, "big")
        return f.ethernet(f.ipv6("2001:db8:9::9", "2001:db8:1::1", f.FRAGMENT, header + content))

    return packet(1, f.udp(1234, 80, b"x" * 24)), packet(32, b"x" * 24)


def test_all_fragments_of_an_established_flow_skip_the_limit(kernel: Applied) -> None:
    line = wire(kernel, LIMITED)
    for ends, made in ((PAIRS[0], fragments4), (PAIRS[2], fragments6)):
        line.goes(datagram(back(ends)))
        for id_ in range(1, 50):
            assert all(line.comes(frame) for frame in made(id_)), id_


def test_fragments_of_no_flow_are_limited(kernel: Applied) -> None:
    line = wire(kernel, LIMITED)
    line.goes(datagram(back(PAIRS[0])))
    assert line.comes(fragments4(1)[0])
    passed = sum(line.comes(fragments4(id_)[1]) for id_ in range(2, 50))
    assert passed <= 5, "another datagram's number"
    stranger = fragments4(1, "203.0.113.10")[1]
    assert sum(line.comes(stranger) for _ in range(50)) <= 5, "another source's number"


# The grace, in which unknown flows are adopted


def arrive(kernel: Applied, frame: bytes) -> set[abi.Reason]:
    """Send a real frame into v0, and return the reasons counted since."""
    before = kernel.counts("p")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("v1", 0))
        sender.send(frame)
    time.sleep(0.1)
    return {reason for reason, count in kernel.counts("p").items() if count != before.get(reason)}


def test_the_grace_begins_when_the_program_is_attached(kernel: Applied) -> None:
    """A quiet interface must not adopt the first flood that comes an hour later."""
    wire(kernel, "{stateful: true, statefulGraceSeconds: 1}")
    assert abi.Reason.PASS_ADOPTED in arrive(kernel, segment(PAIRS[0], f.ACK))
    time.sleep(1.1)
    assert abi.Reason.DROP_NO_FLOW in arrive(kernel, segment(PAIRS[2], f.ACK))


def test_the_grace_of_a_quiet_interface_ends_as_well(kernel: Applied) -> None:
    wire(kernel, "{stateful: true, statefulGraceSeconds: 1}")
    time.sleep(1.2)
    assert abi.Reason.DROP_NO_FLOW in arrive(kernel, segment(PAIRS[0], f.ACK))


def test_the_grace_of_a_chain_ends_as_well(kernel: Applied) -> None:
    strict = "{stateful: true, statefulGraceSeconds: 1}"
    files = {"p.yaml": program("p", "v0", strict, priority=20), "q.yaml": program("q", "v0", "{}")}
    kernel.ready(files)
    time.sleep(1.2)
    assert abi.Reason.DROP_NO_FLOW in arrive(kernel, segment(PAIRS[0], f.ACK))

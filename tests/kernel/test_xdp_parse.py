"""The packet parser against a naive reader: no crafted frame slips past a blacklist."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fos1d.kernel.bpf import Fd
from tests import frames as f
from tests import lab
from tests.applied import XDP_DROP, XDP_PASS, Applied, applied, program, verdict

pytestmark = pytest.mark.kernel

LISTED = ["192.168.1.100", "10.10.10.0/24", "172.16.0.0/12", "2001:db8:bad::/48", "2001:db8::bad"]
NETWORKS = [ip_network(text) for text in LISTED]
ENOUGH = settings(
    max_examples=4000,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BLACKLIST = f"{{blacklist: {{enabled: true, ips: {LISTED}}}".replace("'", '"')


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def is_listed(address: f.Address | None) -> bool:
    return any(
        address.version == network.version and address in network
        for network in NETWORKS
        if address is not None
    )


def expected(frame: bytes, looks_further: bool) -> int:
    """Return the verdict that the naive reader gives."""
    read = f.read_frame(frame)
    if read.fate == "not-ip":
        return XDP_PASS
    if read.fate != "ip" or is_listed(read.source):
        return XDP_DROP
    return XDP_DROP if looks_further and read.rest != "ip" else XDP_PASS


SOURCES4 = st.sampled_from(
    ["192.168.1.100", "192.168.1.101", "10.10.10.7", "10.10.11.7", "8.8.8.8"]
)
SOURCES6 = st.sampled_from(["2001:db8:bad::1", "2001:db8::bad", "2001:db8::bae", "2600::1"])


@st.composite
def transports(draw: st.DrawFn) -> tuple[int, bytes]:
    protocol = draw(st.sampled_from([f.TCP, f.UDP, f.ICMP, f.ICMPV6, f.SCTP, 47, 50, 59, 103]))
    payload = draw(st.binary(max_size=24))
    match protocol:
        case f.TCP:
            return protocol, f.tcp(1, 2, draw(st.integers(0, 255)), payload)
        case f.ICMP | f.ICMPV6:
            return protocol, f.icmp(draw(st.integers(0, 255)), 1, payload)
        case _:
            return protocol, f.udp(3, 4, payload)


@st.composite
def packets4(draw: st.DrawFn) -> bytes:
    protocol, content = draw(transports())
    options = bytes(4 * draw(st.integers(0, 10)))
    fragment = draw(st.sampled_from([0, 0, 0x2000, 0x4000, 1, 2, 0x2001, 0x1FFF, 256, 0x20]))
    return f.ipv4(draw(SOURCES4), "198.51.100.1", protocol, content, options, fragment)


@st.composite
def packets6(draw: st.DrawFn) -> bytes:
    protocol, content = draw(transports())
    for kind in reversed(draw(st.lists(st.sampled_from(f.EXTENSIONS), max_size=9))):
        fragment = draw(st.sampled_from([0, 1, 8, 9, 0xFFF8]))
        content = f.extension(kind, protocol, draw(st.integers(0, 3)), fragment) + content
        protocol = kind
    return f.ipv6(draw(SOURCES6), "2001:db8:1::1", protocol, content)


@st.composite
def whole_frames(draw: st.DrawFn) -> bytes:
    packet = draw(packets4() | packets6())
    tags = draw(st.lists(st.sampled_from([0x8100, 0x88A8]), max_size=3))
    if draw(st.integers(0, 4)) == 0:
        return f.ethernet(f.pppoe(packet), 0x8864, tags)
    odd = draw(st.sampled_from([None] * 8 + [0x0800, 0x86DD, 0x0806, 0x88CC]))
    return f.ethernet(packet, odd, tags)


@st.composite
def any_frames(draw: st.DrawFn) -> bytes:
    """Whole frames, cut off, and with bytes changed."""
    frame = bytearray(draw(whole_frames()))
    for place, value in draw(
        st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3)
    ):
        frame[place % len(frame)] = value
    length = draw(st.integers(14, len(frame))) if draw(st.booleans()) else len(frame)
    return bytes(frame[:length])


@ENOUGH
@given(st.data())
def test_blacklist_judges_as_the_naive_reader(kernel: Applied, data: st.DataObject) -> None:
    fd = _opened(kernel, BLACKLIST + "}")
    frame = data.draw(any_frames() | st.binary(min_size=14, max_size=200))
    assert verdict(fd, frame) == expected(frame, looks_further=False), frame.hex()


@ENOUGH
@given(st.data())
def test_with_limits_the_transport_header_counts_too(kernel: Applied, data: st.DataObject) -> None:
    limits = ", rateLimiting: {enabled: true, packetsPerSecond: 1000000000, burst: 1000000000}}"
    fd = _opened(kernel, BLACKLIST + limits)
    frame = data.draw(any_frames() | st.binary(min_size=14, max_size=200))
    assert verdict(fd, frame) == expected(frame, looks_further=True), frame.hex()


_opened_programs: dict[tuple[int, str], Fd] = {}


def _opened(kernel: Applied, text: str) -> Fd:
    """Open the program once for all examples of a test."""
    key = (id(kernel), text)
    if key not in _opened_programs:
        _opened_programs[key] = kernel.open({"p.yaml": program("p", "v0", text)})
    return _opened_programs[key]


@pytest.mark.parametrize("tags", [(), (0x8100,), (0x88A8, 0x8100), (0x8100, 0x8100, 0x8100)])
@pytest.mark.parametrize("source", ["10.10.10.1", "9.9.9.9", "2001:db8:bad::5", "2600::5"])
def test_every_truncation(kernel: Applied, tags: tuple[int, ...], source: str) -> None:
    fd = _opened(kernel, BLACKLIST + "}")
    version = ip_address(source).version
    dest = "198.51.100.1" if version == 4 else "2001:db8:1::1"
    make = f.ipv4 if version == 4 else f.ipv6
    frame = f.ethernet(make(source, dest, f.UDP, f.udp(1, 2, b"x" * 8)), None, tags)
    for cut in f.truncations(frame):
        assert verdict(fd, cut) == expected(cut, looks_further=False), cut.hex()

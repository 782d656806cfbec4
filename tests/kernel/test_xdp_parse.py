"""The packet parser against a naive reader: no crafted frame slips past a blacklist."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random

import pytest

from fos1d.kernel.bpf import Fd
from tests import frames as f
from tests import lab
from tests.applied import XDP_DROP, XDP_PASS, Applied, applied, program, verdict

pytestmark = pytest.mark.kernel

LISTED = ["192.168.1.100", "10.10.10.0/24", "172.16.0.0/12", "2001:db8:bad::/48", "2001:db8::bad"]
NETWORKS = [ip_network(text) for text in LISTED]
FRAMES = 20_000
BLACKLIST = f"{{blacklist: {{enabled: true, ips: {LISTED}}}".replace("'", '"')
LIMITS = ", rateLimiting: {enabled: true, packetsPerSecond: 1000000000, burst: 1000000000}}"


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


SOURCES4 = ("192.168.1.100", "192.168.1.101", "10.10.10.7", "10.10.11.7", "8.8.8.8")
SOURCES6 = ("2001:db8:bad::1", "2001:db8::bad", "2001:db8::bae", "2600::1")
PROTOCOLS = (f.TCP, f.UDP, f.ICMP, f.ICMPV6, f.SCTP, 47, 50, 59, 103)
FRAGMENTS4 = (0, 0, 0x2000, 0x4000, 1, 2, 0x2001, 0x1FFF, 256, 0x20)
ODD_TYPES = (None,) * 8 + (0x0800, 0x86DD, 0x0806, 0x88CC)


def a_transport(random: Random) -> tuple[int, bytes]:
    protocol, payload = random.choice(PROTOCOLS), random.randbytes(random.randint(0, 24))
    match protocol:
        case f.TCP:
            return protocol, f.tcp(1, 2, random.randrange(256), payload)
        case f.ICMP | f.ICMPV6:
            return protocol, f.icmp(random.randrange(256), 1, payload)
        case _:
            return protocol, f.udp(3, 4, payload)


def a_packet4(random: Random) -> bytes:
    protocol, content = a_transport(random)
    options = bytes(4 * random.randint(0, 10))
    source, fragment = random.choice(SOURCES4), random.choice(FRAGMENTS4)
    return f.ipv4(source, "198.51.100.1", protocol, content, options, fragment)


def a_packet6(random: Random) -> bytes:
    protocol, content = a_transport(random)
    for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4, 6, 7, 8, 9))):
        kind, fragment = random.choice(f.EXTENSIONS), random.choice((0, 1, 8, 9, 0xFFF8))
        content = f.extension(kind, protocol, random.randint(0, 3), fragment) + content
        protocol = kind
    return f.ipv6(random.choice(SOURCES6), "2001:db8:1::1", protocol, content)


def a_whole_frame(random: Random) -> bytes:
    packet = random.choice((a_packet4, a_packet6))(random)
    tags = random.choices((0x8100, 0x88A8), k=random.randint(0, 3))
    if random.randrange(5) == 0:
        return f.ethernet(f.pppoe(packet), 0x8864, tags)
    return f.ethernet(packet, random.choice(ODD_TYPES), tags)


def a_frame(random: Random) -> bytes:
    """Return a whole frame, one that is cut off, one with bytes changed, or noise."""
    if random.randrange(20) == 0:
        return random.randbytes(random.randint(14, 200))
    frame = bytearray(a_whole_frame(random))
    for _ in range(random.choice((0, 0, 1, 2, 3))):
        frame[random.randrange(min(200, len(frame)))] = random.choice(
            (0, 255, random.getrandbits(8))
        )
    length = random.randint(14, len(frame)) if random.randrange(2) else len(frame)
    return bytes(frame[:length])


@pytest.mark.parametrize("looks_further", [False, True], ids=["blacklist", "limits"])
def test_it_judges_as_the_naive_reader(kernel: Applied, looks_further: bool) -> None:
    """With limits, the transport header counts too."""
    fd, random = _opened(kernel, BLACKLIST + (LIMITS if looks_further else "}")), Random(7)
    for _ in range(FRAMES):
        frame = a_frame(random)
        assert verdict(fd, frame) == expected(frame, looks_further), frame.hex()


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

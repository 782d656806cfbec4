"""Frames: whatever they look like, none whose source is listed passes the compiled programs.

An input is a frame as it is, or, after a byte below 0x80, a recipe: numbers that choose VLAN tags,
PPPoE, options, extension headers and where the frame is cut off. Random bytes would seldom be IP.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from fos1d.kernel import bpf
from fos1d.kernel.bpf import Fd
from tests import frames as f
from tests import lab
from tests.applied import XDP_DROP, XDP_PASS, Applied, applied, program

SOURCE4, SOURCE6 = "203.0.113.66", "2001:db8:113::66"
OTHER4, OTHER6 = "203.0.113.67", "2001:db8:113::67"
LISTED = {ip_address(SOURCE4), ip_address(SOURCE6)}
BLACKLIST = f'blacklist: {{enabled: true, ips: ["{SOURCE4}", "{SOURCE6}"]}}'
PLENTY = "{enabled: true, packetsPerSecond: 1000000000, burst: 1000000000}"
PLAIN = f"{{{BLACKLIST}}}"
EVERYTHING = (
    f"{{{BLACKLIST}, rateLimiting: {PLENTY}, stateful: true, synFloodProtection: true,"
    " icmpFloodProtection: true, udpFloodProtection: true, connectionsPerIP: 1000}"
)
LEAST_BYTES, MOST_BYTES = 14, 1500
KINDS = (f.HOPOPTS, f.ROUTING, f.FRAGMENT, f.AH, f.DSTOPTS, f.MOBILITY, f.HIP, f.SHIM6)
PROTOCOLS = (f.TCP, f.UDP, f.ICMP, f.ICMPV6, f.SCTP, 47, 50, 59)
TAGS = (0x8100, 0x88A8)


def install(kernel: Applied) -> list[Path]:
    """Load the programs; return where they are pinned."""
    files = {
        "a.yaml": program("plain", "v0", PLAIN),
        "b.yaml": program("everything", "v1", EVERYTHING),
    }
    report = kernel.ready(files)
    return [kernel.kernel.bpffs.root / kernel.attached(report, name) for name in ("v0", "v1")]


@dataclass(frozen=True)
class Packets:
    """The target: the two programs, opened."""

    plain: Fd
    everything: Fd

    def check(self, data: bytes) -> None:
        """Run both programs on the frame and hold their verdicts against the oracles'."""
        frame = frame_of(data)
        if not LEAST_BYTES <= len(frame) <= MOST_BYTES:
            return
        verdicts = bpf.test_run(self.plain, frame), bpf.test_run(self.everything, frame)
        assert set(verdicts) <= {XDP_DROP, XDP_PASS}, (verdicts, frame.hex())
        if claimed_source(frame) in LISTED:
            assert verdicts == (XDP_DROP, XDP_DROP), (verdicts, frame.hex())
        assert verdicts[0] == expected(frame), (verdicts, frame.hex())
        if verdicts[0] == XDP_DROP:
            assert verdicts[1] == XDP_DROP, (verdicts, frame.hex())


@contextmanager
def opened(pins: list[Path]) -> Iterator[Packets]:
    """Open the programs at the pins that `install` returned."""
    plain, everything = (bpf.get(pin) for pin in pins)
    with plain, everything:
        yield Packets(plain, everything)


def expected(frame: bytes) -> int:
    """Return what the blacklist alone must say, by the reader of tests/frames.py."""
    read = f.read_frame(frame)
    if read.fate == "not-ip":
        return XDP_PASS
    return XDP_DROP if read.fate != "ip" or read.source in LISTED else XDP_PASS


def claimed_source(frame: bytes) -> f.Address | None:
    """Return the source that any receiver could read in the frame, however careless it is:
    all tags and PPPoE taken off, no length, version or checksum looked at."""
    at, ether_type = 14, int.from_bytes(frame[12:14], "big")
    while ether_type in TAGS or ether_type == 0x8864:
        if ether_type == 0x8864:
            inner = int.from_bytes(frame[at + 6 : at + 8], "big")
            at, ether_type = at + 8, {0x0021: 0x0800, 0x0057: 0x86DD}.get(inner, 0)
        else:
            at, ether_type = at + 4, int.from_bytes(frame[at + 2 : at + 4], "big")
    if ether_type == 0x0800 and len(frame) >= at + 20:
        return IPv4Address(frame[at + 12 : at + 16])
    if ether_type == 0x86DD and len(frame) >= at + 40:
        return IPv6Address(frame[at + 8 : at + 24])
    return None


# Recipes


class Numbers:
    """Numbers out of bytes, zero when they have run out."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1 (at most 65536)."""
        size = 1 if limit <= 256 else 2
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "big") % limit

    def rest(self) -> bytes:
        """Return what is left."""
        return self._data[self._at :]


def frame_of(data: bytes) -> bytes:
    """Return the frame that an input stands for."""
    if not data or data[0] >= 0x80:
        return data[1:]
    numbers = Numbers(data[1:])
    tags = [TAGS[numbers.below(2)] for _ in range(numbers.below(4))]
    in_pppoe = numbers.below(4) == 3
    cut, change = numbers.below(512), (numbers.below(512), numbers.below(256))
    packet = (_packet4 if data[0] % 2 else _packet6)(numbers)
    frame = (
        f.ethernet(f.pppoe(packet), 0x8864, tags) if in_pppoe else f.ethernet(packet, None, tags)
    )
    return _damaged(frame, cut, *change)


def _damaged(frame: bytes, cut: int, place: int, value: int) -> bytes:
    changed = bytearray(frame)
    if 12 <= place < len(frame):
        changed[place] = value
    return bytes(changed[:cut] if cut >= LEAST_BYTES else changed)


def _packet4(numbers: Numbers) -> bytes:
    source = (SOURCE4, OTHER4)[numbers.below(2)]
    protocol = PROTOCOLS[numbers.below(len(PROTOCOLS))]
    options = bytes([numbers.below(256)]) * (4 * numbers.below(11))
    fragment = numbers.below(65536)
    return f.ipv4(source, "198.51.100.1", protocol, numbers.rest(), options, fragment)


def _packet6(numbers: Numbers) -> bytes:
    source = (SOURCE6, OTHER6)[numbers.below(2)]
    protocol = PROTOCOLS[numbers.below(len(PROTOCOLS))]
    headers: list[tuple[int, int, int]] = []
    for _ in range(numbers.below(10)):
        kind = KINDS[numbers.below(len(KINDS))]
        headers.append((kind, numbers.below(256) % 32, numbers.below(65536)))
    content = numbers.rest()
    for kind, units, fragment in headers:
        content = f.extension(kind, protocol, units, fragment) + content
        protocol = kind
    return f.ipv6(source, "2001:db8:1::1", protocol, content)


@contextmanager
def pinned() -> Iterator[list[Path]]:
    """Load the programs onto a veth pair in a namespace of their own."""
    with (
        lab.namespaces("fz") as (made,),
        made.entered(),
        lab.bpf_folder() as place,
        applied(made, place / "fos1") as kernel,
    ):
        yield install(kernel)

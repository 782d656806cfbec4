"""Frames for tests, written and read independently of bpf/: this is the oracle, so it is naive."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

MACS = bytes.fromhex("020000000001020000000002")
TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
HOPOPTS, ROUTING, FRAGMENT, AH, DSTOPTS, MOBILITY, HIP, SHIM6 = 0, 43, 44, 51, 60, 135, 139, 140
EXTENSIONS = (HOPOPTS, ROUTING, FRAGMENT, AH, DSTOPTS, MOBILITY, HIP, SHIM6)
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def tcp(sport: int, dport: int, flags: int = SYN, payload: bytes = b"") -> bytes:
    """Return a TCP segment (checksum zero)."""
    return struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, flags, 1024, 0, 0) + payload


def udp(sport: int, dport: int, payload: bytes = b"") -> bytes:
    """Return a UDP datagram (checksum zero)."""
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def icmp(kind: int, identifier: int = 1, payload: bytes = b"") -> bytes:
    """Return an ICMP or ICMPv6 message with an identifier."""
    return struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + payload


def ipv4(
    source: str,
    dest: str,
    protocol: int,
    content: bytes,
    options: bytes = b"",
    fragment: int = 0,
    ttl: int = 64,
) -> bytes:
    """Return an IPv4 packet; `fragment` is the whole 16-bit field of flags and offset."""
    words = 5 + len(options) // 4
    head = struct.pack(
        "!BBHHHBBH",
        0x40 | words,
        0,
        words * 4 + len(content),
        7,
        fragment,
        ttl,
        protocol,
        0,
    )
    return head + ip_address(source).packed + ip_address(dest).packed + options + content


def ipv6(source: str, dest: str, next_header: int, content: bytes, hops: int = 64) -> bytes:
    """Return an IPv6 packet."""
    head = struct.pack("!IHBB", 6 << 28, len(content), next_header, hops)
    return head + ip_address(source).packed + ip_address(dest).packed + content


def extension(kind: int, next_header: int, units: int = 0, fragment: int = 0) -> bytes:
    """Return an extension header of the given length field."""
    if kind == FRAGMENT:
        return struct.pack("!BBHI", next_header, 0, fragment, 9)
    size = (units + 2) * 4 if kind == AH else (units + 1) * 8
    return bytes([next_header, units]).ljust(size, b"\0")


def ethernet(packet: bytes, ether_type: int | None = None, tags: Sequence[int] = ()) -> bytes:
    """Return a frame; `tags` are the ether types of VLAN tags, outermost first."""
    if ether_type is None:
        ether_type = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    types = [*tags, ether_type]
    frame = MACS + types[0].to_bytes(2, "big")
    for inner in types[1:]:
        frame += b"\0\x05" + inner.to_bytes(2, "big")
    return frame + packet


def pppoe(packet: bytes) -> bytes:
    """Return what follows ether type 0x8864."""
    protocol = 0x0057 if packet[0] >> 4 == 6 else 0x0021
    return struct.pack("!BBHHH", 0x11, 0, 1, len(packet) + 2, protocol) + packet


# Reading


@dataclass(frozen=True)
class Read:
    """What a naive reader makes of a frame. `fate`: ip, not-ip, malformed, tiny, deep."""

    fate: str
    source: Address | None = None
    protocol: int = -1
    later_fragment: bool = False
    rest: str = "ip"
    trail: list[str] = field(default_factory=list)


class CutOff(Exception):
    """The frame ends too early, or says something impossible."""


def _take(data: bytes, at: int, count: int) -> bytes:
    if at + count > len(data):
        raise CutOff
    return data[at : at + count]


def read_frame(frame: bytes, link_header_bytes: int = 14) -> Read:
    """Read a frame down to the transport header, header by header."""
    try:
        at, ether_type = _link(frame, link_header_bytes)
    except CutOff:
        return Read("malformed")
    if ether_type in (0x8100, 0x88A8):
        return Read("deep")
    if ether_type not in (0x0800, 0x86DD):
        return Read("not-ip")
    try:
        return _network4(frame, at) if ether_type == 0x0800 else _network6(frame, at)
    except CutOff:
        return Read("malformed")


def _link(frame: bytes, link_header_bytes: int) -> tuple[int, int]:
    if not link_header_bytes:
        return 0, 0x86DD if _take(frame, 0, 1)[0] >> 4 == 6 else 0x0800
    ether_type = int.from_bytes(_take(frame, 12, 2), "big")
    at = 14
    for _ in range(2):
        if ether_type in (0x8100, 0x88A8):
            ether_type = int.from_bytes(_take(frame, at + 2, 2), "big")
            at += 4
    if ether_type == 0x8864:
        inner = int.from_bytes(_take(frame, at, 8)[6:], "big")
        at += 8
        ether_type = {0x0021: 0x0800, 0x0057: 0x86DD}.get(inner, 0x8864)
    return at, ether_type


def _network4(frame: bytes, at: int) -> Read:
    head = _take(frame, at, 20)
    if head[0] >> 4 != 4 or head[0] & 15 < 5:
        raise CutOff
    _take(frame, at, (head[0] & 15) * 4)
    flags = int.from_bytes(head[6:8], "big")
    offset, more = flags & 0x1FFF, bool(flags & 0x2000)
    source, protocol = IPv4Address(head[12:16]), head[9]
    if offset == 1 and protocol == TCP:
        return Read("tiny")
    at += (head[0] & 15) * 4
    rest = _transport(frame, at, protocol, offset > 0, offset > 0 or more)
    return Read("ip", source, protocol, offset > 0, rest)


def _network6(frame: bytes, at: int) -> Read:
    head = _take(frame, at, 40)
    if head[0] >> 4 != 6:
        raise CutOff
    source, protocol = IPv6Address(head[8:24]), head[6]
    at += 40
    is_fragment = later = False
    try:
        for count in range(9):
            if protocol not in EXTENSIONS:
                break
            if count == 8:
                return Read("ip", source, protocol, later, "deep")
            kind, first = protocol, _take(frame, at, 2)
            size = {FRAGMENT: 8, AH: (first[1] + 2) * 4}.get(kind, (first[1] + 1) * 8)
            header = _take(frame, at, size)
            if kind == FRAGMENT:
                flags = int.from_bytes(header[2:4], "big")
                later, is_fragment = bool(flags & 0xFFF8), bool(flags & 0xFFF9)
            protocol = header[0]
            at += size
            if later:
                break
    except CutOff:
        return Read("ip", source, protocol, later, "malformed")
    rest = _transport(frame, at, protocol, later, is_fragment)
    return Read("ip", source, protocol, later, rest)


def _transport(frame: bytes, at: int, protocol: int, later: bool, is_fragment: bool) -> str:
    needed = {TCP: 20, UDP: 8, 136: 8, 33: 8, SCTP: 8, ICMP: 8, ICMPV6: 8}.get(protocol, 0)
    if later or at + needed <= len(frame):
        return "ip"
    return "tiny" if is_fragment else "malformed"


def truncations(frame: bytes, least: int = 14) -> Iterator[bytes]:
    """Yield the frame cut off at every length."""
    for length in range(least, len(frame) + 1):
        yield frame[:length]

"""Packets for tests of NAT, made and read naively and without looking at bpf/: every checksum is
computed anew, those of quoted packets too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

from tests import frames as f

CHECKSUM_AT = {f.TCP: 16, f.UDP: 6, f.ICMP: 2, f.ICMPV6: 2, 136: 6, 33: 6}


def rfc1071(data: bytes) -> int:
    """Return the Internet checksum."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transport_sum(source: bytes, dest: bytes, protocol: int, content: bytes) -> int:
    """Return the checksum over content and pseudo-header, if the protocol has one."""
    pseudo = source + dest + struct.pack("!II", len(content), protocol)
    return rfc1071((b"" if protocol == f.ICMP else pseudo) + content)


def packet(
    source: str,
    dest: str,
    protocol: int,
    content: bytes,
    fragment: int = 0,
    number: int = 7,
    whole: bytes | None = None,
    unsummed: bool = False,
) -> bytes:
    """Return a packet whose checksums are right.

    `fragment` is the field of flags and offset as IPv4 has it; then `whole` is what the first
    fragment's checksum covers.
    """
    ends = [ip_address(end).packed for end in (source, dest)]
    at = CHECKSUM_AT.get(protocol)
    if at is not None and not fragment & 0x1FFF and not unsummed:
        whole = whole or content
        right = transport_sum(ends[0], ends[1], protocol, whole[:at] + b"\0\0" + whole[at + 2 :])
        if protocol == f.UDP:
            right = right or 0xFFFF
        content = content[:at] + right.to_bytes(2, "big") + content[at + 2 :]
    if ip_address(source).version == 6:
        if fragment:
            flags = (fragment & 0x1FFF) << 3 | bool(fragment & 0x2000)
            content = struct.pack("!BBHI", protocol, 0, flags, number) + content
            protocol = f.FRAGMENT
        return f.ipv6(source, dest, protocol, content)
    made = f.ipv4(source, dest, protocol, content, fragment=fragment)
    made = made[:4] + number.to_bytes(2, "big") + made[6:]
    return made[:10] + rfc1071(made[:20]).to_bytes(2, "big") + made[12:]


def is_v6(address: str) -> bool:
    """Tell an IPv6 address."""
    return ":" in address


def udp(source: str, sport: int, dest: str, dport: int, payload: bytes = b"odd") -> bytes:
    """Return a datagram, of an odd length unless told."""
    return packet(source, dest, f.UDP, f.udp(sport, dport, payload))


def tcp(source: str, sport: int, dest: str, dport: int, flags: int = f.SYN) -> bytes:
    """Return a segment."""
    return packet(source, dest, f.TCP, f.tcp(sport, dport, flags, b"x"))


def ping(source: str, dest: str, number: int, is_answer: bool = False) -> bytes:
    """Return an echo request, or the answer."""
    if is_v6(source):
        return packet(source, dest, f.ICMPV6, f.icmp(129 if is_answer else 128, number, b"ab"))
    return packet(source, dest, f.ICMP, f.icmp(0 if is_answer else 8, number, b"ab"))


def error(source: str, dest: str, quoted: bytes, kept: int | None = None) -> bytes:
    """Return a destination unreachable that quotes so many bytes of a packet."""
    kind, protocol = (1, f.ICMPV6) if is_v6(source) else (3, f.ICMP)
    return packet(source, dest, protocol, f.icmp(kind, 0, quoted[:kept]))


@dataclass(frozen=True)
class Seen:
    """A packet as a receiver reads it. Of ICMP queries the identifier is both ports."""

    source: str
    sport: int
    dest: str
    dport: int
    protocol: int
    content: bytes = field(default=b"", compare=False, repr=False)
    quoted: Seen | None = None


def read(data: bytes, is_quoted: bool = False, check: bool = True) -> Seen:
    """Read a packet, and check every checksum that can be."""
    if data[0] >> 4 == 4:
        assert rfc1071(data[:20]) == 0
        ends, protocol = (data[12:16], data[16:20]), data[9]
        flags = int.from_bytes(data[6:8], "big")
        content = data[20:]
        size = int.from_bytes(data[2:4], "big") - 20
        is_later, is_part = bool(flags & 0x1FFF), bool(flags & 0x3FFF)
    else:
        ends, protocol, content = (data[8:24], data[24:40]), data[6], data[40:]
        size = int.from_bytes(data[4:6], "big")
        is_later = is_part = False
        if protocol == f.FRAGMENT:
            flags = int.from_bytes(content[2:4], "big")
            is_later, is_part = bool(flags & 0xFFF8), bool(flags & 0xFFF9)
            protocol, content = content[0], content[8:]
            size -= 8
    source, dest = (str(ip_address(end)) for end in ends)
    if is_later:
        return Seen(source, 0, dest, 0, protocol, content)
    at = CHECKSUM_AT.get(protocol)
    whole = len(content) >= size and not is_part
    if check and whole and at is not None and (protocol != f.UDP or content[6:8] != b"\0\0"):
        assert transport_sum(ends[0], ends[1], protocol, content[:size]) == 0
    sport, dport = struct.unpack("!HH", content[:4])
    quoted = None
    if protocol in (f.ICMP, f.ICMPV6):
        sport = dport = int.from_bytes(content[4:6], "big")
        if not is_quoted and content[0] in ((3, 11, 12) if protocol == f.ICMP else (1, 2, 3, 4)):
            quoted = read(content[8:], is_quoted=True)
    elif protocol not in (f.TCP, f.UDP):
        sport = dport = 0
    return Seen(source, sport, dest, dport, protocol, content, quoted)

"""A five-tuple as the bytes of an Ethernet frame, for programs to be run on."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from fos1d.model.packet import ICMP, ICMPS, ICMPV6, SCTP, TCP, UDP, Tuple

MACS = bytes.fromhex("020000000001020000000002")
ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
LEAST_BYTES = 60
HOPS = 64
SYN, ACK = 0x02, 0x10
ECHO_REQUEST = {ICMP: 8, ICMPV6: 128}
ECHO_REPLY = {8: 0, 0: 8, 128: 129, 129: 128}
SCTP_INIT, SCTP_DATA = 1, 0


def frame_of(ends: Tuple, opens: bool) -> bytes:
    """Return a frame that opens a connection between the ends, or belongs to one."""
    payload = _transport(ends, opens)
    network = _ipv6 if isinstance(ends.source, IPv6Address) else _ipv4
    whole = MACS + ETHERTYPE[ends.source.version] + network(ends, len(payload)) + payload
    return whole.ljust(LEAST_BYTES, b"\0")


def _transport(ends: Tuple, opens: bool) -> bytes:
    ports = struct.pack("!HH", ends.source_port, ends.dest_port)
    match ends.protocol:
        case protocol if protocol == TCP:
            flags = SYN if opens else ACK
            return ports + struct.pack("!IIBBHHH", 1, 0 if opens else 1, 5 << 4, flags, 1024, 0, 0)
        case protocol if protocol == UDP:
            return ports + struct.pack("!HH", 8, 0)
        case protocol if protocol == SCTP:
            chunk = SCTP_INIT if opens else SCTP_DATA
            return ports + struct.pack("!IIBBH", 0, 0, chunk, 0, 20) + bytes(16)
        case protocol if protocol in ICMPS:
            return struct.pack("!BBHHH", ends.type, ends.code, 0, 1, 1)
        case _:
            return bytes(8)


def _ipv4(ends: Tuple, payload_bytes: int) -> bytes:
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + payload_bytes, 1, 0, HOPS, ends.protocol)
    rest = ends.source.packed + ends.dest.packed
    return start + _checksum(start + b"\0\0" + rest) + rest


def _checksum(header: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _ipv6(ends: Tuple, payload_bytes: int) -> bytes:
    start = struct.pack("!IHBB", 6 << 28, payload_bytes, ends.protocol, HOPS)
    return start + ends.source.packed + ends.dest.packed


def answered(ends: Tuple) -> Tuple:
    """Return who would have asked what these ends answer."""
    return Tuple(
        ends.protocol,
        ends.dest,
        ends.source,
        ends.dest_port,
        ends.source_port,
        ECHO_REPLY.get(ends.type, ends.type) if ends.protocol in ICMPS else 0,
    )

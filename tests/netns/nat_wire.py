"""Packets as bytes: sent raw, seen on the wire, and judged by who knows nothing of NAT."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address

from tests import frames
from tests.lab import Namespace
from tests.netns.sockets import family_of

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
AUXDATA = struct.Struct("=IIIHHHH")
CHECKSUM_NOT_READY = 8
MOST_BYTES = 1 << 17
IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"
CHECKSUM_AT = {frames.TCP: 16, frames.UDP: 6, frames.ICMP: 2, frames.ICMPV6: 2}
ERRORS = {frames.ICMP: (3, 4, 5, 11, 12), frames.ICMPV6: (1, 2, 3, 4)}


def ones_sum(data: bytes) -> int:
    """Return the ones' complement sum of 16-bit words."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet. `is_partial`: its sender's card was to finish the transport checksum."""

    data: bytes
    is_partial: bool = False

    @property
    def version(self) -> int:
        return self.data[0] >> 4

    @property
    def head_bytes(self) -> int:
        """How long the network header is; IPv6 with a fragment header at most."""
        if self.version == 4:
            return (self.data[0] & 15) * 4
        return 48 if self.data[6] == frames.FRAGMENT else 40

    @property
    def protocol(self) -> int:
        if self.version == 4:
            return self.data[9]
        return self.data[40] if self.data[6] == frames.FRAGMENT else self.data[6]

    @property
    def source(self) -> str:
        at, size = (12, 4) if self.version == 4 else (8, 16)
        return str(ip_address(self.data[at : at + size]))

    @property
    def dest(self) -> str:
        at, size = (16, 4) if self.version == 4 else (24, 16)
        return str(ip_address(self.data[at : at + size]))

    @property
    def ttl(self) -> int:
        return self.data[8 if self.version == 4 else 7]

    @property
    def fragment(self) -> int:
        """Flags and offset as IPv4 has them: more fragments 0x2000, offset in units of eight."""
        if self.version == 4:
            return int.from_bytes(self.data[6:8], "big") & 0x3FFF
        if self.data[6] != frames.FRAGMENT:
            return 0
        field = int.from_bytes(self.data[42:44], "big")
        return field >> 3 | (field & 1) << 13

    @property
    def payload(self) -> bytes:
        """What follows the network header."""
        return self.data[self.head_bytes :]

    @property
    def ports(self) -> tuple[int, int]:
        """Source and destination port."""
        first, second = struct.unpack("!HH", self.payload[:4])
        return first, second

    @property
    def quoted(self) -> Packet | None:
        """The packet that an ICMP error quotes."""
        is_error = self.payload[:1] and self.payload[0] in ERRORS.get(self.protocol, ())
        return Packet(self.payload[8:]) if is_error else None


def parse(frame: bytes) -> Packet | None:
    """Return the IP packet of an Ethernet frame without its padding, None for others."""
    if frame[12:14] not in (IPV4, IPV6):
        return None
    data = frame[14:]
    total = int.from_bytes(data[2:4] if frame[12:14] == IPV4 else data[4:6], "big")
    # A super-packet beyond 64 KB says 0.
    return Packet(data[: total + (0 if frame[12:14] == IPV4 else 40)] if total else data)


def pseudo(packet: Packet, size: int) -> bytes:
    """Return the pseudo header of a packet's transport checksum."""
    if packet.protocol == frames.ICMP:
        return b""
    ends = ip_address(packet.source).packed + ip_address(packet.dest).packed
    return ends + struct.pack("!II", size, packet.protocol)


def finished(data: bytes) -> bytes:
    """Return the packet with its checksums made; a fragment's transport has none of its own."""
    packet = Packet(data)
    head, payload = data[: packet.head_bytes], packet.payload
    if packet.version == 4:
        head = head[:10] + b"\0\0" + head[12:]
        head = head[:10] + struct.pack("!H", ones_sum(head) ^ 0xFFFF) + head[12:]
    at = CHECKSUM_AT.get(packet.protocol)
    if at is not None and not packet.fragment and len(payload) >= at + 2:
        blank = payload[:at] + b"\0\0" + payload[at + 2 :]
        total = ones_sum(pseudo(packet, len(payload)) + blank) ^ 0xFFFF
        payload = blank[:at] + struct.pack("!H", total or 0xFFFF) + blank[at + 2 :]
    return head + payload


def faults(packet: Packet, is_quoted: bool = False) -> Iterator[str]:
    """Yield what is wrong with the checksums of a packet, and of what it quotes."""
    if packet.version == 4 and ones_sum(packet.data[: packet.head_bytes]) != 0xFFFF:
        yield "the header's checksum"
    at, payload = CHECKSUM_AT.get(packet.protocol), packet.payload
    if at is None or packet.fragment:
        return
    if is_quoted and _is_cut(packet):
        return
    field = int.from_bytes(payload[at : at + 2], "big")
    if packet.protocol == frames.UDP and field == 0:
        if packet.version == 6:
            yield "no checksum in UDP over IPv6"
        return
    over_ends = ones_sum(pseudo(packet, len(payload)))
    if packet.is_partial:
        if field not in (over_ends, over_ends ^ 0xFFFF):
            yield f"the partial checksum: {field:#x}, not {over_ends:#x}"
    elif ones_sum(pseudo(packet, len(payload)) + payload) != 0xFFFF:
        yield "the transport checksum"
    if packet.quoted is not None and not is_quoted:
        yield from (f"of the quoted packet {one}" for one in faults(packet.quoted, True))


def _is_cut(packet: Packet) -> bool:
    data = packet.data
    total = int.from_bytes(data[2:4], "big") if packet.version == 4 else 0
    if packet.version == 6:
        total = int.from_bytes(data[4:6], "big") + 40
    return len(data) < total


@dataclass(frozen=True, slots=True)
class Wire:
    """What arrives at an interface."""

    socket: socket.socket

    def packets(self, patience_s: float = 0.3) -> Iterator[Packet]:
        """Yield what has come and what comes until nothing has for a while."""
        self.socket.settimeout(patience_s)
        while True:
            try:
                frame, extra, _, _ = self.socket.recvmsg(MOST_BYTES, 256)
            except TimeoutError:
                return
            status = next(
                (AUXDATA.unpack(one[2])[0] for one in extra if one[:2] == (SOL_PACKET, 8)), 0
            )
            packet = parse(frame)
            if packet is not None:
                yield replace(packet, is_partial=bool(status & CHECKSUM_NOT_READY))

    def of(self, protocol: int, patience_s: float = 0.3) -> list[Packet]:
        """Return the packets of a protocol."""
        return [one for one in self.packets(patience_s) if one.protocol == protocol]

    def one(self, fits: Callable[[Packet], bool], patience_s: float = 1.5) -> Packet:
        """Return the first packet that fits, and forget those before it."""
        until = time.monotonic() + patience_s
        for packet in self.packets(patience_s):
            if fits(packet):
                return packet
            if time.monotonic() > until:
                break
        raise AssertionError("no such packet came")


@contextmanager
def wire(host: Namespace, interface: str = "eth0") -> Iterator[Wire]:
    """Listen to what arrives at an interface."""
    with host.entered():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with made:
        made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        made.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)
        made.bind((interface, ETH_P_ALL))
        yield Wire(made)


def inject(host: Namespace, *packets: bytes) -> None:
    """Send whole IP packets from a host as they are, checksums and fragments too."""
    dest = Packet(packets[0]).dest
    with host.entered():
        made = socket.socket(family_of(dest), socket.SOCK_RAW, socket.IPPROTO_RAW)
    with made:
        for packet in packets:
            made.sendto(packet, (Packet(packet).dest, 0))


def packet_of(
    source: str, dest: str, protocol: int, content: bytes, ttl: int = 64, fragment: int = 0
) -> bytes:
    """Return an IP packet of either family, with checksums."""
    if ":" not in dest:
        made = frames.ipv4(source, dest, protocol, content, ttl=ttl, fragment=fragment)
    else:
        made = frames.ipv6(source, dest, protocol, content, hops=ttl)
    return finished(made)

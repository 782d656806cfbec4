"""Frames made by hand, for programs to be checked with before they are attached."""

from __future__ import annotations

from fos1d.model.objects import CannedPacket

XDP_DROP, XDP_PASS = 1, 2
ETHERNET_BYTES = 14

_MACS = bytes.fromhex("020000000001020000000002")
ARP, IPV4, IPV6 = (n.to_bytes(2, "big") for n in (0x0806, 0x0800, 0x86DD))
SOMEBODY4 = bytes([192, 0, 2, 1])
SOMEBODY6 = bytes.fromhex("20010db8000000000000000000000001")
UDP = bytes.fromhex("c000003500080000")


def _frame(ether_type: bytes, content: bytes, link_header_bytes: int) -> bytes:
    header = _MACS + ether_type if link_header_bytes else b""
    return (header + content).ljust(60, b"\0")


def udp_from(source: int | tuple[int, int], link_header_bytes: int) -> bytes:
    """Return a UDP packet from an IPv4 source (an int) or an IPv6 one (upper and lower half)."""
    if isinstance(source, int):
        ipv4 = bytes.fromhex("4500001c000000004011") + b"\0\0"
        packet = ipv4 + source.to_bytes(4, "big") + SOMEBODY4 + UDP
        return _frame(IPV4, packet, link_header_bytes)
    halves = b"".join(half.to_bytes(8, "big") for half in source)
    packet = bytes.fromhex("6000000000081140") + halves + SOMEBODY6 + UDP
    return _frame(IPV6, packet, link_header_bytes)


def canned_packets(
    listed: list[int | tuple[int, int]], link_header_bytes: int, is_last: bool
) -> tuple[CannedPacket, ...]:
    """Return packets that any XDP filter must judge rightly.

    Before a successor, what passes goes on to a program that is not there yet: only drops are
    asked for.
    """
    drops = [
        CannedPacket("a listed source", udp_from(source, link_header_bytes), XDP_DROP)
        for source in listed
    ]
    broken = _frame(IPV4, b"\x41" + bytes(19), ETHERNET_BYTES)
    if link_header_bytes:
        drops.append(CannedPacket("a broken IPv4 header", broken, XDP_DROP))
    if link_header_bytes and is_last:
        arp = _frame(ARP, bytes(28), link_header_bytes)
        return (*drops, CannedPacket("an ARP request", arp, XDP_PASS))
    return tuple(drops)

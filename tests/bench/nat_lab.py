"""Endpoints that send through a translating router, and answers to each of them."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np
import numpy.typing as npt

from tests import frames
from tests.bench.legit import FAR_END
from tests.bench.networks import Random
from tests.bench.objects import loaded, write_elements
from tests.bench.wire import HOPS, MAC_BYTES, OUT, PAYLOAD, Gun, Lab, Router

ROW = np.dtype(
    [("address", ">u4"), ("ip_sum", ">u2"), ("port", ">u2"), ("udp_sum", ">u2"), ("pad", "u2")]
)
Sums = npt.NDArray[np.uint64]
INSIDE = int(IPv4Address("10.0.0.0"))
SO_RCVBUFFORCE, RECEIVE_BYTES = 33, 1 << 27
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
ETH_P_IP = 0x0800


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Who sends: addresses and ports side by side; and to where."""

    address: Sums
    port: Sums
    dest: str
    dest_port: int

    def __len__(self) -> int:
        return len(self.address)


def drawn(count: int, dest: str, dest_port: int, random: Random) -> Endpoints:
    """Return different endpoints of some hundred inside hosts, ports at random."""
    places = random.choice(256 * 60_000, count, replace=False).astype(np.uint64)
    port = places % np.uint64(60_000) + np.uint64(2000)
    return Endpoints(np.uint64(INSIDE + 2) + places // np.uint64(60_000), port, dest, dest_port)


def _folded(total: Sums) -> Sums:
    for _ in range(3):
        total = (total >> np.uint64(16)) + (total & np.uint64(0xFFFF))
    return np.uint64(0xFFFF) - total


def _halves(address: Sums) -> Sums:
    return (address >> np.uint64(16)) + (address & np.uint64(0xFFFF))


def frame_to(ends: Endpoints) -> bytes:
    """Return a frame whose source is filled in when it is sent."""
    content = frames.udp(0, ends.dest_port, PAYLOAD)
    packet = frames.ipv4("0.0.0.0", ends.dest, frames.UDP, content)
    return MAC_BYTES + frames.ethernet(packet)[6:]


def table_of(ends: Endpoints) -> bytes:
    """Return the endpoints as nat_wire.bpf.c reads them, with whole checksums."""
    head = np.frombuffer(frame_to(ends)[14:34], ">u2").astype(np.uint64)
    length = len(PAYLOAD) + 8
    dest = np.uint64(sum(struct.unpack("!HH", IPv4Address(ends.dest).packed)))
    udp = _halves(ends.address) + ends.port + dest
    rows = np.zeros(len(ends), ROW)
    rows["address"], rows["port"] = ends.address, ends.port
    rows["ip_sum"] = _folded(head.sum() + _halves(ends.address))
    rows["udp_sum"] = _folded(udp + np.uint64(ends.dest_port + 2 * length + frames.UDP))
    return rows.tobytes()


@contextmanager
def gun_of(lab: Lab, router: Router, ends: Endpoints) -> Iterator[Gun]:
    """Aim the endpoints at a router."""
    dest = IPv4Address(ends.dest).packed
    knobs = struct.pack(
        "=II4s2s6sB3x",
        len(ends),
        router.out_index,
        dest,
        ends.dest_port.to_bytes(2, "big"),
        MAC_BYTES,
        HOPS,
    )
    with loaded("nat_wire", knobs, {"endpoints": len(ends)}) as found:
        write_elements(found.map("endpoints"), table_of(ends))
        yield Gun(router, lab.sender, lab.meter, found, "send_nat", frame_to(ends))


def answer(router: Router, gun: Gun, count: int) -> set[bytes]:
    """Send each endpoint's packet through the router and turn it round beyond; return the sources
    that the host beyond has seen."""
    (link,) = json.loads(router.namespace.ip("-j", "link", "show", "dev", OUT))
    head = bytes.fromhex(link["address"].replace(":", "")) + MAC_BYTES + b"\x08\x00"
    seen: set[bytes] = set()
    with router.namespace.entered(), _listener() as far:
        gun.fire(count)
        while len(seen) < count:
            try:
                packet = far.recv(2048)[14:]
            except TimeoutError:
                break
            if packet[9] != frames.UDP:
                continue
            seen.add(packet[12:16] + packet[20:22])
            far.send(head + turned_round(packet))
    return seen


def turned_round(packet: bytes) -> bytes:
    """Return the packet that answers a UDP packet; its checksums stay right."""
    ends = packet[16:20] + packet[12:16] + packet[22:24] + packet[20:22]
    return packet[:12] + ends + packet[24:]


@contextmanager
def _listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as far:
        far.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
        far.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        far.bind((FAR_END, ETH_P_IP))
        far.settimeout(1)
        yield far

"""Address translation, packet by packet: ends, flows, filtering, checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fos1d import abi
from fos1d.kernel.port import RealKernel
from fos1d.kinds.program_lower import map_of_shape
from fos1d.model.objects import BuiltIn, Entries, Hook, KernelObject, Map, Program, key_of
from fos1d.model.pins import program_family, state_family
from fos1d.plan.actions import Plan
from tests import frames as f
from tests.contract import reconcile_once
from tests.kernel.policy_rig import TC_NEXT, TC_SHOT, Runner, checksum

pytestmark = pytest.mark.kernel

INSIDE, SECOND, FAR, OTHER, OUTSIDE = (
    "10.0.0.7",
    "10.0.0.8",
    "192.0.2.9",
    "192.0.2.10",
    "203.0.113.1",
)
OBJECT, INTERFACE, POLICY = "tc_nat4", 1, 77
FORWARDED_FROM = 36
CHECKSUM_AT = {f.TCP: 16, f.UDP: 6, f.ICMP: 2}


def record(kind: abi.Record, **fields: Any) -> bytes:
    """Return a record of the ABI, other fields zero."""
    made = np.zeros((), np.dtype(kind))
    for name, value in fields.items():
        made[name] = value
    return made.tobytes()


def summed(source: str, dest: str, protocol: int, content: bytes) -> int:
    """Return the checksum over the transport header, content and pseudo-header, if any."""
    pseudo = ip_address(source).packed + ip_address(dest).packed
    pseudo += struct.pack("!HH", protocol, len(content))
    return checksum((b"" if protocol == f.ICMP else pseudo) + content + b"\0" * (len(content) % 2))


def frame(source: str, dest: str, protocol: int, content: bytes) -> bytes:
    """Return a frame whose checksums are right."""
    at = CHECKSUM_AT[protocol]
    right = summed(source, dest, protocol, content).to_bytes(2, "big")
    packet = f.ipv4(source, dest, protocol, content[:at] + right + content[at + 2 :])
    return f.ethernet(packet[:10] + checksum(packet[:20]).to_bytes(2, "big") + packet[12:])


def udp(source: str, sport: int, dest: str, dport: int) -> bytes:
    """Return a datagram of an odd length."""
    return frame(source, dest, f.UDP, f.udp(sport, dport, b"odd"))


class Nat:
    """The programs of one outside interface under one policy."""

    def __init__(self, kernel: RealKernel, **policy: int) -> None:
        shapes = abi.MAPS[OBJECT]
        self.maps = {n: map_of_shape(state_family("_nat", n), n, s) for n, s in shapes.items()}
        values = {"udp_s": 300, "tcp_established_s": 7440, "tcp_transitory_s": 240, "icmp_s": 60}
        external = [int(ip_address(OUTSIDE)), 0, 0, 0]
        rule = record(abi.NAT_POLICY, external=external, interface=INTERFACE, **values, **policy)
        source = record(
            abi.NAT_SOURCE4,
            prefix_bits=40,
            interface=INTERFACE,
            address=int(ip_address("10.0.0.0")),
        )
        number = POLICY.to_bytes(4, "little")
        programs = {way: self._program(way) for way in ("in", "out")}
        wanted: list[KernelObject] = [
            *self.maps.values(),
            self._entries("nat_policies", number + rule),
            self._entries("nat_sources4", source + number),
            *programs.values(),
        ]
        assert reconcile_once(kernel, {key_of(obj): obj for obj in wanted}) == Plan()
        self.runners = {w: Runner(kernel.bpffs.open(p.path)) for w, p in programs.items()}
        struct.pack_into("=I", self.runners["out"].context, FORWARDED_FROM, 2)

    def _entries(self, name: str, packed: bytes) -> Entries:
        found: Map = self.maps[name]
        return Entries(found.path, found.key_bytes, found.value_bytes, packed, exclusive=True)

    def _program(self, way: str) -> Program:
        bound = tuple(sorted((name, found.path) for name, found in self.maps.items()))
        return Program(
            program_family("_nat"),
            f"{way}0",
            frozenset(path for _, path in bound),
            Hook.TC_INGRESS if way == "in" else Hook.TC_EGRESS,
            BuiltIn(OBJECT, f"fos1_tc_nat4_{way}"),
            (("link_header_bytes", 14), ("nat_generation", 1)),
            bound,
        )

    def out(self, sent: bytes) -> tuple[str, int]:
        """Send a packet out; return the source that it then has. Its checksums must be right."""
        return self._run("out", sent, 26, 34)

    def come(self, sent: bytes) -> tuple[str, int]:
        """Let a packet come in; return the destination that it then has."""
        return self._run("in", sent, 30, 36)

    def _run(self, way: str, sent: bytes, address_at: int, port_at: int) -> tuple[str, int]:
        ran = self.runners[way].run(sent, INTERFACE)
        if ran.verdict == TC_SHOT:
            return "dropped", 0
        assert ran.verdict == TC_NEXT
        got, protocol = ran.frame, ran.frame[23]
        source, dest = (str(ip_address(got[at : at + 4])) for at in (26, 30))
        assert checksum(got[14:34]) == 0
        assert summed(source, dest, protocol, got[34:]) == 0
        port_at = 38 if protocol == f.ICMP else port_at
        found = str(ip_address(got[address_at : address_at + 4]))
        return found, int.from_bytes(got[port_at : port_at + 2], "big")


@pytest.fixture
def kernel(bpffs: Path) -> Iterator[RealKernel]:
    """The kernel, on a folder of its own."""
    made = RealKernel(bpffs)
    yield made
    made.close()


def test_a_port_is_kept_and_the_answer_comes_back(kernel: RealKernel) -> None:
    nat = Nat(kernel)
    for _ in range(3):
        assert nat.out(udp(INSIDE, 5001, FAR, 53)) == (OUTSIDE, 5001)
        assert nat.come(udp(FAR, 53, OUTSIDE, 5001)) == (INSIDE, 5001)


def test_two_hosts_with_one_port_get_two_of_one_parity(kernel: RealKernel) -> None:
    nat = Nat(kernel)
    assert nat.out(udp(INSIDE, 5001, FAR, 53)) == (OUTSIDE, 5001)
    address, port = nat.out(udp(SECOND, 5001, FAR, 53))
    assert address == OUTSIDE
    assert port != 5001
    assert port % 2 == 1
    assert port >= 1024
    assert nat.come(udp(FAR, 53, OUTSIDE, port)) == (SECOND, 5001)


def test_the_mapping_does_not_depend_on_the_far_end(kernel: RealKernel) -> None:
    nat = Nat(kernel)
    nat.out(udp(INSIDE, 5001, FAR, 53))
    first = nat.out(udp(SECOND, 5001, FAR, 53))
    assert nat.out(udp(SECOND, 5001, OTHER, 99)) == first


@pytest.mark.parametrize("filtering", [0, 2])
def test_filtering(kernel: RealKernel, filtering: int) -> None:
    nat = Nat(kernel, filtering=filtering)
    nat.out(udp(INSIDE, 5001, FAR, 53))
    expected = (INSIDE, 5001) if filtering else ("dropped", 0)
    assert nat.come(udp(OTHER, 53, OUTSIDE, 5001)) == expected


def test_a_ping_has_its_identifier_for_a_port(kernel: RealKernel) -> None:
    nat = Nat(kernel)
    assert nat.out(frame(INSIDE, FAR, f.ICMP, f.icmp(8, 600))) == (OUTSIDE, 600)
    _, other = nat.out(frame(SECOND, FAR, f.ICMP, f.icmp(8, 600)))
    assert nat.come(frame(FAR, OUTSIDE, f.ICMP, f.icmp(0, other))) == (SECOND, 600)
    assert nat.come(frame(FAR, OUTSIDE, f.ICMP, f.icmp(8, 600))) == (OUTSIDE, 600)


def test_tcp_and_a_range_that_is_exhausted(kernel: RealKernel) -> None:
    nat = Nat(kernel, first_port=7000, last_port=7001)
    seen = {nat.out(frame(INSIDE, FAR, f.TCP, f.tcp(p, 80)))[1] for p in (7000, 7001)}
    assert seen == {7000, 7001}
    assert nat.out(frame(SECOND, FAR, f.TCP, f.tcp(7000, 80))) == ("dropped", 0)
    assert nat.out(frame(INSIDE, FAR, f.TCP, f.tcp(7001, 80, f.ACK))) == (OUTSIDE, 7001)


def test_what_begins_nothing_and_what_is_not_translated(kernel: RealKernel) -> None:
    nat = Nat(kernel)
    assert nat.out(frame(INSIDE, FAR, f.TCP, f.tcp(9, 80, f.RST))) == ("dropped", 0)
    assert nat.out(udp("172.16.0.1", 5, FAR, 53)) == ("172.16.0.1", 5)
    assert nat.come(udp(FAR, 53, OUTSIDE, 9)) == (OUTSIDE, 9)

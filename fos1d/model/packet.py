"""Packets as people name them: ends, protocol, what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from fos1d.abi import Reason

Address: TypeAlias = IPv4Address | IPv6Address

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmp": ICMP, "icmpv6": ICMPV6}
NAMES = {number: name for name, number in PROTOCOLS.items()}
WITH_PORTS = frozenset({TCP, UDP, SCTP})
ICMPS = frozenset({ICMP, ICMPV6})


@dataclass(frozen=True, slots=True)
class Tuple:
    """Who talks to whom. Ports are 0 where the protocol has none; `type` and `code` are ICMP's."""

    protocol: int
    source: Address
    dest: Address
    source_port: int = 0
    dest_port: int = 0
    type: int = 0
    code: int = 0

    @property
    def protocol_name(self) -> str:
        """The protocol's name, its number if it has none here."""
        return NAMES.get(self.protocol, str(self.protocol))

    def __str__(self) -> str:
        ends = f"{_end(self.source, self.source_port)} -> {_end(self.dest, self.dest_port)}"
        kind = f" type {self.type} code {self.code}" if self.protocol in ICMPS else ""
        return f"{self.protocol_name} {ends}{kind}"


def _end(address: Address, port: int) -> str:
    if not port:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class LoggedPacket:
    """A packet that a rule with action log saw.

    `counter` tells the rule, `kind` and `place` the interface or workload, `reason` what became of
    the packet there. `time_ns` is since boot.
    """

    time_ns: int
    counter: int
    kind: int
    place: int
    chain: int
    reason: Reason
    tuple: Tuple
    bytes: int
    tcp_flags: int = 0

"""Ports of the router that no manifest may block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Which way a connection is opened, seen from the router."""

    IN = "in"
    OUT = "out"


class Transport(StrEnum):
    """A protocol that has ports."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class FailsafePort:
    """A port that no manifest may block: `in:tcp:22` is the router's own, `out:udp:123` one that
    the router asks."""

    direction: Direction
    protocol: Transport
    port: int


def own_tcp_ports(ports: Iterable[FailsafePort]) -> tuple[int, ...]:
    """Return the TCP ports among them on which the router is asked."""
    asked = (Direction.IN, Transport.TCP)
    return tuple(port.port for port in ports if (port.direction, port.protocol) == asked)

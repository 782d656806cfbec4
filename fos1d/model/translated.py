"""Sessions and bindings of address translation, and how some of them are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class End:
    """An address and a port, 0 where the protocol has none."""

    address: Address
    port: int = 0

    def __str__(self) -> str:
        if not self.port:
            return str(self.address)
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{shown}:{self.port}"


@dataclass(frozen=True, slots=True)
class Session:
    """A translated flow. `policy` is the number of its policy; `declared`: by a declared port."""

    policy: int
    protocol: int
    inside: End
    outside: End
    far: End
    state: str
    declared: bool
    hairpin: bool
    ends_in_s: int


@dataclass(frozen=True, slots=True)
class Binding:
    """An inside end and the outside end that all its flows have. `own`: the router's socket."""

    policy: int
    protocol: int
    inside: End
    outside: End
    own: bool
    ends_in_s: int


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends in a network, at a port; 0 any."""

    network: Network | None = None
    port: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Which sessions and bindings are meant: all that meet every condition. `policies` are their
    numbers, None for all."""

    policies: frozenset[int] | None = None
    protocol: int | None = None
    inside: Ends = field(default_factory=Ends)
    outside: Ends = field(default_factory=Ends)
    far: Ends = field(default_factory=Ends)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The first of the chosen ones, and how many there are in all."""

    sessions: tuple[Session, ...] = ()
    bindings: tuple[Binding, ...] = ()
    session_count: int = 0
    binding_count: int = 0


@dataclass(frozen=True, slots=True)
class NatUse:
    """What a policy at an interface uses: living flows, and its ports by protocol."""

    flows: int = 0
    ports: Mapping[int, int] = field(default_factory=dict)

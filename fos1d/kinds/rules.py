"""Parts of rules that EBPFNetworkPolicy and EBPFContainerPolicy share: peers, ports, limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fos1d.kinds.addresses import covers
from fos1d.kinds.fields import (
    BitsPerSecond,
    Cidr,
    Listed,
    Maybe,
    Port,
    ServicePort,
    SizeBytes,
)
from fos1d.kinds.meta import Fault, LabelSelector, Model
from fos1d.quantity import PortRange

Protocol: TypeAlias = Literal["TCP", "UDP", "SCTP", "ICMP", "ICMPv6"]

FULL_PACKET_BYTES = 1514
WITHOUT_PORTS = frozenset({"ICMP", "ICMPv6"})


class IpBlock(Model):
    """A network, less some networks within it."""

    cidr: Cidr = Field(description="A network in CIDR notation, IPv4 or IPv6.")
    except_: Listed[Cidr] = Field(
        (), alias="except", description="Networks within it to leave out."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        for index, inner in enumerate(self.except_):
            if not covers(self.cidr, inner):
                yield Fault(("except", index), f"{inner} is not within {self.cidr}")
            elif inner == self.cidr:
                yield Fault(("except", index), f"{inner} leaves nothing of the block")


class Peer(Model):
    """The other end of the traffic."""

    ip_block: Maybe[IpBlock] = Field(None, description="Addresses.")
    pod_selector: Maybe[LabelSelector] = Field(None, description="Local workloads by label.")
    namespace_selector: Maybe[LabelSelector] = Field(
        None, description="Local workloads by the labels of their name space."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if not self.model_fields_set:
            yield Fault((), "names no peer; give ipBlock, podSelector or namespaceSelector")
        if self.ip_block and (self.pod_selector or self.namespace_selector):
            yield Fault(("ipBlock",), "cannot stand beside a selector; make it a peer of its own")


class PortRule(Model):
    """A protocol, and the destination ports of it."""

    protocol: Protocol = Field("TCP", description="The protocol.")
    port: Maybe[ServicePort] = Field(
        None, description="Destination port, 1 to 65535 or a service name; by default any."
    )
    end_port: Maybe[Port] = Field(None, description="Last port of a range that begins at port.")
    icmp_type: Maybe[Annotated[int, Field(ge=0, le=255)]] = Field(
        None, description="ICMP and ICMPv6: the message type; by default any."
    )

    @property
    def ports(self) -> PortRange | None:
        """The destination ports, or None for any."""
        return PortRange(self.port, self.end_port or self.port) if self.port else None

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.protocol in WITHOUT_PORTS:
            for field, given in (("port", self.port), ("endPort", self.end_port)):
                if given is not None:
                    message = f"does not belong to {self.protocol}, which has no ports"
                    yield Fault((field,), f"{message}; use icmpType")
            return
        if self.icmp_type is not None:
            yield Fault(("icmpType",), f"does not belong to {self.protocol}, only to ICMP, ICMPv6")
        if self.end_port is not None and self.port is None:
            yield Fault(("endPort",), "needs port, the first of the range")
        elif self.end_port is not None and self.port is not None and self.end_port < self.port:
            yield Fault(("endPort",), f"{self.end_port} is below port {self.port}; exchange them")


class RateLimit(Model):
    """A limit on bits per second: what exceeds it is dropped and counted."""

    bits_per_second: BitsPerSecond = Field(description="Bits per second, or a rate such as 1Mbit.")
    burst_size: Maybe[SizeBytes] = Field(
        None, description="Bytes that may come at once, or a size such as 32kb."
    )


def small_burst(burst_bytes: int | None) -> str | None:
    """Say so where a burst lets no full packet pass."""
    if burst_bytes is None or burst_bytes >= FULL_PACKET_BYTES:
        return None
    return (
        f"{burst_bytes} bytes are less than one full packet ({FULL_PACKET_BYTES}), which will"
        " never pass"
    )


def unreachable(rules: Iterable[tuple[bool, bool]]) -> tuple[int, int] | None:
    """Return the first rule that is never reached, and the rule that decides before it.

    A rule is given as: whether it matches everything, whether it decides.
    """
    order = list(rules)
    last = next((index for index, rule in enumerate(order) if all(rule)), len(order))
    return (last + 1, last) if last + 1 < len(order) else None

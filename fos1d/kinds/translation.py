"""Address translation, as EBPFNATPolicy and a network policy's `nat` declare it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv6Network
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fos1d.kinds.addresses import Address, is_host, same_family
from fos1d.kinds.fields import (
    AtLeastOne,
    Cidr,
    Count,
    HostAddress,
    HostOrCidr,
    Interface,
    Listed,
    Maybe,
    Port,
    Ports,
    TimeNs,
)
from fos1d.kinds.meta import DESCRIPTION, Fault, Model
from fos1d.quantity import PortRange, duration_text

NatType: TypeAlias = Literal["snat", "dnat", "masquerade", "full", "nat64", "npt66"]

S_NS = 10**9
LEAST_NS: Mapping[str, tuple[int, str]] = {
    "udp": (120 * S_NS, "RFC 4787"),
    "tcpEstablished": (7440 * S_NS, "RFC 5382"),
    "tcpTransitory": (240 * S_NS, "RFC 5382"),
    "icmp": (60 * S_NS, "RFC 5508"),
}
FROM_SOURCES = frozenset({"snat", "masquerade", "full", "nat64", "npt66"})
MANY_TO_ONE = frozenset({"snat", "masquerade", "nat64"})
BELONGS_TO: Mapping[str, frozenset[str]] = {
    "sourceAddresses": FROM_SOURCES,
    "excludeAddresses": FROM_SOURCES,
    "portMappings": frozenset({"dnat", "full"}),
    "mapping": MANY_TO_ONE | {"full"},
    "filtering": MANY_TO_ONE | {"full"},
    "portRange": MANY_TO_ONE,
    "prefix64": frozenset({"nat64"}),
}
NEEDS_EXTERNAL = frozenset({"snat", "dnat", "full", "npt66"})
NEEDS_TRACKING = ("mapping", "filtering", "timeouts", "portRange", "maxConnections")
RFC6052_LENGTHS = (32, 40, 48, 56, 64, 96)


class Backend(Model):
    """One of several servers that share an external port."""

    internal_ip: HostAddress = Field(description="The server's address.")
    internal_port: Maybe[Port] = Field(
        None, description="The server's port; by default the external one."
    )
    weight: Annotated[int, Field(ge=0, le=1000)] = Field(
        1,
        description="The server's share of new connections, relative to the others; 0 drains it:"
        " its connections stay, new ones go to others.",
    )


class PortMapping(Model):
    """An external port, and where its packets go."""

    description: str = Field("", description=DESCRIPTION)
    protocol: Literal["tcp", "udp"] = Field(description="The protocol.")
    external_port: Ports = Field(
        description='The port at the external address, or a range such as "8000-8099".'
    )
    internal_ip: Maybe[HostAddress] = Field(None, description="The server's address.")
    internal_port: Maybe[Ports] = Field(
        None,
        description="The server's port, the first one for a range; by default the external one.",
    )
    backends: Maybe[AtLeastOne[Backend]] = Field(
        None, description="Several servers in place of internalIP; connections are spread."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.internal_ip is None and self.backends is None:
            yield Fault(("internalIP",), "is required; or give backends, to spread connections")
        if self.backends is not None:
            for field, given in (
                ("internalIP", self.internal_ip),
                ("internalPort", self.internal_port),
            ):
                if given is not None:
                    yield Fault((field,), "excludes backends, each of which has its own")
        if self.internal_port is not None:
            yield from self._fits(("internalPort",), self.internal_port)
        for index, backend in enumerate(self.backends or ()):
            if backend.internal_port is not None:
                ports = PortRange(backend.internal_port, backend.internal_port)
                yield from self._fits(("backends", index, "internalPort"), ports)
        yield from self._repeated()

    def _repeated(self) -> Iterator[Fault]:
        first: dict[tuple[Address, int | None], int] = {}
        for index, backend in enumerate(self.backends or ()):
            earlier = first.setdefault((backend.internal_ip, backend.internal_port), index)
            if earlier != index:
                yield Fault(("backends", index), f"is backends[{earlier}] again; use weight")

    def _fits(self, loc: tuple[str | int, ...], ports: PortRange) -> Iterator[Fault]:
        count = self.external_port.count
        last = ports.first + count - 1
        if ports.count not in (1, count):
            yield Fault(loc, f"{ports} has {ports.count} ports, externalPort has {count}")
        elif last > 65535:
            yield Fault(loc, f"{ports.first} and {count - 1} more ports run past 65535")

    def ends(self) -> Iterator[tuple[Address, int]]:
        """Yield the address and port of the one server, for each external port in turn."""
        first = (self.internal_port or self.external_port).first
        for offset in range(self.external_port.count if self.internal_ip is not None else 0):
            assert self.internal_ip is not None
            yield self.internal_ip, first + offset

    def servers(self) -> Iterator[tuple[tuple[str | int, ...], Address]]:
        """Yield the address of each server, with its place."""
        if self.internal_ip is not None:
            yield ("internalIP",), self.internal_ip
        for index, backend in enumerate(self.backends or ()):
            yield ("backends", index, "internalIP"), backend.internal_ip


class Timeouts(Model):
    """How long a binding outlives its last packet."""

    udp: TimeNs = Field(300 * S_NS, description="UDP.")
    tcp_established: TimeNs = Field(7440 * S_NS, description="TCP, established.")
    tcp_transitory: TimeNs = Field(240 * S_NS, description="TCP, opening or closing.")
    icmp: TimeNs = Field(60 * S_NS, description="ICMP queries.")

    def remarks(self) -> Iterator[Fault]:
        """Yield the times that are shorter than the RFCs allow."""
        given = {
            "udp": self.udp,
            "tcpEstablished": self.tcp_established,
            "tcpTransitory": self.tcp_transitory,
            "icmp": self.icmp,
        }
        for field, time_ns in given.items():
            least_ns, rfc = LEAST_NS[field]
            if time_ns < least_ns:
                message = f"{duration_text(time_ns)} is less than {rfc} asks for"
                yield Fault((field,), f"{message}, {duration_text(least_ns)}")


class Translation(Model):
    """What is translated into what.

    The base of an EBPFNATPolicy's spec, so that a network policy can have the same in place.
    """

    type: NatType = Field(
        description="`snat` and `masquerade` translate sources, `dnat` destinations; `full` is both"
        " for one external and one internal address."
    )
    interface: Maybe[Interface] = Field(None, description="The outside interface.")
    external_ip: Maybe[HostAddress] = Field(
        None,
        description="The outside address; required for snat, dnat, full and npt66. masquerade takes"
        " the interface's.",
    )
    source_addresses: Listed[HostOrCidr] = Field(
        (),
        description="snat, masquerade: which sources are translated; by default any that is not"
        " local to the router.",
    )
    exclude_addresses: Listed[HostOrCidr] = Field(
        (), description="Sources that are not translated."
    )
    port_mappings: Listed[PortMapping] = Field(
        (), description="dnat, full: which external ports go where."
    )
    enable_tracking: bool = Field(
        True, description="false: rewrite statelessly, one address to one address."
    )
    mapping: Literal["endpoint-independent"] = Field(
        "endpoint-independent", description="Which packets share a binding (RFC 4787)."
    )
    filtering: Literal["endpoint-independent", "address", "address-and-port"] = Field(
        "address-and-port", description="Who may answer to a binding (RFC 4787)."
    )
    hairpin: bool = Field(
        True, description="Let inside hosts reach each other by the external address."
    )
    timeouts: Timeouts = Field(Timeouts(), description="How long idle bindings live.")
    port_range: Maybe[Ports] = Field(None, description="External ports to choose from.")
    max_connections: Maybe[Count] = Field(None, description="The most bindings at one time.")
    prefix64: Cidr = Field(
        IPv6Network("64:ff9b::/96"), description="nat64: the prefix of translated addresses."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        yield from self._fields_of_type()
        yield from self._external()
        yield from self._families()
        yield from self._overlaps()
        yield from self._tracking()
        match self.type:
            case "full":
                yield from self._one_internal()
            case "nat64":
                yield from self._nat64()
            case "npt66":
                yield from self._npt66()
            case "snat" | "dnat" | "masquerade":
                pass

    def _fields_of_type(self) -> Iterator[Fault]:
        for field in self.written():
            types = BELONGS_TO.get(field)
            if types is not None and self.type not in types:
                only = ", ".join(sorted(types))
                yield Fault((field,), f"does not belong to type {self.type}, only to {only}")
        if self.type == "dnat" and not self.port_mappings:
            yield Fault(("portMappings",), "is required for type dnat; for every port use full")

    def _external(self) -> Iterator[Fault]:
        address = self.external_ip
        if address is None:
            if self.type in NEEDS_EXTERNAL:
                yield Fault(("externalIP",), f"is required for type {self.type}")
        elif self.type == "masquerade":
            message = "does not belong to type masquerade, which takes the interface's address"
            yield Fault(("externalIP",), f"{message}; use snat")
        elif address.is_unspecified or address.is_multicast or address.is_loopback:
            yield Fault(("externalIP",), f"{address} is no address of an interface")

    def _families(self) -> Iterator[Fault]:
        if self.type == "nat64" or self.external_ip is None:
            return
        outside = self.external_ip
        for field in ("sourceAddresses", "excludeAddresses"):
            inside = self.source_addresses if field[0] == "s" else self.exclude_addresses
            for index, network in enumerate(inside):
                if not same_family(outside, network):
                    message = f"{network} is IPv{network.version}, externalIP IPv{outside.version}"
                    yield Fault((field, index), message)
        for index, mapping in enumerate(self.port_mappings):
            for loc, server in mapping.servers():
                yield from self._server(("portMappings", index, *loc), server, outside)

    def _server(
        self, loc: tuple[str | int, ...], server: Address, outside: Address
    ) -> Iterator[Fault]:
        if not same_family(outside, server):
            yield Fault(loc, f"{server} is IPv{server.version}, externalIP IPv{outside.version}")
        elif server == outside:
            yield Fault(loc, f"{server} is the external address itself")

    def _overlaps(self) -> Iterator[Fault]:
        reach: dict[str, tuple[int, int]] = {}
        order = sorted(enumerate(self.port_mappings), key=lambda item: item[1].external_port.first)
        for index, mapping in order:
            ports = mapping.external_port
            last, holder = reach.get(mapping.protocol, (0, index))
            if ports.first <= last:
                earlier, later = sorted((index, holder))
                message = f"{mapping.protocol} {self.port_mappings[later].external_port}"
                yield Fault(
                    ("portMappings", later, "externalPort"),
                    f"{message} is in portMappings[{earlier}] already",
                )
            reach[mapping.protocol] = max((last, holder), (ports.last, index))

    def _tracking(self) -> Iterator[Fault]:
        if self.enable_tracking:
            return
        if self.type in ("masquerade", "nat64"):
            yield Fault(("enableTracking",), f"type {self.type} cannot do without tracking")
        hosts = [network for network in self.source_addresses if is_host(network)]
        if self.type == "snat" and (len(hosts) != 1 or len(self.source_addresses) != 1):
            message = "needs exactly one address: without tracking, snat is one to one"
            yield Fault(("sourceAddresses",), message)
        for field in NEEDS_TRACKING:
            if field in self.written():
                yield Fault((field,), "needs tracking, which enableTracking turns off")
        yield from self._one_to_one()

    def _one_to_one(self) -> Iterator[Fault]:
        """Yield the ports whose answers could not be told apart without tracking."""
        taken: dict[tuple[str, Address, int], int] = {}
        for index, mapping in enumerate(self.port_mappings):
            if mapping.backends is not None:
                message = "needs tracking, which enableTracking turns off"
                yield Fault(("portMappings", index, "backends"), message)
            for port in mapping.ends():
                earlier = taken.setdefault((mapping.protocol, *port), index)
                if earlier != index:
                    where = f"portMappings[{earlier}]"
                    message = f"without tracking, {port[0]} port {port[1]} can have one only"
                    yield Fault(("portMappings", index), f"{message}, which {where} gives it")
                    break

    def _one_internal(self) -> Iterator[Fault]:
        servers = {server for mapping in self.port_mappings for _, server in mapping.servers()}
        hosts = {network.network_address for network in self.source_addresses}
        wide = [index for index, net in enumerate(self.source_addresses) if not is_host(net)]
        for index in wide:
            message = f"{self.source_addresses[index]} is no single address; full translates one"
            yield Fault(("sourceAddresses", index), message)
        if not wide and len(servers | hosts) != 1:
            found = ", ".join(sorted(map(str, servers | hosts))[:3]) or "none"
            message = "full needs one internal address, here or as internalIP of portMappings"
            yield Fault(("sourceAddresses",), f"{message}; found: {found}")

    def _nat64(self) -> Iterator[Fault]:
        prefix = self.prefix64
        if prefix.version != 6 or prefix.prefixlen not in RFC6052_LENGTHS:
            lengths = ", ".join(f"/{length}" for length in RFC6052_LENGTHS)
            yield Fault(("prefix64",), f"{prefix} is no IPv6 prefix of {lengths} (RFC 6052)")
        elif int(prefix.network_address) >> 56 & 0xFF:
            yield Fault(("prefix64",), f"{prefix} has bits 64 to 71 set (RFC 6052)")
        if self.external_ip is not None and self.external_ip.version != 4:
            yield Fault(("externalIP",), "nat64 translates to IPv4; give an IPv4 address")
        for index, network in enumerate(self.source_addresses):
            if network.version != 6:
                yield Fault(("sourceAddresses", index), "nat64 translates IPv6 sources")

    def _npt66(self) -> Iterator[Fault]:
        sources = self.source_addresses
        if len(sources) != 1 or sources[0].version != 6:
            yield Fault(("sourceAddresses",), "npt66 translates one IPv6 prefix; give exactly one")
        elif sources[0].prefixlen > 64:
            yield Fault(("sourceAddresses", 0), "npt66 translates a prefix of at most /64")
        elif self.external_ip is not None and self.external_ip.version == 6:
            beyond = int(self.external_ip) & int(sources[0].hostmask)
            if beyond:
                message = f"has bits set beyond /{sources[0].prefixlen}, the length of the prefix"
                yield Fault(("externalIP",), message)

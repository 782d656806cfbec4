"""Settings of an EBPFProgram: what a built-in program does, and which type takes which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, TypeAlias

from pydantic import Field

from fos1d.kinds.fields import Count, File, Listed, ListedSource, Mark, Maybe, Name
from fos1d.kinds.meta import Fault, Model, off_by_default

PacketRate: TypeAlias = Annotated[int, Field(ge=1, le=10**9)]

TC = frozenset({"tc-ingress", "tc-egress"})
PACKET_HOOKS = TC | {"xdp"}
CGROUP_HOOKS = frozenset({"sockops", "cgroup"})
XDP = frozenset({"xdp"})

BELONGS_TO: Mapping[str, frozenset[str]] = {
    "rateLimiting": PACKET_HOOKS,
    "blacklist": PACKET_HOOKS,
    "stateful": PACKET_HOOKS,
    "statefulGraceSeconds": PACKET_HOOKS,
    "synFloodProtection": XDP,
    "icmpFloodProtection": XDP,
    "udpFloodProtection": XDP,
    "connectionsPerSecond": XDP,
    "connectionsPerIP": XDP,
    "trafficControl": TC,
    "socketOps": frozenset({"sockops"}),
    "containerPolicy": frozenset({"cgroup"}),
}


class RateLimiting(Model):
    """A limit on packets per source: an IPv4 address, or an IPv6 /64."""

    enabled: bool = Field(False, description="Whether the limit is in force.")
    packets_per_second: PacketRate = Field(
        1000, description="Packets per second that one source may send."
    )
    burst: Maybe[PacketRate] = Field(
        None,
        description="Packets that may come at once; by default one tenth of a second's worth,"
        " at least 32.",
    )

    @property
    def burst_packets(self) -> int:
        """Packets that may come at once."""
        return self.burst or max(32, self.packets_per_second // 10)


class Blacklist(Model):
    """Sources whose packets are dropped."""

    enabled: bool = Field(False, description="Whether the list is in force.")
    ips: Listed[ListedSource] = Field(
        (), description="Addresses and networks in CIDR notation, IPv4 and IPv6."
    )
    files: Listed[File] = Field(
        (),
        description="Lists in the source, one address or network a line, `#` comments (the public"
        " netset format). Paths start at the root of the source, or at the manifest's own folder"
        " if they begin with ./ or ../.",
    )
    map_ref: Maybe[Name] = Field(
        None, description="An EBPFMap of type lpm_trie in the same name space, with more sources."
    )


class TrafficControl(Model):
    """Marks and classes that a TC program writes."""

    enable_marking: bool = Field(False, description="Set the packet's mark.")
    default_mark: Mark = Field(0, description="The mark to set.")
    mark_mask: Mark = Field(0xFFFFFFFF, description="The bits of the mark that are set.")
    enable_qos: bool = Field(False, description="Set the packet's priority from its DSCP.")
    enable_dscp: bool = Field(
        False, alias="enableDSCP", description="Write the DSCP from the packet's mark."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if outside := self.default_mark & ~self.mark_mask:
            message = f"has bits {outside:#x} that markMask {self.mark_mask:#x} never sets"
            yield Fault(("defaultMark",), message)


class SocketOps(Model):
    """What a sockops program does with the TCP sockets of its cgroup."""

    enable_monitoring: bool = Field(
        False, description="Count, and keep a histogram of round-trip times, per cgroup."
    )
    enable_redirection: bool = Field(
        False, description="Pass data between two sockets of this host directly."
    )
    enable_tracing: bool = Field(
        False, description="Write connect, established and close events to the journal."
    )


class ContainerPolicy(Model):
    """What a cgroup program does for the workloads of its cgroup."""

    enable_accounting: bool = Field(False, description="Count bytes and packets per cgroup.")
    enable_egress_control: bool = Field(
        False, description="Deny outgoing traffic but what an EBPFContainerPolicy allows."
    )
    enable_device_control: bool = Field(
        False, description="Deny devices but what an EBPFContainerPolicy allows."
    )


class Settings(Model):
    """What a built-in program does; each setting belongs to certain types of program."""

    rate_limiting: RateLimiting = Field(
        RateLimiting(), description="xdp, tc-*: a limit on packets per source."
    )
    blacklist: Blacklist = Field(Blacklist(), description="xdp, tc-*: sources to drop.")
    stateful: bool = Field(
        False,
        description="xdp, tc-*: track flows in both directions. Packets of established flows skip"
        " the rate limit; a TCP segment that opens nothing and belongs to no flow is dropped.",
    )
    stateful_grace_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        60, description="For so long after it attaches, unknown flows are adopted, not dropped."
    )
    syn_flood_protection: bool = Field(False, description="xdp: limit TCP SYNs per source.")
    icmp_flood_protection: bool = Field(False, description="xdp: limit ICMP per source.")
    udp_flood_protection: bool = Field(False, description="xdp: limit UDP per source.")
    connections_per_second: Maybe[PacketRate] = Field(
        None, description="xdp: new connections per second that one source may open."
    )
    connections_per_ip: Maybe[Count] = Field(
        None, description="xdp: connections that one source may have open."
    )
    traffic_control: TrafficControl = Field(
        TrafficControl(), description="tc-*: marks, priorities and DSCP."
    )
    socket_ops: SocketOps = Field(SocketOps(), description="sockops: what is done with sockets.")
    container_policy: ContainerPolicy = Field(
        ContainerPolicy(), description="cgroup: accounting and control of workloads."
    )

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed: settings given, and the switch forgotten."""
        yield from off_by_default(self.rate_limiting, "enabled", "rateLimiting")
        yield from off_by_default(self.blacklist, "enabled", "blacklist")
        if "default_mark" in self.traffic_control.model_fields_set:
            yield from off_by_default(self.traffic_control, "enableMarking", "trafficControl")

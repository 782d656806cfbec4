"""Settings of an XDP program -> the knobs of bpf/xdp_filter.bpf.c, units converted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from fos1d import abi
from fos1d.kinds.program_settings import Settings
from fos1d.model.failsafe import Direction, FailsafePort
from fos1d.model.packet import PROTOCOLS

Knobs: TypeAlias = dict[str, int | tuple[int, ...]]

# What one source may send under the flood protections, a second and at once. They are meant to
# be far above what a person's or a server's normal traffic needs and far below what hurts.
SYN_FLOOD_PER_SECOND, SYN_FLOOD_BURST = 100, 200
ICMP_FLOOD_PER_SECOND, ICMP_FLOOD_BURST = 50, 100
UDP_FLOOD_PER_SECOND, UDP_FLOOD_BURST = 1000, 1000

# An eighth of the sources that are remembered: above that, a flood would push out the real ones.
NEWCOMERS_PER_SECOND = abi.Size.SOURCES // 8


def tracks_flows(settings: Settings) -> bool:
    """Whether the program must know of flows: to be stateful, to count connections, or to tell
    answered UDP from a flood."""
    return (
        settings.stateful
        or settings.connections_per_ip is not None
        or settings.udp_flood_protection
    )


def bucket(name: str, per_second: int, burst: int) -> Knobs:
    """Return the knobs of a rate limit: bucket time per packet, and how far ahead one may be."""
    cost = (abi.Time.NS_PER_SECOND << abi.Time.TIME_SHIFT) // per_second
    return {f"{name}_cost": max(cost, 1), f"{name}_depth": max(cost, 1) * (burst - 1)}


def filter_knobs(settings: Settings, failsafe_tcp_ports: tuple[int, ...]) -> Knobs:
    """Return the knobs that the settings ask for; those of lists and interfaces come beside."""
    knobs: Knobs = {"newcomers_limit": NEWCOMERS_PER_SECOND}
    knobs |= _limits(settings)
    if tracks_flows(settings):
        knobs["tracks_flows"] = 1
        knobs["connections_per_source"] = settings.connections_per_ip or 0
    if tracks_flows(settings) or settings.connections_per_second is not None:
        knobs |= failsafe_knobs(failsafe_tcp_ports)
    if settings.stateful:
        knobs["stateful"] = 1
        knobs["grace_ns"] = settings.stateful_grace_seconds * abi.Time.NS_PER_SECOND
    return knobs


def _limits(settings: Settings) -> Knobs:
    knobs: Knobs = {}
    rate = settings.rate_limiting
    if rate.enabled:
        knobs |= bucket("packet", rate.packets_per_second, rate.burst_packets)
    if settings.syn_flood_protection:
        knobs |= bucket("syn", SYN_FLOOD_PER_SECOND, SYN_FLOOD_BURST)
    if settings.icmp_flood_protection:
        knobs |= bucket("icmp", ICMP_FLOOD_PER_SECOND, ICMP_FLOOD_BURST)
    if settings.udp_flood_protection:
        knobs |= bucket("udp", UDP_FLOOD_PER_SECOND, UDP_FLOOD_BURST)
    if settings.connections_per_second is not None:
        knobs |= bucket(
            "connection", settings.connections_per_second, settings.connections_per_second
        )
    return knobs


def failsafe_knobs(ports: Sequence[int]) -> Knobs:
    """Return the knobs that name TCP ports of the router that nothing closes."""
    room = int(abi.Size.FAILSAFE_PORTS)
    used = tuple(ports[:room])
    return {"failsafe_ports": len(used), "failsafe_port": (*used, *(0,) * (room - len(used)))}


def lifeline_knobs(ports: Iterable[FailsafePort]) -> Knobs:
    """Return the knobs that tell policies which ports they never close."""
    return failsafe_knobs([_lifeline(port) for port in ports])


def _lifeline(port: FailsafePort) -> int:
    asks = abi.Lifeline.LIFELINE_ASKS if port.direction is Direction.OUT else 0
    return asks | PROTOCOLS[port.protocol] << abi.Lifeline.LIFELINE_SHIFT | port.port

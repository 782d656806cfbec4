"""The rules of a chain as the classifier takes them: sets of subjects, peers and services.

Peers and services are sorted, disjoint ranges of numbers, both ends included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, TypeAlias

from fos1d.abi import PolicyAction as Action
from fos1d.abi import Service as Key

Span: TypeAlias = tuple[int, int]
Network: TypeAlias = IPv4Network | IPv6Network
Block: TypeAlias = tuple[Network, tuple[Network, ...]]

LAST_PORT = 0xFFFF
ALL_SERVICES: Span = (0, 0xFFFFFFFF)

# What decides; the other actions act and go on.
TERMINAL = frozenset({Action.ACT_ALLOW, Action.ACT_DENY})


@dataclass(frozen=True, slots=True)
class Peers:
    """Addresses as numbers: sorted, disjoint ranges of each family."""

    v4: tuple[Span, ...] = ()
    v6: tuple[Span, ...] = ()


class Service(NamedTuple):
    """Destination ports of a protocol; for ICMP and ICMPv6 `type << 8 | code` in their place."""

    protocol: int
    first: int = 0
    last: int = LAST_PORT


class Limit(NamedTuple):
    """A rate limit: bits per second on the wire, and the bytes that may come at once."""

    bits_per_s: int
    burst_bytes: int


@dataclass(frozen=True, slots=True)
class Route:
    """Where a packet goes: out of an interface, to a next hop, or as a table or mark says.

    What is 0 is not set. The data path needs an interface or a table to go by a next hop.
    """

    ifindex: int = 0
    table: int = 0
    mark: int = 0
    next_hop: IPv4Address | IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a chain.

    `subjects` are whose traffic it judges; `peers` None is any peer, `services` empty any
    service; `counter` is its identity in the statistics.
    """

    subjects: frozenset[int]
    peers: Peers | None = None
    services: tuple[Service, ...] = ()
    action: Action = Action.ACT_ALLOW
    dscp: int = 0
    limit: Limit | None = None
    stateful: bool = True
    counter: int = 0
    route: Route | None = None


def peers_of(blocks: Iterable[Block]) -> Peers:
    """Return the addresses of networks, each less the networks within it that are left out."""
    spans: dict[int, list[Span]] = {4: [], 6: []}
    for network, excepts in blocks:
        spans[network.version] += _less(span_of(network), map(span_of, excepts))
    return Peers(merged(spans[4]), merged(spans[6]))


def span_of(network: Network) -> Span:
    """Return the first and last address of a network as numbers."""
    return int(network.network_address), int(network.broadcast_address)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the same numbers as sorted ranges with a gap between any two."""
    kept: list[Span] = []
    for first, last in sorted(spans):
        if kept and first <= kept[-1][1] + 1:
            kept[-1] = (kept[-1][0], max(kept[-1][1], last))
        else:
            kept.append((first, last))
    return tuple(kept)


def _less(outer: Span, holes: Iterable[Span]) -> list[Span]:
    """Return what of a range is left without the holes."""
    left, start = [], outer[0]
    for first, last in merged(holes):
        if start < first:
            left.append((start, first - 1))
        start = max(start, last + 1)
    return [*left, (start, outer[1])] if start <= outer[1] else left


def key_of(protocol: int, port: int = 0) -> int:
    """Return the key of a service."""
    return protocol << Key.SERVICE_SHIFT | port


@lru_cache(maxsize=1 << 15)
def service_spans(services: tuple[Service, ...], action: Action) -> tuple[Span, ...]:
    """Return the keys of the services that a rule matches.

    A fragment of unknown ports is denied if any port of its protocol is; every other action
    takes it only if it takes all of them.
    """
    if not services:
        return (ALL_SERVICES,)
    spans = merged((key_of(s.protocol, s.first), key_of(s.protocol, s.last)) for s in services)
    whole = {p for p in {s.protocol for s in services} if _covers(spans, p)}
    judged = {s.protocol for s in services} if action is Action.ACT_DENY else whole
    fragments = (key_of(Key.SERVICE_LATER + protocol) for protocol in judged)
    return merged([*spans, *((key, key) for key in fragments)])


def _covers(spans: tuple[Span, ...], protocol: int) -> bool:
    whole = key_of(protocol), key_of(protocol, LAST_PORT)
    return any(first <= whole[0] and whole[1] <= last for first, last in spans)

"""Random policies, and packets that are likely to hit the borders of their rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random
from typing import Literal

from tests.oracle.policy import (
    ACK,
    ICMP,
    ICMPV6,
    NUMBERS,
    SCTP,
    SYN,
    TCP,
    UDP,
    WITH_TYPES,
    Address,
    Block,
    ContainerPolicy,
    Direction,
    Limit,
    Network,
    NetworkPolicy,
    Packet,
    Policies,
    Policy,
    Ports,
    Rule,
)

Kind = Literal["filtering", "qos", "routing"]

# Networks that nest and touch: most are cut out of these, so that rules overlap.
ROOTS4 = [IPv4Network(n) for n in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "255.255.255.0/24")]
ROOTS6 = [IPv6Network(n) for n in ("::/0", "2001:db8::/32", "2001:db8:1::/48", "ffff::/16")]
PORTS = (1, 2, 22, 53, 80, 443, 1023, 1024, 8080, 32768, 65534, 65535)
TYPES = (0, 1, 3, 8, 11, 128, 129, 255)
OTHER_PROTOCOL = 47


@dataclass(frozen=True)
class Extent:
    """How much to draw at most."""

    places: int = 3
    policies: int = 6
    rules: int = 6


def draw_policies(random: Random, extent: Extent = Extent()) -> Policies:
    """Return random policies of all kinds."""
    places = [f"place{number}" for number in range(random.randint(1, extent.places))]
    network = tuple(
        _network_policy(random, f"n{number}", places, extent)
        for number in range(random.randint(0, extent.policies))
    )
    container = tuple(
        _container_policy(random, f"c{number}", places, extent)
        for number in range(random.randint(0, extent.policies // 2))
    )
    return Policies(network, container)


def draw_packet(random: Random, policies: Policies) -> Packet:
    """Return a random packet, often at the border of what a random rule matches."""
    rule = _some_rule(random, policies)
    is_v6 = random.random() < 0.5
    if rule and rule.peers and random.random() < 0.8:
        is_v6 = random.choice(rule.peers).cidr.version == 6
    peer = _address_near(random, rule, is_v6)
    other = draw_address(random, is_v6)
    source, destination = (peer, other) if random.random() < 0.5 else (other, peer)
    protocol, service = _service_near(random, rule)
    is_icmp = protocol in WITH_TYPES
    return Packet(
        source,
        destination,
        protocol,
        source_port=random.choice(PORTS),
        destination_port=service,
        icmp_type=service & 0xFF if is_icmp else 0,
        icmp_code=random.choice((0, 1, 255)) if is_icmp else 0,
        tcp_flags=random.choice((SYN, SYN, SYN, ACK, SYN | ACK)),
        later_fragment=random.random() < 0.05,
    )


def draw_direction(random: Random) -> Direction:
    """Return a random direction."""
    return random.choice(("ingress", "egress"))


def draw_address(random: Random, is_v6: bool) -> Address:
    """Return a random address, often one that many rules are about."""
    return _border(random, _root(random, is_v6))


def draw_network(random: Random, is_v6: bool) -> Network:
    """Return a random network."""
    return _inner(random, _root(random, is_v6))


def _root(random: Random, is_v6: bool) -> Network:
    return random.choice(ROOTS6) if is_v6 else random.choice(ROOTS4)


def _network_policy(
    random: Random, name: str, places: Sequence[str], extent: Extent
) -> NetworkPolicy:
    kind: Kind = random.choice(("filtering", "filtering", "filtering", "qos", "routing"))
    named = random.choice((("ingress",), ("egress",), ("ingress", "egress")))
    return NetworkPolicy(
        name,
        _some(random, places),
        kind,
        priority=random.choice((1, 10, 1000, 1000)),
        namespace=random.choice(("default", "edge")),
        ingress=_rules(random, kind, extent) if "ingress" in named else None,
        egress=_rules(random, kind, extent) if "egress" in named else None,
        stateful=random.random() < 0.8,
    )


def _container_policy(
    random: Random, name: str, places: Sequence[str], extent: Extent
) -> ContainerPolicy:
    return ContainerPolicy(
        name,
        _some(random, places),
        priority=random.choice((1, 10, 1000, 1000)),
        enable_ingress_control=random.random() < 0.7,
        enable_egress_control=random.random() < 0.7,
        default_ingress=random.choice((None, "allow", "deny")),
        default_egress=random.choice((None, "allow", "deny")),
        ingress=_rules(random, None, extent),
        egress=_rules(random, None, extent),
    )


def _some(random: Random, places: Sequence[str]) -> frozenset[str]:
    return frozenset(random.sample(places, random.randint(0, len(places))))


def _rules(random: Random, kind: Kind | None, extent: Extent) -> tuple[Rule, ...]:
    return tuple(_rule(random, kind) for _ in range(random.randint(0, extent.rules)))


def _rule(random: Random, kind: Kind | None) -> Rule:
    """Return a rule of a network policy of that kind; None: of a container policy."""
    action = _action(random, kind)
    most_peers = 3 if kind else 1
    peers = tuple(_block(random) for _ in range(random.randint(0, most_peers)))
    return Rule(
        peers,
        tuple(draw_ports(random) for _ in range(random.randint(0, 3))),
        action,
        mark=random.randrange(64) if action == "mark" else None,
        limit=_limit(random) if action == "allow" and kind and random.random() < 0.2 else None,
    )


def _action(random: Random, kind: Kind | None) -> Literal["allow", "deny", "log", "mark"]:
    match kind:
        case "filtering":
            return random.choice(("allow", "allow", "deny", "log", "mark"))
        case "qos":
            return random.choice(("allow", "mark"))
        case "routing":
            return random.choice(("allow", "log", "mark"))
        case None:
            return random.choice(("allow", "allow", "deny", "log"))


def _limit(random: Random) -> Limit:
    return Limit(random.choice((1000, 10**6, 10**9)), random.choice((None, 1500, 65536)))


def _block(random: Random) -> Block:
    cidr = draw_network(random, random.random() < 0.5)
    count = random.choice((0, 0, 1, 2)) if cidr.prefixlen < cidr.max_prefixlen else 0
    excepts = (_inner(random, cidr) for _ in range(count))
    return Block(cidr, tuple(inner for inner in excepts if inner != cidr))


def draw_ports(random: Random) -> Ports:
    """Return random ports of a rule."""
    protocol = random.choice(("TCP", "TCP", "UDP", "SCTP", "ICMP", "ICMPv6"))
    if protocol in ("ICMP", "ICMPv6"):
        return Ports(protocol, icmp_type=random.choice((None, *TYPES)))
    port = random.choice((None, *PORTS, random.randint(1, 65535)))
    if port is None or random.random() < 0.5:
        return Ports(protocol, port)
    return Ports(protocol, port, random.choice((port, 65535, random.randint(port, 65535))))


def _inner(random: Random, outer: Network) -> Network:
    """Return a network within another, often at its end."""
    rest = outer.max_prefixlen - outer.prefixlen
    more = random.choice((0, 1, 2, min(8, rest), rest // 2, rest))
    length = outer.prefixlen + min(more, rest)
    place = random.choice((0, -1, random.getrandbits(rest) if rest else 0))
    return _network_at(outer, int(outer.network_address) + place % (1 << rest), length)


def _network_at(like: Network, address: int, length: int) -> Network:
    if like.version == 4:
        return IPv4Network((address, length), strict=False)
    return IPv6Network((address, length), strict=False)


def _border(random: Random, network: Network) -> Address:
    """Return an address at the border of a network, next to it or somewhere within."""
    first, last = int(network.network_address), int(network.broadcast_address)
    number = random.choice((first, last, first - 1, last + 1, random.randint(first, last)))
    number %= 1 << network.max_prefixlen
    return IPv4Address(number) if network.version == 4 else IPv6Address(number)


def _some_rule(random: Random, policies: Policies) -> Rule | None:
    everything: tuple[Policy, ...] = (*policies.network, *policies.container)
    rules = [
        rule for policy in everything for rule in (*(policy.ingress or ()), *(policy.egress or ()))
    ]
    return random.choice(rules) if rules else None


def _address_near(random: Random, rule: Rule | None, is_v6: bool) -> Address:
    networks = [
        network
        for block in (rule.peers if rule else ())
        for network in (block.cidr, *block.excepts)
        if (network.version == 6) == is_v6
    ]
    if not networks:
        return draw_address(random, is_v6)
    return _border(random, random.choice(networks))


def _service_near(random: Random, rule: Rule | None) -> tuple[int, int]:
    """Return a protocol, and a port or a type."""
    if rule is None or not rule.ports or random.random() < 0.2:
        protocol = random.choice((TCP, UDP, SCTP, ICMP, ICMPV6, OTHER_PROTOCOL))
        return protocol, random.choice(TYPES if protocol in WITH_TYPES else PORTS)
    ports = random.choice(rule.ports)
    protocol = NUMBERS[ports.protocol]
    if protocol in WITH_TYPES:
        return protocol, random.choice((ports.icmp_type or 0, *TYPES))
    port = random.choice((ports.port or 1, ports.last or 65535)) + random.choice((-1, 0, 0, 1))
    return protocol, min(max(port, 0), 65535)

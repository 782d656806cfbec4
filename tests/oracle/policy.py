"""A first-match walk over policies as a manifest has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, TypeAlias, TypeVar

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Direction: TypeAlias = Literal["ingress", "egress"]

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
NUMBERS = {"ICMP": ICMP, "TCP": TCP, "UDP": UDP, "ICMPv6": ICMPV6, "SCTP": SCTP}
WITH_PORTS = {TCP, UDP, SCTP}
WITH_TYPES = {ICMP, ICMPV6}

FIN, SYN, RST, ACK = 1, 2, 4, 16


@dataclass(frozen=True)
class Packet:
    """A packet. For ICMP echoes both ports are the identifier, as in the flow tables.

    `later_fragment` has no ports of its own; `quoted` is what an ICMP error is about.
    """

    source: Address
    destination: Address
    protocol: int = TCP
    source_port: int = 0
    destination_port: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    tcp_flags: int = SYN
    hop_limit: int = 64
    fragment_id: int | None = None
    later_fragment: bool = False
    quoted: Packet | None = None
    is_malformed: bool = False
    to_router: bool = False
    from_router: bool = False
    length: int = 100

    @property
    def is_v6(self) -> bool:
        """Whether it is IPv6."""
        return self.source.version == 6

    def reversed(self) -> Packet:
        """Return the packet that would answer it; an echo is answered by an echo reply."""
        return replace(
            self,
            source=self.destination,
            destination=self.source,
            source_port=self.destination_port,
            destination_port=self.source_port,
            icmp_type=ANSWERS.get((self.protocol, self.icmp_type), self.icmp_type),
            from_router=self.to_router,
            to_router=self.from_router,
        )


ANSWERS = {(ICMP, 8): 0, (ICMP, 0): 8, (ICMPV6, 128): 129, (ICMPV6, 129): 128}


@dataclass(frozen=True)
class Block:
    """A network, less some networks within it."""

    cidr: Network
    excepts: tuple[Network, ...] = ()

    def has(self, address: Address) -> bool:
        """Whether the address is in the block."""
        return _within(address, self.cidr) and not any(_within(address, e) for e in self.excepts)


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


@dataclass(frozen=True)
class Ports:
    """A protocol, and which of its destination ports or message types; None is any."""

    protocol: str
    port: int | None = None
    end_port: int | None = None
    icmp_type: int | None = None

    def has(self, packet: Packet) -> bool:
        """Whether a packet of which ports or types are known goes to them."""
        if packet.protocol != NUMBERS[self.protocol]:
            return False
        if self.icmp_type is not None:
            return packet.icmp_type == self.icmp_type
        return self.port is None or self.port <= packet.destination_port <= self.last

    @property
    def last(self) -> int:
        """The last port of those that begin at `port`."""
        return self.end_port or self.port or 0


@dataclass(frozen=True)
class Limit:
    """A rate limit."""

    bits_per_s: int
    burst_bytes: int | None = None


@dataclass(frozen=True)
class Rule:
    """A rule of a network policy or of a container policy. No peers: any; no ports: any."""

    peers: tuple[Block, ...] = ()
    ports: tuple[Ports, ...] = ()
    action: Literal["allow", "deny", "log", "mark"] = "allow"
    mark: int | None = None
    limit: Limit | None = None

    def matches(self, packet: Packet, direction: Direction) -> bool:
        """Whether the rule is about the packet."""
        peer = packet.source if direction == "ingress" else packet.destination
        if self.peers and not any(block.has(peer) for block in self.peers):
            return False
        if not self.ports:
            return True
        if packet.later_fragment:
            return self._matches_fragment(packet.protocol)
        return any(ports.has(packet) for ports in self.ports)

    def _matches_fragment(self, protocol: int) -> bool:
        """Judge a fragment of unknown ports: a deny takes it if any port of its protocol is
        denied, another action only if it takes them all."""
        named = [ports for ports in self.ports if NUMBERS[ports.protocol] == protocol]
        if self.action == "deny":
            return bool(named)
        if protocol in WITH_TYPES:
            types = {p.icmp_type for p in named}
            return None in types or types >= set(range(256))
        return any(p.port is None for p in named) or _covers_all(named)


def _covers_all(named: Iterable[Ports]) -> bool:
    next_port = 0
    for first, last in sorted((ports.port or 0, ports.last) for ports in named):
        if first > next_port:
            return False
        next_port = max(next_port, last + 1)
    return next_port > 0xFFFF


@dataclass(frozen=True)
class NetworkPolicy:
    """An EBPFNetworkPolicy and the places that it selects. None: it does not name the direction."""

    name: str
    places: frozenset[str]
    kind: Literal["filtering", "qos", "routing"] = "filtering"
    priority: int = 1000
    namespace: str = "default"
    ingress: tuple[Rule, ...] | None = None
    egress: tuple[Rule, ...] | None = None
    stateful: bool = True

    @property
    def polices(self) -> bool:
        """Whether it denies what no rule allows, in the directions that it names."""
        return self.kind == "filtering" and (self.ingress is not None or self.egress is not None)

    def rules(self, direction: Direction) -> tuple[Rule, ...] | None:
        """Return the rules of a direction."""
        return self.ingress if direction == "ingress" else self.egress


@dataclass(frozen=True)
class ContainerPolicy:
    """An EBPFContainerPolicy and the workloads that it selects. A default of None is not set."""

    name: str
    places: frozenset[str]
    priority: int = 1000
    namespace: str = "default"
    enable_ingress_control: bool = False
    enable_egress_control: bool = False
    default_ingress: Literal["allow", "deny"] | None = None
    default_egress: Literal["allow", "deny"] | None = None
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()

    @property
    def is_in_force(self) -> bool:
        """Whether it judges packets of any direction."""
        return self.enable_ingress_control or self.enable_egress_control

    def controls(self, direction: Direction) -> bool:
        """Whether it is in force in a direction."""
        ingress = direction == "ingress"
        return self.enable_ingress_control if ingress else self.enable_egress_control

    def rules(self, direction: Direction) -> tuple[Rule, ...]:
        """Return the rules of a direction."""
        return self.ingress if direction == "ingress" else self.egress

    def default(self, direction: Direction) -> Literal["allow", "deny"] | None:
        """Return the default action of a direction."""
        return self.default_ingress if direction == "ingress" else self.default_egress


Policy: TypeAlias = NetworkPolicy | ContainerPolicy
AnyPolicy = TypeVar("AnyPolicy", NetworkPolicy, ContainerPolicy)


@dataclass(frozen=True)
class Source:
    """Which rule of which policy."""

    policy: Policy
    direction: Direction
    index: int

    @property
    def rule(self) -> Rule:
        """The rule."""
        return (self.policy.rules(self.direction) or ())[self.index]


Effect: TypeAlias = Literal["log", "mark", "limit", "route", "count"]


@dataclass(frozen=True)
class Verdict:
    """What becomes of a packet. `by` is the rule that decided; None: a default did.

    `effects` are what other rules did before it, in order. `is_stateful`: whether replies may
    pass; None: there is nothing that polices.
    """

    passes: bool
    by: Source | None = None
    effects: tuple[tuple[Effect, Source], ...] = ()
    is_stateful: bool | None = None


Exceeds: TypeAlias = Callable[[Source, Packet], bool]


def never(_source: Source, _packet: Packet) -> bool:
    """Say that no limit is exceeded."""
    return False


@dataclass(frozen=True)
class Policies:
    """All policies of a router."""

    network: tuple[NetworkPolicy, ...] = ()
    container: tuple[ContainerPolicy, ...] = ()

    @property
    def places(self) -> frozenset[str]:
        """Every place that some policy selects."""
        policies: tuple[Policy, ...] = (*self.network, *self.container)
        return frozenset(place for policy in policies for place in policy.places)

    def polices(self, place: str) -> bool:
        """Whether anything may be denied at a place."""
        filters = (p.polices for p in self._selecting(place, self.network))
        controls = self._selecting(place, self.container)
        return any(filters) or any(p.is_in_force for p in controls)

    def is_policed(self, place: str, direction: Direction) -> bool:
        """Whether what no rule allows is denied by network policies."""
        selecting = self._selecting(place, self.network)
        return any(p.polices and p.rules(direction) is not None for p in selecting)

    def judge(
        self, place: str, direction: Direction, packet: Packet, exceeds: Exceeds = never
    ) -> Verdict:
        """Return what both layers say about a packet, flows left aside; both must let it pass."""
        first = self._judge_network(place, direction, packet, exceeds)
        second = self._judge_container(place, direction, packet) if first.passes else first
        if not first.passes:
            return first
        opinions = [layer.is_stateful for layer in (first, second) if layer.is_stateful is not None]
        return Verdict(
            second.passes,
            first.by if second.passes else second.by,
            (*first.effects, *second.effects),
            bool(opinions) and all(opinions),
        )

    def _judge_network(
        self, place: str, direction: Direction, packet: Packet, exceeds: Exceeds
    ) -> Verdict:
        selecting = self._selecting(place, self.network)
        verdict = _walk(_ordered(selecting, direction), packet, exceeds)
        if verdict.by:
            return verdict
        stateful = [p.stateful for p in selecting if p.polices]
        passes = not self.is_policed(place, direction)
        return replace(verdict, passes=passes, is_stateful=any(stateful) if stateful else None)

    def _judge_container(self, place: str, direction: Direction, packet: Packet) -> Verdict:
        workload = self._selecting(place, self.container)
        selecting = [policy for policy in workload if policy.controls(direction)]
        verdict = _walk(_ordered(selecting, direction), packet, never)
        if verdict.by:
            return verdict
        defaults = [p.default(direction) for p in selecting if p.default(direction)]
        controlled = any(p.is_in_force for p in workload)
        passes = not defaults or defaults[0] == "allow"
        return replace(verdict, passes=passes, is_stateful=True if controlled else None)

    def _selecting(self, place: str, policies: Iterable[AnyPolicy]) -> list[AnyPolicy]:
        found = [policy for policy in policies if place in policy.places]
        return sorted(found, key=lambda p: (p.priority, p.namespace, p.name))


def _ordered(policies: Iterable[Policy], direction: Direction) -> Iterator[Source]:
    for policy in policies:
        for index in range(len(policy.rules(direction) or ())):
            yield Source(policy, direction, index)


def _walk(sources: Iterable[Source], packet: Packet, exceeds: Exceeds) -> Verdict:
    """Walk the rules; a verdict by no rule is only about effects."""
    effects: list[tuple[Effect, Source]] = []
    for source in sources:
        if not source.rule.matches(packet, source.direction):
            continue
        effect = effect_of(source)
        if effect is None:
            return _decided(source, packet, tuple(effects), exceeds)
        if effect == "route" and any(what == "route" for what, _ in effects):
            continue
        if source.rule.limit and exceeds(source, packet):
            return Verdict(False, source, tuple(effects))
        effects.append((effect, source))
    return Verdict(True, None, tuple(effects))


def _decided(
    source: Source, packet: Packet, effects: tuple[tuple[Effect, Source], ...], exceeds: Exceeds
) -> Verdict:
    if source.rule.action == "deny":
        return Verdict(False, source, effects)
    if source.rule.limit and exceeds(source, packet):
        return Verdict(False, source, effects)
    stateful = isinstance(source.policy, ContainerPolicy) or source.policy.stateful
    return Verdict(True, source, effects, stateful)


def effect_of(source: Source) -> Effect | None:
    """Return what a rule does when it does not decide."""
    kind = source.policy.kind if isinstance(source.policy, NetworkPolicy) else "filtering"
    match source.rule.action, kind:
        case "log", _:
            return "log"
        case "mark", _:
            return "mark"
        case "allow", "qos":
            return "limit" if source.rule.limit else "count"
        case "allow", "routing":
            return "route"
        case _:
            return None

"""A router that is fed packets at its hooks and remembers flows, in one dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.oracle.policy import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    RST,
    SYN,
    TCP,
    UDP,
    WITH_PORTS,
    WITH_TYPES,
    Address,
    Direction,
    Exceeds,
    Packet,
    Policies,
    Verdict,
    never,
)

End = tuple[Address, int]
FlowKey = tuple[int, frozenset[End]]
FragmentKey = tuple[Address, Address, int, int]

FRAGMENT_LIFE_S = 60.0
DHCP_PORTS = ({67, 68}, {546, 547})
DNS_PORT = 53
NEIGHBOUR_DISCOVERY = range(133, 138)
LISTENER_DISCOVERY = {130, 131, 132, 143}
ECHO_REQUEST = {ICMP: 8, ICMPV6: 128}
ECHO_REPLY = {ICMP: 0, ICMPV6: 129}
ERRORS = {ICMP: {3, 4, 5, 11, 12}, ICMPV6: {1, 2, 3, 4}}


@dataclass
class Flow:
    """What is remembered of a conversation. `origins` are the ends whose packets were judged as
    its beginning."""

    origins: set[End]
    seen_s: float
    senders: set[End] = field(default_factory=set)
    finished: set[End] = field(default_factory=set)
    is_reset: bool = False

    def lifetime_s(self, protocol: int) -> float:
        """Return how long it lives after its last packet."""
        if protocol == TCP:
            is_open = len(self.senders) == 2 and not self.is_reset and len(self.finished) < 2
            return 7440.0 if is_open else 240.0
        return {UDP: 300.0, ICMP: 60.0, ICMPV6: 60.0}.get(protocol, 600.0)

    def note(self, packet: Packet, now_s: float) -> None:
        """Remember a packet that passed."""
        self.seen_s = now_s
        self.senders.add(_sender(packet))
        if packet.protocol == TCP and packet.tcp_flags & FIN:
            self.finished.add(_sender(packet))
        if packet.protocol == TCP and packet.tcp_flags & RST:
            self.is_reset = True

    def reopen(self) -> None:
        """Forget what came before: the origin begins anew."""
        self.senders, self.finished, self.is_reset = set(), set(), False


@dataclass(frozen=True)
class First:
    """What the first fragment of a datagram told, and when."""

    packet: Packet
    seen_s: float


@dataclass
class Router:
    """The state of a router.

    `failsafe_ports` are TCP ports of the router itself, `operators` flows that must live.
    `exceeds` says of a rule with a limit whether a packet exceeds it.
    """

    policies: Policies
    failsafe_ports: frozenset[int] = frozenset()
    operators: frozenset[FlowKey] = frozenset()
    exceeds: Exceeds = never
    adoption_s: float = 60.0
    policed_since_s: dict[str, float] = field(default_factory=dict)
    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    fragments: dict[FragmentKey, First] = field(default_factory=dict)

    def feed(self, place: str, direction: Direction, packet: Packet, now_s: float) -> Verdict:
        """Return what becomes of a packet that comes to a hook, and remember it."""
        if place not in self.policies.places:
            return Verdict(True)
        if packet.is_malformed:
            return Verdict(not self.policies.polices(place))
        packet = self._with_ports(packet, now_s)
        if (related := self._related(packet, now_s)) is not None:
            return self._judge_related(place, direction, related, now_s)
        flow = self._flow(packet, now_s)
        if flow is None:
            return self._judge_first(place, direction, packet, now_s)
        if flow.origins == {_sender(packet)}:
            return self._judge_more(place, direction, packet, flow, now_s)
        return self._judge_answer(place, direction, packet, flow, now_s)

    def _judge(self, place: str, direction: Direction, packet: Packet) -> Verdict:
        """Return what rules say, and what must pass whatever they say."""
        verdict = self.policies.judge(place, direction, packet, self.exceeds)
        if verdict.passes or is_limited(verdict) or not self._must_pass(packet):
            return verdict
        return Verdict(True, None, verdict.effects, True)

    def _answers(self, place: str, direction: Direction, packet: Packet) -> bool:
        """Whether what the packet answers may have gone the other way, and be answered."""
        if packet.icmp_type == ECHO_REQUEST.get(packet.protocol):
            return False
        question = packet.reversed()
        asked = self.policies.judge(place, _opposite(direction), question)
        if not asked.passes:
            return self._must_pass(question)
        return bool(asked.is_stateful)

    # A packet that belongs to a flow, or to none

    def _judge_first(
        self, place: str, direction: Direction, packet: Packet, now_s: float
    ) -> Verdict:
        verdict = self._judge(place, direction, packet)
        may_begin = verdict.passes and verdict.is_stateful and _has_flow(packet)
        if may_begin and (_begins(packet) or self._adopts(place, packet, now_s)):
            self._begin(packet, now_s)
        return verdict

    def _judge_more(
        self, place: str, direction: Direction, packet: Packet, flow: Flow, now_s: float
    ) -> Verdict:
        verdict = self._judge(place, direction, packet)
        if verdict.passes:
            if _opens(packet) and len(flow.senders) == 2:
                flow.reopen()
            flow.note(packet, now_s)
        return verdict

    def _judge_answer(
        self, place: str, direction: Direction, packet: Packet, flow: Flow, now_s: float
    ) -> Verdict:
        own = self._judge(place, direction, packet)
        if _opens(packet) and own.passes:
            if own.is_stateful:
                self._begin(packet, now_s)
            return own
        verdict = self._judge_as_answer(place, direction, packet, own)
        if verdict.passes:
            flow.note(packet, now_s)
        if own.passes and verdict is own and own.is_stateful and packet.protocol != TCP:
            flow.origins |= {_sender(packet)} if _begins(packet) else set()
        return verdict

    def _judge_as_answer(
        self, place: str, direction: Direction, packet: Packet, own: Verdict
    ) -> Verdict:
        """Return the verdict on a packet to the origin; what rules do besides, they do."""
        if is_limited(own) or not self._answers(place, direction, packet):
            return own
        return Verdict(True, None, own.effects)

    def _judge_related(
        self, place: str, direction: Direction, packet: Packet, now_s: float
    ) -> Verdict:
        """Judge the packet of a flow in whose place an ICMP error is, without a trace."""
        flow, own = self._flow(packet, now_s), self._judge(place, direction, packet)
        assert flow is not None
        if flow.origins == {_sender(packet)}:
            return own
        return self._judge_as_answer(place, direction, packet, own)

    # Flows

    def _adopts(self, place: str, packet: Packet, now_s: float) -> bool:
        """Whether a segment of a connection that is older than the policy begins a flow."""
        if packet.protocol != TCP:
            return False
        since_s = self.policed_since_s.setdefault(place, now_s)
        to_server = packet.destination_port < 1024 or packet.destination_port < packet.source_port
        return now_s - since_s < self.adoption_s and to_server

    def _begin(self, packet: Packet, now_s: float) -> None:
        flow = Flow({_sender(packet)}, now_s)
        flow.note(packet, now_s)
        self.flows[flow_key(packet)] = flow

    def _flow(self, packet: Packet, now_s: float) -> Flow | None:
        if not _has_flow(packet):
            return None
        flow = self.flows.get(flow_key(packet))
        if flow is None or now_s - flow.seen_s > flow.lifetime_s(packet.protocol):
            return None
        return flow

    def _related(self, packet: Packet, now_s: float) -> Packet | None:
        """Return the packet of a flow in whose place an ICMP error is judged."""
        quoted = packet.quoted
        if quoted is None or packet.icmp_type not in ERRORS.get(packet.protocol, ()):
            return None
        inner = quoted.reversed()
        is_told_the_sender = inner.destination == packet.destination
        return inner if is_told_the_sender and self._flow(inner, now_s) is not None else None

    # Fragments, and what must pass

    def _with_ports(self, packet: Packet, now_s: float) -> Packet:
        """Return a later fragment with what its first told, if that was seen."""
        if packet.fragment_id is None:
            return packet
        key = packet.source, packet.destination, packet.fragment_id, packet.protocol
        if not packet.later_fragment:
            self.fragments[key] = First(packet, now_s)
            return packet
        first = self.fragments.get(key)
        if first is None or now_s - first.seen_s > FRAGMENT_LIFE_S:
            return packet
        return replace(first.packet, tcp_flags=ACK, length=packet.length)

    def _must_pass(self, packet: Packet) -> bool:
        return (
            is_neighbour_discovery(packet)
            or self._is_routers_own(packet)
            or (_has_flow(packet) and flow_key(packet) in self.operators)
        )

    def _is_routers_own(self, packet: Packet) -> bool:
        if packet.later_fragment or not (packet.to_router or packet.from_router):
            return False
        near = packet.destination_port if packet.to_router else packet.source_port
        far = packet.source_port if packet.to_router else packet.destination_port
        match packet.protocol:
            case 6:
                return near in self.failsafe_ports or (far == DNS_PORT and packet.from_router)
            case 17:
                return {near, far} in DHCP_PORTS or (far == DNS_PORT and packet.from_router)
            case _:
                return False


def is_limited(verdict: Verdict) -> bool:
    """Whether a packet is dropped since it exceeds a limit."""
    return not verdict.passes and verdict.by is not None and verdict.by.rule.action != "deny"


def is_neighbour_discovery(packet: Packet) -> bool:
    """Whether it is what IPv6 itself needs on a link."""
    if packet.protocol != ICMPV6 or not packet.is_v6 or packet.later_fragment:
        return False
    if packet.icmp_type in LISTENER_DISCOVERY:
        return packet.hop_limit == 1
    return packet.icmp_type in NEIGHBOUR_DISCOVERY and packet.hop_limit == 255


def _opposite(direction: Direction) -> Direction:
    return "egress" if direction == "ingress" else "ingress"


def _has_flow(packet: Packet) -> bool:
    if packet.later_fragment:
        return False
    echoes = ECHO_REQUEST.get(packet.protocol), ECHO_REPLY.get(packet.protocol)
    return packet.protocol not in WITH_TYPES or packet.icmp_type in echoes


def _opens(packet: Packet) -> bool:
    return packet.protocol == TCP and packet.tcp_flags & (SYN | ACK) == SYN


def _begins(packet: Packet) -> bool:
    if packet.protocol == TCP:
        return _opens(packet)
    return packet.protocol not in ECHO_REPLY or packet.icmp_type == ECHO_REQUEST[packet.protocol]


def flow_key(packet: Packet) -> FlowKey:
    """Return the key of the flow that a packet belongs to."""
    return packet.protocol, frozenset({_sender(packet), _sender(packet.reversed())})


def _sender(packet: Packet) -> End:
    has_port = packet.protocol in WITH_PORTS | WITH_TYPES
    return packet.source, packet.source_port if has_port else 0

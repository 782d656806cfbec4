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

ADOPTION_S = 60.0
DHCP_PORTS = ({67, 68}, {546, 547})
DNS_PORT = 53
NEIGHBOUR_DISCOVERY = range(133, 138)
LISTENER_DISCOVERY = {130, 131, 132, 143}
ECHO_REQUEST = {ICMP: 8, ICMPV6: 128}
ECHO_REPLY = {ICMP: 0, ICMPV6: 129}
ERRORS = {ICMP: {3, 4, 5, 11, 12}, ICMPV6: {1, 2, 3, 4}}


@dataclass
class Flow:
    """What is remembered of a conversation. `origin` is the end whose packets were judged as its
    beginning."""

    origin: End
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


@dataclass
class Router:
    """The state of a router. `policed_since_s` is when each place came under a policy.

    `failsafe_ports` are TCP ports of the router itself, `operators` flows that must live.
    """

    policies: Policies
    policed_since_s: dict[str, float] = field(default_factory=dict)
    failsafe_ports: frozenset[int] = frozenset()
    operators: frozenset[FlowKey] = frozenset()
    exceeds: Exceeds = never
    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    fragments: dict[FragmentKey, tuple[int, int]] = field(default_factory=dict)

    def feed(self, place: str, direction: Direction, packet: Packet, now_s: float) -> Verdict:
        """Return what becomes of a packet that comes to a hook, and remember it."""
        if place not in self.policies.places:
            return Verdict(True)
        if packet.is_malformed:
            return Verdict(not self._is_policed(place))
        packet = self._with_ports(packet)
        effects = self._judge(place, direction, packet).effects
        verdict = self._decide(place, direction, packet, now_s)
        if self._must_pass(packet):
            verdict = replace(verdict, passes=True)
        return replace(verdict, effects=effects)

    def _is_policed(self, place: str) -> bool:
        return any(self.policies.is_policed(place, way) for way in ("ingress", "egress"))

    def _judge(self, place: str, direction: Direction, packet: Packet) -> Verdict:
        return self.policies.judge(place, direction, packet, self.exceeds)

    # Flows

    def _decide(self, place: str, direction: Direction, packet: Packet, now_s: float) -> Verdict:
        if (related := self._related(packet, now_s)) is not None:
            return self._judge_in_flow(place, direction, related, now_s)
        flow = self._flow(packet, now_s)
        if flow is None:
            return self._judge_first(place, direction, packet, now_s)
        if (packet.source, packet.source_port) != flow.origin:
            return self._judge_reply(place, direction, packet, flow, now_s)
        verdict = self._judge(place, direction, packet)
        if verdict.passes:
            _note(flow, packet, now_s)
        return verdict

    def _judge_in_flow(
        self, place: str, direction: Direction, packet: Packet, now_s: float
    ) -> Verdict:
        """Judge a packet as one of a flow that is there, without a trace."""
        flow = self._flow(packet, now_s)
        assert flow is not None
        if (packet.source, packet.source_port) == flow.origin:
            return self._judge(place, direction, packet)
        answer = self._judge(place, _opposite(direction), packet.reversed())
        if answer.passes and answer.is_stateful:
            return Verdict(True)
        return self._judge(place, direction, packet)

    def _judge_reply(
        self, place: str, direction: Direction, packet: Packet, flow: Flow, now_s: float
    ) -> Verdict:
        asked = self._judge(place, _opposite(direction), packet.reversed())
        if asked.passes and asked.is_stateful:
            _note(flow, packet, now_s)
            return Verdict(True)
        verdict = self._judge(place, direction, packet)
        if verdict.passes:
            if _opens(packet) and verdict.is_stateful:
                self._begin(packet, now_s)
            else:
                _note(flow, packet, now_s)
        return verdict

    def _judge_first(
        self, place: str, direction: Direction, packet: Packet, now_s: float
    ) -> Verdict:
        verdict = self._judge(place, direction, packet)
        may_begin = verdict.passes and verdict.is_stateful and _has_flow(packet)
        if may_begin and (_begins(packet) or self._adopts(place, packet, now_s)):
            self._begin(packet, now_s)
        return verdict

    def _adopts(self, place: str, packet: Packet, now_s: float) -> bool:
        """Whether a segment of a connection that is older than the policy begins a flow."""
        if packet.protocol != TCP or packet.later_fragment:
            return False
        young = now_s - self.policed_since_s.get(place, float("-inf")) <= ADOPTION_S
        to_server = packet.destination_port < 1024 or packet.destination_port < packet.source_port
        return young and to_server

    def _begin(self, packet: Packet, now_s: float) -> None:
        flow = Flow((packet.source, packet.source_port), now_s)
        _note(flow, packet, now_s)
        self.flows[_key(packet)] = flow

    def _flow(self, packet: Packet, now_s: float) -> Flow | None:
        if not _has_flow(packet):
            return None
        flow = self.flows.get(_key(packet))
        if flow is None or now_s - flow.seen_s > flow.lifetime_s(packet.protocol):
            return None
        return flow

    def _related(self, packet: Packet, now_s: float) -> Packet | None:
        """Return the packet of a flow in whose place an ICMP error is judged."""
        quoted = packet.quoted
        if quoted is None or packet.icmp_type not in ERRORS.get(packet.protocol, ()):
            return None
        inner = quoted.reversed()
        return inner if self._flow(inner, now_s) is not None else None

    # Fragments, and what must pass

    def _with_ports(self, packet: Packet) -> Packet:
        """Return a later fragment with the ports of its first, if that was seen."""
        if packet.fragment_id is None:
            return packet
        key = packet.source, packet.destination, packet.fragment_id, packet.protocol
        if not packet.later_fragment:
            if packet.protocol in WITH_PORTS:
                self.fragments[key] = packet.source_port, packet.destination_port
            return packet
        if key not in self.fragments:
            return packet
        source, destination = self.fragments[key]
        return replace(
            packet,
            source_port=source,
            destination_port=destination,
            later_fragment=False,
            tcp_flags=ACK,
        )

    def _must_pass(self, packet: Packet) -> bool:
        return (
            is_neighbour_discovery(packet)
            or self._is_routers_own(packet)
            or (_has_flow(packet) and _key(packet) in self.operators)
        )

    def _is_routers_own(self, packet: Packet) -> bool:
        if packet.later_fragment or packet.protocol not in WITH_PORTS:
            return False
        near = packet.destination_port if packet.to_router else packet.source_port
        far = packet.source_port if packet.to_router else packet.destination_port
        if not (packet.to_router or packet.from_router):
            return False
        if packet.protocol == TCP and near in self.failsafe_ports:
            return True
        return packet.protocol == UDP and (
            {near, far} in DHCP_PORTS or (far == DNS_PORT and packet.from_router)
        )


def is_neighbour_discovery(packet: Packet) -> bool:
    """Whether it is what IPv6 itself needs on a link."""
    if packet.protocol != ICMPV6 or not packet.is_v6 or packet.later_fragment:
        return False
    if packet.icmp_type in LISTENER_DISCOVERY:
        return True
    return packet.icmp_type in NEIGHBOUR_DISCOVERY and packet.hop_limit == 255


def _opposite(direction: Direction) -> Direction:
    return "egress" if direction == "ingress" else "ingress"


def _has_flow(packet: Packet) -> bool:
    if packet.later_fragment:
        return False
    echoes = ECHO_REQUEST.get(packet.protocol), ECHO_REPLY.get(packet.protocol)
    return packet.protocol in WITH_PORTS or (packet.icmp_type in echoes)


def _opens(packet: Packet) -> bool:
    return packet.protocol == TCP and packet.tcp_flags & (SYN | ACK) == SYN


def _begins(packet: Packet) -> bool:
    if packet.protocol == TCP:
        return _opens(packet)
    return packet.protocol not in ECHO_REPLY or packet.icmp_type == ECHO_REQUEST[packet.protocol]


def _key(packet: Packet) -> FlowKey:
    ends = {
        (packet.source, packet.source_port),
        (packet.destination, packet.destination_port),
    }
    return packet.protocol, frozenset(ends)


def _note(flow: Flow, packet: Packet, now_s: float) -> None:
    end = packet.source, packet.source_port
    flow.seen_s = now_s
    flow.senders.add(end)
    if packet.protocol == TCP and packet.tcp_flags & FIN:
        flow.finished.add(end)
    if packet.protocol == TCP and packet.tcp_flags & RST:
        flow.is_reset = True

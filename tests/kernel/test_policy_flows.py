"""The policies' data path, case by case: replies, revocation, errors, fragments, effects."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import numpy as np
import pytest

from fos1d import abi
from fos1d.abi import PlaceFlag, PlaceKind, PolicyAction, Reason
from fos1d.compile.policy import compile_chains
from fos1d.compile.policy_model import Limit, Peers, Rule, Service, peers_of
from fos1d.compile.policy_tables import policy_tables
from fos1d.compile.rule_stats import STAT
from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests import lab
from tests.kernel.policy_rig import TC_NEXT, Place, Rig, checksum, frame_of
from tests.oracle.policy import ACK, FIN, SYN, Packet

pytestmark = pytest.mark.kernel

ANY, SUBJECT = None, frozenset({0})
ALLOW, DENY, LOG, MARK = (
    PolicyAction.ACT_ALLOW,
    PolicyAction.ACT_DENY,
    PolicyAction.ACT_LOG,
    PolicyAction.ACT_MARK,
)
INSIDE = {4: "10.0.0.7", 6: "fd00::7"}
OUTSIDE = {4: "192.0.2.9", 6: "2001:db8::9"}
STATEFUL = PlaceFlag.PLACE_STATEFUL
POLICED = PlaceFlag.PLACE_POLICED | STATEFUL
EFFECTS = PlaceFlag.PLACE_EFFECTS
OURS, SECOND = 2, 10**9
both = pytest.mark.parametrize("version", [4, 6])


@dataclass
class Router:
    """One interface under rules for what comes in and what leaves."""

    rig: Rig

    def rules(
        self,
        inward: Sequence[Rule] = (),
        outward: Sequence[Rule] = (),
        flags: tuple[int, int] = (POLICED, STATEFUL),
        **knobs: int | tuple[int, ...],
    ) -> None:
        """Put rules in force; flows stay."""
        chains = compile_chains((inward, outward, (), ()), 1)
        vectors = tuple(int(chain.subjects[0]) for chain in chains)
        place = Place(PlaceKind.PLACE_INTERFACE, OURS, vectors, (*flags, 0, 0))  # type: ignore[arg-type]
        self.rig.put(policy_tables(chains), [place], "in out", **knobs)

    def comes(self, packet: Packet | bytes) -> bool:
        """Whether a packet is let in."""
        return self._passes("in", packet)

    def goes(self, packet: Packet | bytes) -> bool:
        """Whether a packet is let out."""
        return self._passes("out", packet)

    def _passes(self, hook: str, packet: Packet | bytes) -> bool:
        frame = frame_of(packet) if isinstance(packet, Packet) else packet
        return self.rig.runners[hook].run(frame, OURS).verdict == TC_NEXT

    def reasons(self) -> dict[Reason, int]:
        """Return how many packets had each reason."""
        found = {}
        for key, value in self.rig.entries("stats").items():
            packets = int(np.frombuffer(value, STAT)["packets"].sum())
            if packets:
                found[Reason(int.from_bytes(key, "little"))] = packets
        return found

    def flows(self) -> int:
        """Count all flows."""
        names = ("flows4", "flows6", "new_flows4", "new_flows6")
        return sum(len(self.rig.entries(name)) for name in names)


@pytest.fixture
def router(namespace: lab.Namespace, bpffs: Path) -> Iterator[Router]:
    namespace.ip("link", "add", "name", "v0", "type", "veth", "peer", "name", "v1")
    for name in ("v0", "v1"):
        namespace.ip("link", "set", "dev", name, "up")
    kernel = RealKernel(bpffs)
    try:
        yield Router(Rig(kernel))
    finally:
        kernel.close()


def rule(action: PolicyAction, *services: Service, peer: str = "", **more: object) -> Rule:
    peers: Peers | None = peers_of([(ip_network(peer), ())]) if peer else ANY
    counter = more.pop("counter", 7)
    return Rule(SUBJECT, peers, services, action, counter=counter, **more)  # type: ignore[arg-type]


def segment(version: int, flags: int = SYN, sport: int = 40000, dport: int = 80) -> Packet:
    """Return a TCP segment from outside to inside."""
    return packet(version, f.TCP, source_port=sport, destination_port=dport, tcp_flags=flags)


def packet(version: int, protocol: int, **fields: object) -> Packet:
    source, destination = ip_address(OUTSIDE[version]), ip_address(INSIDE[version])
    return Packet(source, destination, protocol, **fields)  # type: ignore[arg-type]


def answer(to: Packet, flags: int = SYN | ACK) -> Packet:
    back = to.reversed()
    return Packet(
        back.source,
        back.destination,
        back.protocol,
        back.source_port,
        back.destination_port,
        back.icmp_type,
        back.icmp_code,
        flags,
    )


GRE, ESP = 47, 50
WEB, DNS = Service(f.TCP, 80, 80), Service(f.UDP, 53, 53)


# Replies and revocation


@both
def test_answers_pass_and_nothing_else_does(router: Router, version: int) -> None:
    router.rules([rule(ALLOW, WEB)], [], (POLICED, POLICED))
    syn = segment(version)
    assert not router.goes(answer(syn)), "nobody asked"
    assert router.comes(syn)
    assert router.goes(answer(syn))
    assert router.comes(segment(version, ACK))
    assert not router.goes(answer(segment(version, sport=40001))), "another port, another flow"


@both
@pytest.mark.parametrize("protocol", [GRE, ESP])
def test_answers_pass_without_ports(router: Router, version: int, protocol: int) -> None:
    router.rules([rule(ALLOW, Service(protocol))], [], (POLICED, POLICED))
    tunnelled = packet(version, protocol)
    assert not router.goes(tunnelled.reversed()), "nobody asked"
    assert router.comes(tunnelled)
    assert router.goes(tunnelled.reversed()) and router.comes(tunnelled)
    assert not router.goes(packet(version, GRE + ESP - protocol).reversed()), "another protocol"


@both
def test_a_revoked_permission_stops_a_flow_both_ways(router: Router, version: int) -> None:
    router.rules([rule(ALLOW, WEB)], [], (POLICED, POLICED))
    assert router.comes(segment(version)) and router.goes(answer(segment(version)))
    router.rules([rule(DENY, WEB), rule(ALLOW)], [], (POLICED, POLICED))
    assert not router.comes(segment(version, ACK))
    assert not router.goes(answer(segment(version), ACK))
    router.rules([rule(ALLOW)], [], (POLICED, POLICED))
    assert router.comes(segment(version, ACK)), "granted again, it goes on"
    assert router.goes(answer(segment(version), ACK))


def test_a_changed_place_is_judged_anew_under_the_same_rules(router: Router) -> None:
    router.rules([rule(ALLOW, WEB)])
    assert router.comes(segment(4)) and router.comes(segment(4, ACK))
    nothing = Place(PlaceKind.PLACE_INTERFACE, OURS, (1 << 28, 0, 0, 0), (POLICED, 0, 0, 0))
    router.rig.put_place(nothing)
    assert not router.comes(segment(4, ACK))


@both
def test_denied_packets_leave_nothing(router: Router, version: int) -> None:
    router.rules([rule(ALLOW, WEB)])
    for port in range(1, 50):
        assert not router.comes(segment(version, dport=1000 + port))
    assert router.flows() == 0


@pytest.mark.parametrize("protocol", [f.UDP, f.SCTP])
@both
def test_answers_of_datagrams(router: Router, version: int, protocol: int) -> None:
    router.rules([], [], (POLICED, STATEFUL))
    asked = packet(version, protocol, source_port=5, destination_port=9).reversed()
    assert not router.comes(asked.reversed())
    assert router.goes(asked)
    assert router.comes(asked.reversed())


@pytest.mark.parametrize(("version", "protocol", "kind"), [(4, f.ICMP, 8), (6, f.ICMPV6, 128)])
def test_answers_of_pings(router: Router, version: int, protocol: int, kind: int) -> None:
    router.rules([], [])
    ping = packet(version, protocol, source_port=5, destination_port=5, icmp_type=kind).reversed()
    ping = Packet(ping.source, ping.destination, protocol, 5, 5, kind)
    assert not router.comes(ping.reversed())
    assert router.goes(ping)
    assert router.comes(ping.reversed())
    assert not router.comes(Packet(ping.destination, ping.source, protocol, 5, 5, kind))


@both
def test_either_end_may_begin_what_has_the_same_ports_at_both(router: Router, version: int) -> None:
    tunnel = Service(f.UDP, 51820, 51820)
    comes = packet(version, f.UDP, source_port=51820, destination_port=51820)
    router.rules([], [rule(ALLOW, tunnel)], (POLICED, POLICED))
    assert router.goes(comes.reversed()) and router.comes(comes)
    router.rules([rule(ALLOW, tunnel)], [], (POLICED, POLICED))
    assert not router.goes(comes.reversed()), "not asked yet"
    assert router.comes(comes) and router.goes(comes.reversed())
    router.rules([], [rule(ALLOW, tunnel)], (POLICED, POLICED))
    assert router.goes(comes.reversed()) and router.comes(comes)
    router.rules([], [], (POLICED, POLICED))
    assert not router.goes(comes.reversed()) and not router.comes(comes)


@pytest.mark.parametrize(("version", "protocol", "kind"), [(4, f.ICMP, 8), (6, f.ICMPV6, 128)])
def test_both_ends_may_ping_by_one_identifier(
    router: Router, version: int, protocol: int, kind: int
) -> None:
    echo = Service(protocol, kind << 8, kind << 8 | 0xFF)
    router.rules([rule(ALLOW, echo)], [rule(ALLOW, echo)], (POLICED, POLICED))
    asked = packet(version, protocol, source_port=1, destination_port=1, icmp_type=kind)
    asks = replace(asked.reversed(), icmp_type=kind)
    for _ in range(2):
        assert router.goes(asks) and router.comes(asks.reversed())
        assert router.comes(asked) and router.goes(asked.reversed())


def test_old_connections_are_adopted_at_first(router: Router) -> None:
    router.rules([rule(ALLOW, WEB)], [], (POLICED, POLICED), adoption_ns=SECOND)
    assert router.comes(segment(4, ACK)), "allowed by its rule"
    assert router.goes(answer(segment(4), ACK)), "and adopted"
    time.sleep(1.1)
    assert router.comes(segment(4, ACK, sport=50000))
    assert not router.goes(answer(segment(4, sport=50000), ACK)), "too late"


# ICMP errors


@both
def test_errors_about_a_flow_pass(router: Router, version: int) -> None:
    router.rules([rule(ALLOW, WEB)], [], (POLICED, POLICED))
    protocol, kind = (f.ICMP, 3) if version == 4 else (f.ICMPV6, 1)
    about = segment(version)
    hop = ip_address("198.51.100.1" if version == 4 else "2001:db8:f::1")
    error = Packet(hop, about.source, protocol, icmp_type=kind, quoted=about)
    assert not router.goes(error), "about no flow"
    assert router.comes(about)
    assert router.goes(error), "8 bytes of the quoted segment are enough"
    back = Packet(hop, about.destination, protocol, icmp_type=kind, quoted=answer(about))
    assert router.comes(back), "and the other way"
    other = segment(version, sport=1)
    assert not router.goes(Packet(hop, about.source, protocol, icmp_type=kind, quoted=other))
    third = ip_address("192.0.2.99" if version == 4 else "2001:db8::99")
    assert not router.goes(Packet(hop, third, protocol, icmp_type=kind, quoted=about)), "not to it"


# Fragments


@both
def test_later_fragments_follow_the_first(router: Router, version: int) -> None:
    router.rules([rule(ALLOW, DNS)])
    ports = {"source_port": 5, "destination_port": 53}
    first = packet(version, f.UDP, fragment_id=77, **ports)
    later = packet(version, f.UDP, fragment_id=77, later_fragment=True)
    assert not router.comes(later), "out of order: its port is not known"
    assert router.comes(first)
    assert router.comes(later)
    assert not router.comes(packet(version, f.UDP, fragment_id=78, later_fragment=True))


@both
def test_unknown_fragments_pass_where_all_ports_may(router: Router, version: int) -> None:
    later = packet(version, f.UDP, later_fragment=True)
    router.rules([rule(ALLOW, Service(f.UDP))])
    assert router.comes(later)
    router.rules([rule(DENY, DNS), rule(ALLOW)])
    assert not router.comes(later), "it could be one that is denied"


# Frames


@pytest.mark.parametrize("tags", [(), (0x8100,), (0x88A8, 0x8100)])
@both
def test_tagged_frames(router: Router, version: int, tags: tuple[int, ...]) -> None:
    router.rules([rule(ALLOW, WEB)])
    assert router.comes(frame_of(segment(version), tags))
    assert not router.comes(frame_of(segment(version, dport=81), tags))


def test_extension_headers_hide_nothing(router: Router) -> None:
    router.rules([rule(ALLOW, WEB)])
    for port in (80, 81):
        content = f.extension(f.HOPOPTS, f.DSTOPTS) + f.extension(f.DSTOPTS, f.TCP)
        content += f.tcp(9, port)
        frame = f.ethernet(f.ipv6(OUTSIDE[6], INSIDE[6], f.HOPOPTS, content))
        assert router.comes(frame) == (port == 80)


def test_malformed_packets_are_dropped_and_others_are_not_ours(router: Router) -> None:
    router.rules([rule(ALLOW)])
    whole = frame_of(segment(4))
    assert not router.comes(whole[:40])
    assert router.comes(f.MACS + b"\x08\x06" + b"\0" * 28), "ARP"
    assert router.reasons()[Reason.PASS_NOT_IP] == 1


# What no policy may stop


def test_neighbours_find_each_other(router: Router) -> None:
    router.rules([], [], (POLICED, POLICED))
    for kind in (133, 134, 135, 136, 137):
        near = packet(6, f.ICMPV6, icmp_type=kind, hop_limit=255)
        assert router.comes(near) and router.goes(near)
        assert not router.comes(packet(6, f.ICMPV6, icmp_type=kind, hop_limit=254))
    for kind in (130, 131, 132, 143):
        assert router.comes(packet(6, f.ICMPV6, icmp_type=kind, hop_limit=1))
        assert not router.comes(packet(6, f.ICMPV6, icmp_type=kind, hop_limit=64)), "from afar"


def test_failsafe_ports_are_the_routers_own(router: Router, namespace: lab.Namespace) -> None:
    namespace.ip("address", "add", f"{INSIDE[4]}/24", "dev", "v1")
    namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    namespace.ip("route", "add", "203.0.113.0/24", "via", "10.0.0.1", "dev", "v1")
    ports = (f.TCP << 16 | 22,) + (0,) * 15
    router.rules([], [], (POLICED, POLICED), failsafe_ports=1, failsafe_port=ports)
    ssh = segment(4, dport=22)
    assert router.comes(ssh)
    assert router.goes(answer(ssh)), "and its answers"
    assert not router.comes(segment(4, dport=23))
    through = Packet(ssh.source, ip_address("203.0.113.5"), f.TCP, 9, 22)
    assert not router.comes(through), "what is forwarded is not the router's"


def test_the_routers_names_are_answered(router: Router) -> None:
    router.rules([], [], (POLICED, POLICED))
    asks = packet(4, f.UDP, source_port=53, destination_port=999).reversed()
    assert not router.comes(asks.reversed())
    assert router.goes(asks)
    assert router.comes(asks.reversed())


def test_the_operators_connection(router: Router) -> None:
    router.rules([], [], (POLICED, POLICED))
    stay = segment(4, ACK)
    assert not router.comes(stay)
    key = np.zeros((), np.dtype(abi.FLOW4_KEY))
    key["address_a"], key["port_a"] = int(ip_address(INSIDE[4])), 80
    key["address_b"], key["port_b"] = int(stay.source), 40000
    key["protocol"] = f.TCP
    router.rig.write("operator_flows4", key.tobytes(), b"\1\0\0\0")
    assert router.comes(stay) and router.goes(stay.reversed())


# What rules do besides


@both
def test_marks_keep_the_congestion_bits(router: Router, version: int) -> None:
    router.rules([rule(MARK, dscp=46), rule(ALLOW)], [], (POLICED | EFFECTS, STATEFUL))
    frame = bytearray(frame_of(segment(version)))
    word = int.from_bytes(frame[14:16], "big") | (3 if version == 4 else 3 << 4)
    frame[14:16] = word.to_bytes(2, "big")
    frame[24:26] = b"\0\0" if version == 4 else frame[24:26]
    if version == 4:
        frame[24:26] = checksum(bytes(frame[14:34])).to_bytes(2, "big")
    out = router.rig.runners["in"].run(bytes(frame), OURS).frame
    shift = 0 if version == 4 else 4
    assert int.from_bytes(out[14:16], "big") >> shift & 0xFF == 46 << 2 | 3
    assert version == 6 or checksum(out[14:34]) == 0
    assert out[34 if version == 4 else 16 :] == bytes(frame)[34 if version == 4 else 16 :]


@pytest.mark.parametrize("segments", [0, 10])
def test_a_limit_counts_what_is_on_the_wire(router: Router, segments: int) -> None:
    rate, burst = 4_000_000, 500_000
    router.rules([rule(ALLOW, Service(f.UDP), limit=Limit(rate, burst), counter=5)])
    frame = f.ethernet(f.ipv4(OUTSIDE[4], INSIDE[4], f.UDP, f.udp(1, 2, b"\0" * 958)))
    wire = len(frame) + max(0, segments - 1) * 42
    run, passed, tried, began = router.rig.runners["in"], 0, 0, time.monotonic()
    while (took := time.monotonic() - began) < 2.0:
        passed += run.run(frame, OURS, segments=segments).verdict == TC_NEXT
        tried += 1
    allowed = (burst + rate / 8 * took) / wire
    assert allowed * 0.95 <= passed <= allowed * 1.05 + 2, (tried, took)
    assert router.reasons()[Reason.DROP_RULE_LIMIT] > 0


def test_logs_tell_the_rule_and_the_verdict_ten_times_at_once(router: Router) -> None:
    flags = (POLICED | EFFECTS, STATEFUL)
    router.rules([rule(LOG, WEB, counter=11), rule(DENY, counter=12)], [], flags)
    for _ in range(30):
        assert not router.comes(segment(6))
    events = [np.frombuffer(e, np.dtype(abi.POLICY_EVENT))[0] for e in router.rig.events()]
    assert 10 <= len(events) <= 12
    assert {int(e["counter"]) for e in events} == {11}
    assert {int(e["reason"]) for e in events} == {Reason.DROP_POLICY}
    first = events[0]
    assert first["source"].tobytes() == ip_address(OUTSIDE[6]).packed
    assert (int(first["source_port"]), int(first["dest_port"])) == (40000, 80)
    assert (int(first["ifindex"]), int(first["place_id"]), int(first["kind"])) == (OURS, OURS, 1)
    assert router.rig.counts()[11][0] == 30


@both
def test_a_closed_connection_may_begin_anew(router: Router, version: int) -> None:
    router.rules([rule(ALLOW, WEB)], [], (POLICED, POLICED))
    for flags in (SYN, ACK, FIN | ACK):
        assert router.comes(segment(version, flags))
        assert router.goes(answer(segment(version), flags | ACK))
    assert router.comes(segment(version))
    assert router.goes(answer(segment(version)))

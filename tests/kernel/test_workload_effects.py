"""What rules do to packets that workloads send, where they leave: marks and routes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from fos1d.abi import PlaceFlag, PlaceKind, PolicyAction
from fos1d.compile.policy import compile_chains
from fos1d.compile.policy_model import Route, Rule, Service
from fos1d.compile.policy_tables import policy_tables
from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests import lab
from tests.kernel.policy_rig import TC_NEXT, TC_REDIRECT, Place, Ran, Rig, frame_of
from tests.kernel.test_policy_oracle import dscp_of, own_cgroup
from tests.oracle.policy import Packet

pytestmark = pytest.mark.kernel

BY, ELSEWHERE = 2, 3
NEAR = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
FAR = {4: ip_address("203.0.113.9"), 6: ip_address("2001:db8:113::9")}
NEXT: dict[int, IPv4Address | IPv6Address] = {
    4: IPv4Address("192.0.2.2"),
    6: IPv6Address("2001:db8::2"),
}
NEIGHBOUR = bytes.fromhex("020000000002")
both = pytest.mark.parametrize("version", [4, 6])


@dataclass
class Leaving:
    """This process's cgroup under rules, and an interface `by` that its packets leave by."""

    rig: Rig

    def rules(self, *rules: Rule, cgroup: int | None = None) -> None:
        """Put rules for what is sent in force."""
        chains = compile_chains(((), rules, (), ()), 1)
        vectors = tuple(int(chain.subjects[0]) for chain in chains)
        flags = (0, PlaceFlag.PLACE_EFFECTS, 0, 0)
        place = Place(PlaceKind.PLACE_CGROUP, cgroup or own_cgroup(), vectors, flags)  # type: ignore[arg-type]
        self.rig.put(policy_tables(chains), [place], "sent")

    def send(self, version: int, port: int = 5060, ecn: int = 0) -> Ran:
        """Let a datagram leave."""
        packet = Packet(NEAR[version], FAR[version], f.UDP, 40000, port)
        frame = bytearray(frame_of(packet))
        frame[15] |= ecn << (0 if version == 4 else 4)
        return self.rig.runners["sent"].run(bytes(frame), BY)


@pytest.fixture
def leaving(namespace: lab.Namespace, bpffs: Path) -> Iterator[Leaving]:
    for name, index in (("by", BY), ("elsewhere", ELSEWHERE)):
        peer = ("type", "veth", "peer", "name", f"{name}-far", "index", str(index + 10))
        namespace.ip("link", "add", "name", name, "index", str(index), *peer)
        for end in (name, f"{name}-far"):
            namespace.ip("link", "set", "dev", end, "up")
    lab.address(namespace, "by", f"{NEAR[4]}/24", f"{NEAR[6]}/64")
    lab.address(namespace, "elsewhere", "10.9.0.1/24", "2001:db8:9::1/64")
    mac = NEIGHBOUR.hex(":")
    for version in (4, 6):
        namespace.ip("neigh", "add", str(NEXT[version]), "lladdr", mac, "dev", "by")
        namespace.ip(f"-{version}", "route", "add", "default", "via", str(NEXT[version]))
        gateway = {4: "10.9.0.2", 6: "2001:db8:9::2"}[version]
        table = ("route", "add", "default", "via", gateway, "table", "100")
        namespace.ip(f"-{version}", *table)
        namespace.ip(f"-{version}", "rule", "add", "fwmark", "7", "lookup", "100")
    namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    kernel = RealKernel(bpffs)
    try:
        yield Leaving(Rig(kernel))
    finally:
        kernel.close()


def rule(action: PolicyAction, *ports: int, **more: object) -> Rule:
    services = [Service(f.UDP, port, port) for port in ports]
    return Rule(frozenset({0}), None, tuple(services), action, counter=7, **more)  # type: ignore[arg-type]


def mark(dscp: int, *ports: int) -> Rule:
    return rule(PolicyAction.ACT_MARK, *ports, dscp=dscp)


def route(*ports: int, **fields: object) -> Rule:
    return rule(PolicyAction.ACT_ROUTE, *ports, route=Route(**fields))  # type: ignore[arg-type]


def ecn_of(frame: bytes) -> int:
    return (frame[15] >> (4 if frame[14] >> 4 == 6 else 0)) & 3


@both
def test_a_mark_is_written_and_ecn_kept_and_nothing_counted(leaving: Leaving, version: int) -> None:
    leaving.rules(mark(46, 5060))
    for ecn in range(4):
        ran = leaving.send(version, ecn=ecn)
        assert (ran.verdict, dscp_of(ran.frame), ecn_of(ran.frame)) == (TC_NEXT, 46, ecn)
    assert dscp_of(leaving.send(version, 5061).frame) == 0
    assert leaving.rig.counts() == {}


@both
def test_others_are_left_alone(leaving: Leaving, version: int) -> None:
    leaving.rules(mark(46), cgroup=own_cgroup() + 1)
    assert dscp_of(leaving.send(version).frame) == 0


def test_what_holds_for_the_root_holds_for_all(leaving: Leaving) -> None:
    root = Cgroupfs().root()
    assert root and root.stat().st_ino != own_cgroup()
    leaving.rules(mark(46), cgroup=root.stat().st_ino)
    assert dscp_of(leaving.send(4).frame) == 46


@both
@pytest.mark.parametrize(
    ("rules", "dscp"),
    [
        ([mark(1), mark(2)], 2),
        ([rule(PolicyAction.ACT_ALLOW), mark(1)], 0),
        ([rule(PolicyAction.ACT_ALLOW, 80), mark(1)], 1),
        ([mark(1), rule(PolicyAction.ACT_DENY), mark(2)], 1),
        ([rule(PolicyAction.ACT_LIMIT), mark(3)], 3),
    ],
)
def test_rules_act_up_to_the_one_that_decides(
    leaving: Leaving, version: int, rules: Sequence[Rule], dscp: int
) -> None:
    leaving.rules(*rules)
    assert dscp_of(leaving.send(version).frame) == dscp


@both
@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"ifindex": ELSEWHERE}, TC_REDIRECT),
        ({"ifindex": BY}, TC_NEXT),
        ({"table": 100}, TC_REDIRECT),
        ({"table": 254}, TC_NEXT),
        ({"table": 101}, TC_NEXT),
        ({"mark": 7}, TC_REDIRECT),
        ({"mark": 8}, TC_NEXT),
        ({}, TC_NEXT),
    ],
)
def test_routes(leaving: Leaving, version: int, fields: dict[str, int], verdict: int) -> None:
    leaving.rules(route(5060, **fields), route(ifindex=ELSEWHERE))
    ran = leaving.send(version)
    assert (ran.verdict, ran.mark) == (verdict, fields.get("mark", 0))
    assert leaving.send(version, 80).verdict == TC_REDIRECT


@both
@pytest.mark.parametrize("fields", [{"ifindex": BY}, {"table": 254}])
def test_a_next_hop_on_the_same_link_is_another_neighbour(
    leaving: Leaving, version: int, fields: dict[str, int]
) -> None:
    leaving.rules(route(**fields, next_hop=NEXT[version]))
    ran = leaving.send(version)
    assert (ran.verdict, ran.frame[:6]) == (TC_NEXT, NEIGHBOUR)


def test_ipv6_does_not_go_by_a_next_hop_of_ipv4(leaving: Leaving) -> None:
    leaving.rules(route(ifindex=ELSEWHERE, next_hop=ip_address("10.9.0.2")))
    assert leaving.send(4).verdict == TC_REDIRECT
    assert leaving.send(6).verdict == TC_NEXT

"""Marks and routes of what workloads send, by a real daemon, on real packets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import lab
from tests.netns.forked import forked
from tests.netns.resident import Resident, resident
from tests.netns.talk import in_force, network_policy, settled
from tests.running import Router, router, until

pytestmark = pytest.mark.netns

# The router's, the host's, and what the host is called where it can be reached by another way.
ROUTER = ("203.0.113.1", "2001:db8:113::1")
HOST = ("203.0.113.2", "2001:db8:113::2")
NEIGHBOUR = ("203.0.113.3", "2001:db8:113::3")
ALT, ALT_ROUTER = ("10.9.0.2", "2001:db8:9::2"), ("10.9.0.1", "2001:db8:9::1")
BOTH = pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
EVERYTHING = 3  # ETH_P_ALL
DSCP, ECT_0, ECT_1 = 46, 2, 1


class Seen(NamedTuple):
    """What a packet looked like where it arrived."""

    protocol: int
    port: int
    dscp: int
    ecn: int


class Capture:
    """What comes in by an interface."""

    def __init__(self, host: lab.Namespace, interface: str) -> None:
        with host.entered():
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(EVERYTHING))
            self._socket.bind((interface, EVERYTHING))

    def take(self, *ports: int) -> set[Seen]:
        """Return what came to some ports since the last time."""
        found = set()
        while packet := self._next():
            if packet.port in ports:
                found.add(packet)
        return found

    def _next(self) -> Seen | None:
        while True:
            try:
                data, (_, _, kind, _, _) = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return None
            if kind != socket.PACKET_OUTGOING and len(data) >= 24 and data[0] >> 4 in (4, 6):
                return seen(data)


def seen(packet: bytes) -> Seen:
    """Read a packet's headers."""
    if packet[0] >> 4 == 4:
        at, protocol, traffic = (packet[0] & 15) * 4, packet[9], packet[1]
    else:
        at, protocol, traffic = 40, packet[6], int.from_bytes(packet[:2], "big") >> 4 & 255
    port = int.from_bytes(packet[at + 2 : at + 4], "big")
    return Seen(protocol, port, traffic >> 2, traffic & 3)


@dataclass
class House:
    """A router whose program `app` is a workload and `other` is none; two ways lead to the host's
    addresses, one of them to `alt`."""

    router: Router
    cgroup: Path
    host: lab.Namespace
    alt: lab.Namespace
    stack: ExitStack

    def workload(self, name: str, *addresses: str) -> None:
        """Make a workload with a file of its own."""
        (self.cgroup / name).mkdir(exist_ok=True)
        listed = ", ".join(map(repr, addresses))
        (self.router.workloads / f"{name}.yaml").write_text(
            f"workloads: [{{name: {name}, labels: {{app: voice}}, cgroups: [{name}],"
            f" addresses: [{listed}]}}]\n"
        )

    def inside(self, name: str) -> Resident:
        """Start a program in a cgroup of the router."""
        place = self.cgroup / name
        place.mkdir(exist_ok=True)
        return self.stack.enter_context(resident(place, self.router.namespace))

    def serve(self, host: lab.Namespace, version: int, *ports: int) -> None:
        """Have a host answer on its ports."""
        far = self.stack.enter_context(resident(self.cgroup, host))
        for port in ports:
            assert far("serve", ("0.0.0.0", "::")[version], port)

    def start(self, spec: str, policy_type: str) -> None:
        """Start the daemon with a policy `voice` for the workload."""
        selector = "  selector: {podSelector: {matchLabels: {app: voice}}}\n"
        self.workload("app")
        self.router.write("voice.yaml", network_policy("voice", selector + spec, policy_type))
        settled(self.host, self.router, self.alt)
        self.router.start()
        in_force(self.router, "voice")

    def attached(self) -> list[str]:
        """Return the interfaces that have a program for what workloads send."""
        links = (self.router.bpffs / "link").rglob("*")
        return sorted(str(link) for link in links if link.name.endswith("tc-egress:1"))


@pytest.fixture
def house(bpffs: Path, tmp_path: Path, cgroup: Path) -> Iterator[House]:
    """The house; the daemon is not started."""
    with (
        lab.namespaces("host", "alt", "rt") as (host, alt, middle),
        router(middle, tmp_path, bpffs, launch=forked, cgroup=cgroup) as made,
        ExitStack() as stack,
    ):
        for far, name, theirs, ours in (
            (host, "wan0", HOST, ROUTER),
            (alt, "alt0", ALT, ALT_ROUTER),
        ):
            lab.veth(far, "eth0", middle, name)
            lab.address(far, "eth0", f"{theirs[0]}/24", f"{theirs[1]}/64")
            lab.address(middle, name, f"{ours[0]}/24", f"{ours[1]}/64")
            for version, via in (("-4", ours[0]), ("-6", ours[1])):
                far.ip(version, "route", "add", "default", "via", via)
        lab.address(alt, "eth0", f"{HOST[0]}/32", f"{HOST[1]}/128")
        middle.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for one in (host, alt, middle):
            one.run("sysctl", "-qw", "net.ipv4.tcp_ecn=1")
        yield House(made, cgroup, host, alt, stack)


MARK = (
    "  egress:\n"
    "    - ports: [{protocol: UDP, port: 5060}, {protocol: TCP, port: 5061}]\n"
    f"      action: mark\n      mark: {DSCP}\n"
)


@BOTH
def test_what_a_workload_sends_is_marked(house: House, version: int) -> None:
    house.serve(house.host, version, 5060, 5061, 5062)
    house.start(MARK, "qos")
    capture, far = Capture(house.host, "eth0"), HOST[version]
    for name, dscp in (("app", DSCP), ("other", 0)):
        program = house.inside(name)
        assert program("asks", far, 5060, ECT_1) == ""
        assert program("asks", far, 5062, ECT_1) == ""
        assert program("holds", far, 5061) == ""
        assert program("lives")
        found = capture.take(5060, 5061, 5062)
        assert {s for s in found if s.port == 5060} == {Seen(17, 5060, dscp, ECT_1)}
        assert {s for s in found if s.port == 5062} == {Seen(17, 5062, 0, ECT_1)}
        segments = {s for s in found if s.protocol == 6}
        assert {s.dscp for s in segments} == {dscp}
        assert ECT_0 in {s.ecn for s in segments}, "data of a connection with ECN"
        (rule,) = house.router.json("get", "enpol/voice")["status"]["metrics"]["byRule"]
        if name == "app":
            counted = rule["packets"]
        assert rule["packets"] == counted >= 4, "counted once, and not for others"


def asked(program: Resident, far: str) -> bool:
    """Whether a datagram is answered; the first may take longer, as neighbours are sought."""
    return bool(program("asks", far, 7000) == "")


@BOTH
@pytest.mark.parametrize(
    "route",
    [
        "interface: alt0",
        "nextHop: {alt}",
        "interface: alt0, nextHop: {alt}",
        "table: 100",
        "mark: 7",
    ],
)
def test_a_route_leads_out_of_another_interface(house: House, version: int, route: str) -> None:
    rt, family = house.router.namespace, ("-4", "-6")[version]
    rt.ip(family, "route", "add", "default", "via", ALT[version], "table", "100")
    rt.ip(family, "rule", "add", "fwmark", "7", "lookup", "100")
    for host in (house.host, house.alt):
        house.serve(host, version, 7000, 7001)
    spec = f"  route: {{{route.format(alt=repr(ALT[version]))}}}\n"
    ports = "{protocol: UDP, port: 7000}, {protocol: TCP, port: 7000}"
    house.start(f"{spec}  egress: [{{ports: [{ports}]}}]\n", "routing")
    usual, other = Capture(house.host, "eth0"), Capture(house.alt, "eth0")
    far = HOST[version]
    for name, by, idle in (("app", other, usual), ("other", usual, other)):
        program = house.inside(name)
        until(partial(asked, program, far), 5, "the neighbours know each other")
        assert program("holds", far, 7000) == ""
        assert program("lives")
        assert {s.protocol for s in by.take(7000)} == {6, 17}
        assert not idle.take(7000)
        assert program("asks", far, 7001) == ""
        assert usual.take(7001) and not other.take(7001)


@BOTH
def test_a_next_hop_on_the_same_link(house: House, version: int) -> None:
    host = house.host
    host.ip("link", "add", "link", "eth0", "name", "near0", "type", "macvlan", "mode", "bridge")
    host.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
    host.ip("link", "set", "dev", "near0", "up")
    lab.address(host, "near0", f"{NEIGHBOUR[0]}/32", f"{NEIGHBOUR[1]}/128")
    house.serve(host, version, 7000, 7001)
    spec = f"  route: {{nextHop: {NEIGHBOUR[version]!r}}}\n"
    house.start(f"{spec}  egress: [{{ports: [{{protocol: UDP, port: 7000}}]}}]\n", "routing")
    capture, program = Capture(host, "near0"), house.inside("app")
    for _ in range(3):
        assert program("asks", HOST[version], 7000) == ""
        assert program("asks", HOST[version], 7001) == ""
        assert capture.take(7000, 7001) == {Seen(17, 7000, 0, 0)}


def test_programs_are_there_while_they_are_wanted(house: House) -> None:
    house.router.write("keep.yaml", network_policy("keep", "  ingress: [{}]\n"))
    house.start(MARK, "qos")
    assert len(house.attached()) == 2, "wan0 and alt0, not loopback"
    house.router.namespace.ip(
        "link", "add", "name", "late0", "type", "veth", "peer", "name", "late1"
    )
    until(lambda: len(house.attached()) == 4, 5)
    (house.router.policy / "voice.yaml").unlink()
    until(lambda: not house.attached(), 5)


def test_a_workload_in_a_network_of_its_own_is_told_of(house: House) -> None:
    house.workload("box", ALT[0])
    spec = "  selector: {podSelector: {matchLabels: {app: voice}}}\n" + MARK
    house.router.write("voice.yaml", network_policy("voice", spec, "qos"))
    house.router.start()
    until(lambda: house.router.condition("enpol", "voice").get("reason") == "NotEnforceable", 10)
    assert "egress[0]: mark on box: " in house.router.condition("enpol", "voice")["message"]

"""What programs on a workload's cgroup cost each packet that its socket receives or sends.

What is received comes by the lab's gun, and its cost is the router's poll, up to the socket's full
queue, which drops it behind the programs. What is sent is timed by the sender (sending.py), up to a
neighbour that does not take it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fos1d.kernel.bpf import Fd
from fos1d.kernel.cgroup import ATTACH_TYPES, Cgroupfs
from fos1d.kernel.libbpf import call
from fos1d.model.objects import CgroupHook, Program
from tests import frames
from tests.bench.drop import QUICK, Effort, Side, rows_of
from tests.bench.networks import Networks, Random, strangers
from tests.bench.objects import Loaded, loaded, test_run
from tests.bench.policy import FEW_AND_MANY, FLOWS, reach_sources
from tests.bench.results import Bar, Row, Table, middle, tick
from tests.bench.rules import (
    DEST_PORT,
    SOURCE_PORT,
    Rules,
    container_policy,
    draw_rules,
    network_policy,
)
from tests.bench.sending import AT_ONCE, Sender
from tests.bench.wire import MAC_BYTES, PAYLOAD, ROUTER, Lab, Reading, Router, laboratory
from tests.lab import bpf_folder, cgroup_folder
from tests.limited import Limiter, limiter

WORKLOAD = "w"
ALL_WORKLOADS = "{podSelector: {}}"
# No limit that the lab could reach.
BITS_PER_S = 10**11
PROBED = 100_000
# A whole number of what the sender sends at once.
HOSTS = FLOWS // AT_ONCE * AT_ONCE
SO_RCVBUFFORCE, QUEUE_BYTES = 33, 1 << 20


@dataclass(frozen=True, slots=True)
class Way:
    """One direction as the workload sees it. The rules look at the destination port."""

    what: str
    rules: str
    hook: CgroupHook
    empty: str
    own_port: int
    peer_port: int


RECEIVED = Way("received", "ingress", CgroupHook.INGRESS, "empty_receive", DEST_PORT, SOURCE_PORT)
SENT = Way("sent", "egress", CgroupHook.EGRESS, "empty_send", SOURCE_PORT, DEST_PORT)


@dataclass
class Post:
    """A workload with one UDP socket in a router of the lab, and the program on its cgroup."""

    router: Router
    limiter: Limiter
    socket: socket.socket
    program: Fd | None = None

    def police(self, manifest: str, hook: CgroupHook) -> None:
        """Enforce a policy on it."""
        with self.router.namespace.entered():
            lowered = self.limiter.apply([self.limiter.workload(WORKLOAD)], manifest)
        (program,) = (
            found
            for found in lowered.objects.values()
            if isinstance(found, Program) and found.hook is hook
        )
        self.program = self.limiter.kernel.bpffs.open(program.path)
        self.router.stack.callback(self.program.close)

    def attach(self, program: Fd, hook: CgroupHook) -> None:
        """Attach a program that is none of fos1d's."""
        kind, what = ATTACH_TYPES[hook], f"attach to {hook}"
        with self.limiter.kernel.cgroups.open(WORKLOAD) as cgroup:
            link = call("bpf_link_create", program.number, cgroup.number, kind, None, what=what)
        self.router.stack.callback(Fd(link).close)
        self.program = program

    def received(self) -> int:
        """Read what waits, and return how many datagrams it was."""
        count = 0
        while True:
            try:
                self.socket.recv(64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return count
            count += 1

    def probed(self, frame: bytes) -> float | None:
        """Return the ns of a run of the program as this workload's, None where there is none."""
        if self.program is None:
            return None
        with self.router.namespace.entered(), inside(self.limiter.root / WORKLOAD):
            verdict, each_ns = test_run(self.program, frame, PROBED)
        if verdict != 1:
            raise RuntimeError(f"the program returned {verdict} for a packet that is allowed")
        return each_ns


def post_in(router: Router, way: Way) -> Post:
    """Make a workload in a router, its socket bound to its port."""
    pins, cgroup = (router.stack.enter_context(made()) for made in (bpf_folder, cgroup_folder))
    place = cgroup / WORKLOAD
    place.mkdir()
    with router.namespace.entered(), inside(place):
        made = router.stack.enter_context(limiter(pins / "fos1", cgroup))
        ours = router.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    ours.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE_BYTES)
    ours.bind((ROUTER[4], way.own_port))
    return Post(router, made, ours)


@contextmanager
def inside(cgroup: Path) -> Iterator[None]:
    """Move this process into a cgroup for a while: its sockets, and programs that it tests, count
    as the cgroup's."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    root = Cgroupfs().root()
    assert root is not None
    home = root / next(line[4:] for line in lines if line.startswith("0::/"))
    (cgroup / "cgroup.procs").write_text("0")
    try:
        yield
    finally:
        (home / "cgroup.procs").write_text("0")


# The comparison


@dataclass(frozen=True)
class Case:
    """One of those that are compared: what it puts onto the cgroup, and hosts that no rule allows,
    of whose packets `strange` pass."""

    side: Side
    prepare: Callable[[Post], object]
    strangers: Networks
    strange: int


@dataclass(frozen=True)
class Aim:
    """A case whose flows are known, and what makes its packets."""

    case: Case
    post: Post
    fire: Callable[[int], Reading]
    frame: bytes

    def measure(self, packets: int) -> None:
        """Measure a round; a third as many packets go before it uncounted."""
        self.fire(packets // 3)
        self.case.side.readings.append(self.fire(packets))


def workload(quick: bool) -> Table:
    """Packets that a rule allows a workload to receive or send, by how many rules there are."""
    random = np.random.default_rng(31)
    rows: list[Row] = []
    bars: list[Bar] = []
    notes: list[str] = []
    with laboratory() as lab, loaded("empty") as empty:
        for way in (RECEIVED, SENT):
            by_size: dict[int, dict[str, Case]] = {}
            for size in FEW_AND_MANY:
                tick(f" {way.what} {size:,} ")
                cases = by_size[size] = _cases(way, draw_rules(size, random), empty, random)
                _measured(lab, way, cases, QUICK if quick else Effort(15, 60_000))
                sides = [case.side for case in cases.values()]
                rows += rows_of(sides, f"{size:,}", cases["empty"].side)
            bars += _bars(by_size)
            notes += _notes(by_size)
    title = f"What a workload receives and sends, {HOSTS:,} flows, rules of network and port range"
    return Table(
        "workload",
        title,
        "ns/packet",
        "an empty program",
        tuple(rows),
        tuple(bars),
        tuple(notes),
    )


def _cases(way: Way, rules: Rules, empty: Loaded, random: Random) -> dict[str, Case]:
    peers = rules.networks.members(HOSTS, random)
    others = strangers(rules.networks, AT_ONCE, random)

    def case(what: str, prepare: Callable[[Post], object], strange: int = 0) -> Case:
        side = Side(f"{way.what}, {what}", partial(post_in, way=way), peers)
        return Case(side, prepare, others, strange)

    def policed(what: str, manifest: str) -> Case:
        return case(f"fos1d, {what}", lambda post: post.police(manifest, way.hook))

    def networks(stateful: bool) -> str:
        return network_policy(rules, stateful, ALL_WORKLOADS, way.rules)

    attached = partial(Post.attach, program=empty.program(way.empty), hook=way.hook)
    return {
        "none": case("no program", lambda post: None, AT_ONCE),
        "empty": case("an empty program", attached, AT_ONCE),
        "known": policed("known flows", networks(True)),
        "each": policed("stateless", networks(False)),
        "limited": policed(
            "known flows, account, limit", container_policy(rules, way.rules, BITS_PER_S)
        ),
    }


def _measured(lab: Lab, way: Way, cases: Mapping[str, Case], effort: Effort) -> None:
    with ExitStack() as stack:
        aims = [_aimed(lab, way, case, stack) for case in cases.values()]
        for _ in range(effort.rounds):
            tick()
            for aim in aims:
                aim.measure(effort.packets)
        for aim in aims:
            probes = [ns for _ in range(5) if (ns := aim.post.probed(aim.frame)) is not None]
            aim.case.side.program_ns = middle(probes) if probes else None


def _aimed(lab: Lab, way: Way, case: Case, stack: ExitStack) -> Aim:
    """Set a case up, check that it does what it shall, and let its flows be answered."""
    router = stack.enter_context(lab.router())
    router.poll_without_xdp()
    reach_sources(router, 4)
    post = post_in(router, way)
    case.prepare(post)
    peers = case.side.sources
    gun = stack.enter_context(lab.gun(router, peers, _incoming(way)))
    sender = Sender(post.socket, peers, way.peer_port)
    _check(lab, way, case, post)
    volleys = (gun.fire, sender.fire) if way is RECEIVED else (sender.fire, gun.fire)
    for volley in volleys:
        volley(len(peers))
    return Aim(case, post, volleys[0], _probe(way, peers))


def _check(lab: Lab, way: Way, case: Case, post: Post) -> None:
    """Raise RuntimeError unless peers are let by, and strangers where nothing denies them."""
    passed = [_passed(lab, way, post, hosts) for hosts in (case.side.sources, case.strangers)]
    if passed != [AT_ONCE, case.strange]:
        what = f"of {AT_ONCE} packets of peers and of strangers passed {passed}"
        raise RuntimeError(f"{case.side.what}: {what}")


def _passed(lab: Lab, way: Way, post: Post, hosts: Networks) -> int:
    """Return how many of the packets of a few hosts the programs let by."""
    if way is RECEIVED:
        with lab.gun(post.router, hosts, _incoming(way)) as gun:
            gun.fire(AT_ONCE)
        return post.received()
    try:
        Sender(post.socket, hosts, way.peer_port).send()
    except PermissionError:
        return 0
    return AT_ONCE


def _incoming(way: Way) -> bytes:
    """Return the frame that comes to the workload's socket."""
    content = frames.udp(way.peer_port, way.own_port, PAYLOAD)
    packet = frames.ipv4("192.0.2.1", ROUTER[4], frames.UDP, content)
    return MAC_BYTES + frames.ethernet(packet)[6:]


def _probe(way: Way, peers: Networks) -> bytes:
    """Return a packet of a known flow as the program sees it."""
    ends = (peers.lines()[0], ROUTER[4])
    source, dest = ends if way is RECEIVED else reversed(ends)
    content = frames.udp(SOURCE_PORT, DEST_PORT, PAYLOAD)
    return frames.ethernet(frames.ipv4(source, dest, frames.UDP, content))


def _bars(by_size: Mapping[int, Mapping[str, Case]]) -> Iterator[Bar]:
    few, many = (by_size[size] for size in FEW_AND_MANY)
    for name in ("known", "each", "limited"):
        ratio = many[name].side.ns / few[name].side.ns
        yield Bar(f"{many[name].side.what}: 10,000 rules beside 10", ratio, 1.15)


def _notes(by_size: Mapping[int, Mapping[str, Case]]) -> Iterator[str]:
    for size, cases in by_size.items():
        for name in ("known", "each", "limited"):
            side, empty = cases[name].side, cases["empty"].side
            more_ns = f"{side.ns - empty.ns:+.0f} ns a packet beside an empty program"
            yield f"{side.what}, {size:,} rules: {more_ns}"

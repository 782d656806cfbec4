"""What it costs the router to drop a packet of a listed source, and to let others by."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import nan
from subprocess import TimeoutExpired

import numpy as np

from fos1d.errors import Fos1Error, KernelError
from tests.bench import ours, peers
from tests.bench.networks import Networks, Random, mixed4, prefixes4, prefixes6, strangers
from tests.bench.results import Bar, Row, Table, middle, spread, tick
from tests.bench.wire import Gun, Lab, Reading, Router, fire_at_thread, laboratory

SIZES = {10: "10", 10_000: "10k", 100_000: "100k", 1_000_000: "1M"}
SOURCES = 1 << 15
MOST_SOURCES = 1_000_000
# Of listed sources none may get through; a packet of the lab's own (neighbours) now and then.
MOST_DELIVERED = 20

Setup = Callable[[Router], object]


@dataclass
class Side:
    """One of those that are compared: what is set up, and which sources it is shot at with."""

    what: str
    setup: Setup
    sources: Networks
    frame: bytes | None = None
    gun: Gun | None = None
    readings: list[Reading] = field(default_factory=list)
    program_ns: float | None = None
    thread_ns: float | None = None
    failure: str = ""

    @property
    def ns(self) -> float:
        """The figure: the median of rounds; not a number if it could not be set up."""
        return middle([reading.router_ns for reading in self.readings] or [nan])

    @property
    def wall_ns(self) -> float:
        """Both ends together by the clock."""
        return middle([reading.wall_ns for reading in self.readings] or [nan])


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: rounds, and packets a volley; a third as many go before it uncounted,
    since the other sides have been in the caches meanwhile."""

    rounds: int
    packets: int


QUICK = Effort(3, 60_000)


def effort_for(size: int, quick: bool) -> Effort:
    """Return how long to measure lists of a size: of a million, a volley must meet many."""
    if quick:
        return QUICK
    return Effort(7, 300_000) if size > 100_000 else Effort(15, 100_000)


def compared(
    lab: Lab,
    sides: Sequence[Side],
    effort: Effort,
    most_delivered: int | None = MOST_DELIVERED,
) -> None:
    """Measure all sides in turn, round by round.

    Raises RuntimeError if more packets of a volley than `most_delivered` get through.
    """
    with ExitStack() as stack:
        ready = [side for side in sides if _is_ready(side, lab, stack)]
        for _ in range(effort.rounds):
            tick()
            for side in ready:
                side.readings.append(_fired(side, effort.packets, most_delivered))
        for side in ready:
            side.thread_ns = middle([fire_at_thread(_aimed(side), effort.packets) for _ in "123"])
            side.program_ns = _probed(_aimed(side), effort.packets)


def _is_ready(side: Side, lab: Lab, stack: ExitStack) -> bool:
    """Set a side up; if that fails, remember why: the others are measured all the same."""
    router = stack.enter_context(lab.router())
    try:
        side.setup(router)
    except (AssertionError, Fos1Error, RuntimeError, TimeoutExpired) as error:
        side.failure = " ".join(str(error).split())[:400]
        print(f"   {side.what} could not be set up: {side.failure}", file=sys.stderr)
        return False
    side.gun = stack.enter_context(lab.gun(router, side.sources, side.frame))
    side.gun.fire(len(side.sources))
    return True


def _aimed(side: Side) -> Gun:
    assert side.gun is not None
    return side.gun


def _fired(side: Side, packets: int, most_delivered: int | None) -> Reading:
    gun = _aimed(side)
    gun.fire(packets // 3)
    reading = gun.fire(packets)
    if most_delivered is not None and reading.delivered > most_delivered:
        raise RuntimeError(f"{side.what}: {reading.delivered} of {packets} packets got through")
    return reading


def _probed(gun: Gun, packets: int) -> float | None:
    """Return the time of the XDP program alone; None where there is none that can be called."""
    try:
        program = gun.router.xdp_program()
        gun.probe(program, packets)
        return middle([gun.probe(program, packets) for _ in range(5)])
    except (KernelError, KeyError):
        return None


def rows_of(sides: Sequence[Side], n: str, yardstick: Side) -> Iterator[Row]:
    """Yield a group's rows, the yardstick among them."""
    for side in sides:
        if side.failure:
            yield Row(side.what, n, nan, None, {"rounds": "could not be set up"})
            continue
        beside = side.wall_ns - yardstick.wall_ns + yardstick.ns
        more: dict[str, float | str] = {
            "rounds": spread([reading.router_ns for reading in side.readings]),
            "mean": middle([reading.mean_ns for reading in side.readings]),
            "by the clock": beside,
            "thread": side.thread_ns or "",
            "program alone": side.program_ns or "",
        }
        yield Row(side.what, n, side.ns, side.ns / yardstick.ns, more)


def _bare_drop(lab: Lab) -> Setup:
    return lambda router: router.run_xdp(lab.bare.program("bare_drop"))


def _sources(networks: Networks, random: Random) -> Networks:
    count = min(max(SOURCES, len(networks)), MOST_SOURCES)
    return networks.members(count, random)


def _side(
    what: str, networks: Networks, setup: Callable[[Router, Networks], object], sources: Networks
) -> Side:
    return Side(what, lambda router: setup(router, networks), sources)


def sides_of(lab: Lab, size: int, random: Random) -> dict[str, Side]:
    """Return all sides of one size, by short names."""
    hosts, nets = prefixes4(size, 32, random), prefixes4(size, 28, random)
    mixed = mixed4(size, random)
    of_hosts, of_nets = _sources(hosts, random), _sources(nets, random)
    sides = {
        "bare": Side("bare XDP_DROP", _bare_drop(lab), of_hosts),
        "ours-hosts": _side("fos1d, hosts", hosts, ours.run_blacklist, of_hosts),
        "ours-nets": _side("fos1d, /28", nets, ours.run_blacklist, of_nets),
        "ours-mixed": _side(
            "fos1d, mixed list", mixed, ours.run_blacklist, _sources(mixed, random)
        ),
        "nft-hosts": _side("nftables, hosts", hosts, peers.run_nftables, of_hosts),
        "nft-nets": _side("nftables, /28 intervals", nets, peers.run_nftables, of_nets),
        "ipset-hosts": _side("iptables + ipset hash:ip", hosts, peers.run_ipset, of_hosts),
        "ipset-nets": _side("iptables + ipset hash:net", nets, peers.run_ipset, of_nets),
    }
    if size == peers.XDP_FILTER_MOST:
        side = _side("xdp-filter, hosts", hosts, peers.run_xdp_filter, of_hosts)
        sides = {"bare": sides.pop("bare"), "xdp-filter": side, **sides}
    return sides


def drop4(quick: bool) -> Table:
    """IPv4: listed sources at every size."""
    random = np.random.default_rng(4)
    rows: list[Row] = []
    bars: list[Bar] = []
    with laboratory() as lab:
        for size, n in SIZES.items():
            if quick and size > 10_000:
                break
            tick(f" {n} ")
            sides = sides_of(lab, size, random)
            compared(lab, list(sides.values()), effort_for(size, quick))
            rows += rows_of(list(sides.values()), n, sides["bare"])
            bars += _bars4(sides, n)
    return Table(
        "drop",
        "Dropping listed IPv4 sources, random among them",
        "ns/packet",
        "bare XDP_DROP",
        tuple(rows),
        tuple(bars),
        (peers.versions(),),
    )


def _bars4(sides: dict[str, Side], n: str) -> Iterator[Bar]:
    def ratio(one: str, other: str) -> float:
        return sides[one].ns / sides[other].ns

    if "xdp-filter" in sides:
        yield Bar(f"hosts at {n} beside xdp-filter", ratio("ours-hosts", "xdp-filter"), 0.8)
    yield Bar(f"/28 at {n} beside nftables intervals", ratio("ours-nets", "nft-nets"), 0.4)
    if n == "1M":
        yield Bar("/28 at 1M beside ipset hash:net", ratio("ours-nets", "ipset-nets"), 0.6)


def drop6(quick: bool) -> Table:
    """IPv6: listed sources at two sizes."""
    random = np.random.default_rng(6)
    rows: list[Row] = []
    with laboratory() as lab:
        for size in (10_000,) if quick else (10_000, 1_000_000):
            tick(f" {SIZES[size]} ")
            hosts, nets = prefixes6(size, 128, random), prefixes6(size, 48, random)
            of_hosts, of_nets = _sources(hosts, random), _sources(nets, random)
            sides = [
                Side("bare XDP_DROP", _bare_drop(lab), of_hosts),
                _side("fos1d, /128", hosts, ours.run_blacklist, of_hosts),
                _side("fos1d, /48", nets, ours.run_blacklist, of_nets),
                _side("nftables, /128", hosts, peers.run_nftables, of_hosts),
                _side("nftables, /48 intervals", nets, peers.run_nftables, of_nets),
                _side("ip6tables + ipset hash:ip", hosts, peers.run_ipset, of_hosts),
                _side("ip6tables + ipset hash:net", nets, peers.run_ipset, of_nets),
            ]
            if size == peers.XDP_FILTER_MOST:
                sides.insert(1, _side("xdp-filter, /128", hosts, peers.run_xdp_filter, of_hosts))
            compared(lab, sides, effort_for(size, quick))
            rows += rows_of(sides, SIZES[size], sides[0])
    title = "Dropping listed IPv6 sources, random among them"
    return Table("drop6", title, "ns/packet", "bare XDP_DROP", tuple(rows))


def unlisted(quick: bool) -> Table:
    """What sources pay that are not listed, at 10 and at a million entries.

    Behind the blacklist stands a user's program that drops everything, so that the figure holds
    the blacklist and not what the kernel does with a packet that it lets in.
    """
    random = np.random.default_rng(7)
    effort = QUICK if quick else Effort(25, 100_000)
    most = 100_000 if quick else 1_000_000
    cases = (
        ("IPv4 hosts", prefixes4, 32),
        ("IPv4 /28", prefixes4, 28),
        ("IPv6 /48", prefixes6, 48),
    )
    rows: list[Row] = []
    bars: list[Bar] = []
    with laboratory() as lab:
        for name, draw, bits in cases:
            tick(f" {name} ")
            few, many = (draw(size, bits, random) for size in (10, most))
            sources = strangers(many, SOURCES, random)
            sides = [
                Side("bare XDP_DROP", _bare_drop(lab), sources),
                _side(f"unlisted, {name}", few, ours.run_blacklist_before_drop, sources),
                _side(f"unlisted, {name}", many, ours.run_blacklist_before_drop, sources),
            ]
            compared(lab, sides, effort)
            for side, n in zip(sides, ("", "10", SIZES[most]), strict=True):
                rows += rows_of([side], n, sides[0])
            ratio = sides[2].ns / sides[1].ns
            bars.append(Bar(f"unlisted, {name}: {SIZES[most]} beside 10", ratio, 1.15))
    title = "Letting unlisted sources by, then a bare drop"
    return Table("unlisted", title, "ns/packet", "bare XDP_DROP", tuple(rows), tuple(bars))

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
QUICK_MOST = 10_000
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
        more: dict[str, float | str] = {
            "rounds": spread([reading.router_ns for reading in side.readings]),
            "mean": middle([reading.mean_ns for reading in side.readings]),
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


@dataclass(frozen=True, slots=True)
class Family:
    """What is compared in one family: the length of the networks, and the sizes of the lists."""

    version: int
    draw: Callable[[int, int, Random], Networks]
    net_bits: int
    host_bits: int
    tables: str
    sizes: Sequence[int]


FOUR = Family(4, prefixes4, 28, 32, "iptables", tuple(SIZES))
SIX = Family(6, prefixes6, 48, 128, "ip6tables", (10_000, 1_000_000))


def sides_of(lab: Lab, family: Family, size: int, random: Random) -> dict[str, Side]:
    """Return all sides of one size, by short names."""
    hosts = family.draw(size, family.host_bits, random)
    nets = family.draw(size, family.net_bits, random)
    of_hosts, of_nets = _sources(hosts, random), _sources(nets, random)
    slash, ipset = f"/{family.net_bits}", f"{family.tables} + ipset"
    sides = {"bare": Side("bare XDP_DROP", _bare_drop(lab), of_hosts)}
    if size == peers.XDP_FILTER_MOST:
        sides["xdp-filter"] = _side("xdp-filter, hosts", hosts, peers.run_xdp_filter, of_hosts)
    sides |= {
        "ours-hosts": _side("fos1d, hosts", hosts, ours.run_blacklist, of_hosts),
        "ours-nets": _side(f"fos1d, {slash}", nets, ours.run_blacklist, of_nets),
    }
    if family.version == 4:
        mixed = mixed4(size, random)
        of_mixed = _sources(mixed, random)
        sides["ours-mixed"] = _side("fos1d, mixed list", mixed, ours.run_blacklist, of_mixed)
    return sides | {
        "nft-hosts": _side("nftables, hosts", hosts, peers.run_nftables, of_hosts),
        "nft-nets": _side(f"nftables, {slash} intervals", nets, peers.run_nftables, of_nets),
        "ipset-hosts": _side(f"{ipset} hash:ip", hosts, peers.run_ipset, of_hosts),
        "ipset-nets": _side(f"{ipset} hash:net", nets, peers.run_ipset, of_nets),
    }


def drop4(quick: bool) -> Table:
    """IPv4: listed sources at every size."""
    return _dropped("drop", FOUR, quick)


def drop6(quick: bool) -> Table:
    """IPv6: listed sources at two sizes."""
    return _dropped("drop6", SIX, quick)


def _dropped(name: str, family: Family, quick: bool) -> Table:
    random = np.random.default_rng(family.version)
    rows: list[Row] = []
    bars: list[Bar] = []
    with laboratory() as lab:
        for size in family.sizes:
            if quick and size > QUICK_MOST:
                break
            tick(f" {SIZES[size]} ")
            sides = sides_of(lab, family, size, random)
            compared(lab, list(sides.values()), effort_for(size, quick))
            rows += rows_of(list(sides.values()), SIZES[size], sides["bare"])
            bars += _bars(sides, f"/{family.net_bits}", SIZES[size])
    title = f"Dropping listed IPv{family.version} sources, random among them"
    notes = (peers.versions(),)
    return Table(name, title, "ns/packet", "bare XDP_DROP", tuple(rows), tuple(bars), notes)


def _bars(sides: dict[str, Side], slash: str, n: str) -> Iterator[Bar]:
    def ratio(one: str, other: str) -> float:
        return sides[one].ns / sides[other].ns

    if "xdp-filter" in sides:
        yield Bar(f"hosts at {n} beside xdp-filter", ratio("ours-hosts", "xdp-filter"), 0.8)
    yield Bar(f"{slash} at {n} beside nftables intervals", ratio("ours-nets", "nft-nets"), 0.4)
    if n == "1M":
        yield Bar(f"{slash} at 1M beside ipset hash:net", ratio("ours-nets", "ipset-nets"), 0.6)


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

"""What it costs the router to forward packets that some rule allows, by the number of rules."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from subprocess import TimeoutExpired

import numpy as np

from fos1d.errors import Fos1Error
from fos1d.model.facts import FastPath
from tests import frames
from tests.bench import ours
from tests.bench.drop import QUICK, Effort, Side, rows_of
from tests.bench.legit import BEHIND, FAR_END, forwarding
from tests.bench.networks import Networks, Random
from tests.bench.nft_rules import concatenation, linear, run_nftables, tracked, verdict_map
from tests.bench.results import Bar, Row, Table, tick
from tests.bench.rules import DEST_PORT, SOURCE_PORT, Rules, draw_rules, network_policy
from tests.bench.wire import INTERFACE, OUT, PAYLOAD, Lab, Router, datagram, laboratory, table_of

SIZES = (10, 100, 1_000, 10_000)
FEW_AND_MANY = (10, 10_000)
FLOWS = 8192
# Twice what the table of new flows holds, half of what conntrack does: a flow is forgotten before
# it comes again.
NEW_FLOWS = 1 << 17
PEERS = (
    ("each", "map"),
    ("each", "concatenation"),
    ("known", "tracked"),
    ("new", "tracked new"),
)
ANSWERED = {"known", "fast", "tracked"}
EVERYBODY = (
    "plain",
    "fast",
    "known",
    "new",
    "each",
    "linear",
    "map",
    "concatenation",
    "tracked",
    "tracked new",
)
GROWING = ("plain", "fast", "known", "new", "each")
MAPS_ONLY = ("plain", "fast", "known", "each", "map", "concatenation")
GATEWAY = {4: "198.51.100.9", 6: "2001:db8:1::9"}
GATEWAY_MAC = "02:00:00:00:00:08"


# fos1d


def run_policy(
    router: Router, rules: Rules, stateful: bool, fast_path: FastPath = FastPath.OFF
) -> None:
    """Apply the rules as a manifest."""
    router.poll_without_xdp()
    ours.applied_to(router, {"policy.yaml": network_policy(rules, stateful)}, fast_path)


def answer(router: Router, sources: Networks) -> None:
    """Let the host behind the router answer every source once, so that their flows are known."""
    reach_sources(router, sources.family)
    (link,) = json.loads(router.namespace.ip("-j", "link", "show", "dev", OUT))
    head = bytes.fromhex(link["address"].replace(":", "") + GATEWAY_MAC.replace(":", ""))
    with router.namespace.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as far:
        far.bind((FAR_END, 0))
        for packet in answers(sources):
            far.send(head + frames.ethernet(packet)[12:])


def reach_sources(router: Router, family: int) -> None:
    """Have a router send what is for its sources to a neighbour that is not there."""
    gateway = GATEWAY[family]
    neighbour = ("neigh", "replace", gateway, "lladdr", GATEWAY_MAC, "dev", INTERFACE)
    router.namespace.ip(*neighbour, "nud", "permanent")
    route = ("route", "replace", "default", "via", gateway, "dev", INTERFACE)
    router.namespace.ip(f"-{family}", *route)


def answers(sources: Networks) -> Iterator[bytes]:
    """Yield the packets by which the host behind the router answers each source."""
    if sources.family == 6:
        content = frames.udp(DEST_PORT, SOURCE_PORT)
        for source in sources.lines():
            yield frames.ipv6(BEHIND[6], source, frames.UDP, content)
        return
    # A header's checksum stays the same when its addresses change places.
    rows = table_of(sources, datagram(4, BEHIND[4]))
    content = frames.udp(DEST_PORT, SOURCE_PORT, PAYLOAD)
    for number, source in enumerate(sources.lines()):
        packet = frames.ipv4(BEHIND[4], source, frames.UDP, content)
        yield packet[:10] + rows[8 * number + 4 : 8 * number + 6] + packet[12:]


# The comparison


def policy(quick: bool) -> Table:
    """Forwarded packets that a rule allows, by how many rules there are."""
    by_size, rows = _forwarded(quick, 4, SIZES, EVERYBODY, np.random.default_rng(24))
    return Table("policy", _title("IPv4"), "ns/packet", "no filter", rows, tuple(_bars(by_size)))


def policy6(quick: bool) -> Table:
    """The same of IPv6, for the fewest and the most rules."""
    by_size, rows = _forwarded(quick, 6, FEW_AND_MANY, MAPS_ONLY, np.random.default_rng(26))
    return Table("policy6", _title("IPv6"), "ns/packet", "no filter", rows, tuple(_bars(by_size)))


def growth(quick: bool) -> Table:
    """What more rules cost: few and many side by side, in the same rounds."""
    random = np.random.default_rng(25)
    rules = {size: draw_rules(size, random) for size in FEW_AND_MANY}
    possible = {size: _sides(rules[size], random) for size in FEW_AND_MANY}
    sides = {f"{name}/{size}": possible[size][name] for name in GROWING for size in FEW_AND_MANY}
    with laboratory() as found:
        measured(found, sides, QUICK if quick else Effort(15, 30_000))
    rows = [
        rows_of([sides[f"{name}/{size}"]], f"{size:,}", sides[f"plain/{size}"])
        for name in GROWING
        for size in FEW_AND_MANY
    ]
    few, many = ([sides[f"{name}/{size}"] for name in GROWING] for size in FEW_AND_MANY)
    bars = (
        Bar(f"{one.what}: 10,000 rules beside 10", other.ns / one.ns, 1.15)
        for one, other in zip(few[1:], many[1:], strict=True)
    )
    title = "Forwarding what a rule allows, with few rules and many in turn"
    what = "ns/packet", "no filter"
    return Table("growth", title, *what, tuple(row for part in rows for row in part), tuple(bars))


def _title(family: str) -> str:
    return (
        f"Forwarding {family} that a rule allows, {FLOWS:,} flows, rules of network and port range"
    )


def _forwarded(
    quick: bool, family: int, sizes: Sequence[int], names: Sequence[str], random: Random
) -> tuple[dict[int, dict[str, Side]], tuple[Row, ...]]:
    """Measure the named sides at each size; return them, and the rows of the table."""
    rows: list[Row] = []
    by_size: dict[int, dict[str, Side]] = {}
    with laboratory() as found:
        for size in sizes:
            tick(f" {size:,} ")
            possible = _sides(draw_rules(size, random, family), random)
            sides = by_size[size] = {name: possible[name] for name in names}
            measured(found, sides, QUICK if quick else Effort(9, 30_000))
            rows += rows_of(list(sides.values()), f"{size:,}", sides["plain"])
    return by_size, tuple(rows)


def measured(lab: Lab, sides: Mapping[str, Side], effort: Effort) -> None:
    """Measure all sides in turn, round by round, those of known flows once these are known."""
    with ExitStack() as stack:
        ready = [side for name, side in sides.items() if _is_ready(name, side, lab, stack)]
        for _ in range(effort.rounds):
            tick()
            for side in ready:
                assert side.gun is not None
                side.gun.fire(effort.packets // 3)
                side.readings.append(side.gun.fire(effort.packets))


def _is_ready(name: str, side: Side, lab: Lab, stack: ExitStack) -> bool:
    router = stack.enter_context(lab.router())
    try:
        side.setup(router)
    except (AssertionError, Fos1Error, RuntimeError, TimeoutExpired) as error:
        side.failure = " ".join(str(error).split())[:400]
        print(f"   {side.what} could not be set up: {side.failure}", file=sys.stderr)
        return False
    side.gun = stack.enter_context(lab.gun(router, side.sources, side.frame))
    before = forwarded(router)
    side.gun.fire(len(side.sources))
    if forwarded(router) - before < len(side.sources):
        raise RuntimeError(f"{side.what} did not forward all of {len(side.sources)} packets")
    if name.partition("/")[0] in ANSWERED:
        answer(router, side.sources)
    return True


def forwarded(router: Router) -> int:
    """Return how many packets left for the host behind the router."""
    (link,) = json.loads(router.namespace.ip("-j", "-s", "link", "show", "dev", OUT))
    return int(link["stats64"]["tx"]["packets"])


def _sides(rules: Rules, random: Random) -> dict[str, Side]:
    known = rules.networks.members(FLOWS, random)
    new = rules.networks.members(NEW_FLOWS, random)
    frame = datagram(known.family, BEHIND[known.family])

    def side(what: str, setup: Callable[[Router], object], sources: Networks = known) -> Side:
        def whole(router: Router) -> None:
            forwarding(router)
            setup(router)

        return Side(what, whole, sources, frame=frame)

    def mine(
        what: str, stateful: bool, sources: Networks = known, fast_path: FastPath = FastPath.OFF
    ) -> Side:
        setup = partial(run_policy, rules=rules, stateful=stateful, fast_path=fast_path)
        return side(f"fos1d, {what}", setup, sources)

    def nft(what: str, text: Callable[[Rules], str]) -> Side:
        return side(f"nftables, {what}", lambda router: run_nftables(router, rules, text(rules)))

    def forgetful(router: Router) -> None:
        run_nftables(router, rules, tracked(rules))
        router.namespace.run("sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=1")

    return {
        "plain": side("no filter", lambda router: router.poll_without_xdp()),
        "fast": mine("known flows, fast path", True, fast_path=FastPath.XDP),
        "known": mine("known flows", True),
        "new": mine("every packet a new flow", True, new),
        "each": mine("stateless", False),
        "linear": nft("one rule each", linear),
        "map": nft("verdict map to chains", verdict_map),
        "concatenation": nft("map of concatenations", concatenation),
        "tracked": nft("conntrack, known flows", tracked),
        "tracked new": side("nftables, conntrack, new flows", forgetful, new),
    }


def _bars(by_size: dict[int, dict[str, Side]]) -> Iterator[Bar]:
    """Yield the bars for the sides that were measured."""
    many = by_size[max(by_size)]
    for name in ("fast", "known"):
        what = f"{many[name].what}, 10,000 rules, beside no filter"
        yield Bar(what, many[name].ns / many["plain"].ns, 1.2)
    for size, sides in by_size.items():
        for one, other in PEERS:
            if {one, other} <= sides.keys():
                what = f"{sides[one].what} beside {sides[other].what}, {size:,} rules"
                yield Bar(what, sides[one].ns / sides[other].ns, 1.0)
    if "linear" in many:
        what = "stateless beside 10,000 linear rules"
        yield Bar(what, many["each"].ns / many["linear"].ns, 1 / 30)

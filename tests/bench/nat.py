"""What translation costs: a packet of a known flow, and a flow that is new."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import nan
from subprocess import TimeoutExpired

import numpy as np
from pyroute2 import NFCTSocket

from fos1d.errors import Fos1Error
from fos1d.kernel.nat_list import flush
from fos1d.model.facts import FastPath
from fos1d.model.translated import Choice
from tests.applied import HEAD, Applied
from tests.bench import ours
from tests.bench.drop import QUICK, Effort
from tests.bench.legit import BEHIND, forwarding
from tests.bench.nat_lab import Endpoints, answer, drawn, gun_of
from tests.bench.policy import reach_sources
from tests.bench.results import Bar, Row, Table, middle, spread, tick
from tests.bench.wire import INTERFACE, OUT, ROUTER, Gun, Lab, Reading, Router, laboratory

FLOWS = (1, 10_000)
NEW_FLOWS = 15_000
PORT = 53
# The router's address outside: of OUT where the inside sends, of INTERFACE where strangers do.
Forget = Callable[[], object]


@dataclass
class Side:
    """One of those that are compared; `forget` makes each of its flows a new one again."""

    what: str
    setup: Callable[[Router], Forget]
    ends: Endpoints
    gun: Gun | None = None
    forget: Forget = field(default=lambda: None)
    readings: list[Reading] = field(default_factory=list)
    failure: str = ""

    @property
    def ns(self) -> float:
        """The median of rounds; not a number if it could not be set up."""
        return middle([reading.router_ns for reading in self.readings] or [nan])


def manifest(spec: str) -> Mapping[str, str | bytes]:
    """Return a policy; `spec` is YAML in one line."""
    kind = "kind: EBPFNATPolicy\nmetadata: {name: bench}\n"
    return {"nat.yaml": f"{HEAD}{kind}spec: {spec}\n"}


MASQUERADE = manifest(f"{{type: masquerade, interface: {OUT}}}")
FORWARDED = manifest(
    f"{{type: dnat, interface: {INTERFACE}, externalIP: {ROUTER[4]}, portMappings:"
    f" [{{protocol: udp, externalPort: {PORT}, internalIP: {BEHIND[4]}}}]}}"
)
NFT_MASQUERADE = f"postrouting priority srcnat; oifname {OUT} masquerade"
NFT_FORWARDED = (
    f"prerouting priority dstnat; ip daddr {ROUTER[4]} udp dport {PORT} dnat to {BEHIND[4]}"
)


def plain(router: Router) -> Forget:
    """Forward and translate nothing."""
    forwarding(router)
    reach_sources(router, 4)
    router.poll_without_xdp()
    return lambda: None


def by_nftables(router: Router, hook: str) -> Forget:
    """Translate by netfilter."""
    plain(router)
    kind, rule = hook.split("; ")
    chain = f"chain nat {{\ntype nat hook {kind};\n{rule}\n}}"
    router.namespace.run("nft", f"table ip bench {{\n{chain}\n}}")
    return partial(_forget_tracked, router)


def _forget_tracked(router: Router) -> None:
    with router.namespace.entered(), NFCTSocket() as tracking:
        tracking.flush()


def by_daemon(router: Router, files: Mapping[str, str | bytes], fast_path: FastPath) -> Forget:
    """Translate by our programs."""
    plain(router)
    made = ours.applied_to(router, files, fast_path)
    return partial(_forget_ours, made)


def _forget_ours(made: Applied) -> None:
    flush(made.kernel.bpffs, Choice())


# The comparison


def sides_of(ends: Endpoints, is_out: bool) -> dict[str, Side]:
    """Return all sides of a way."""
    files, hook = (MASQUERADE, NFT_MASQUERADE) if is_out else (FORWARDED, NFT_FORWARDED)
    what = "masquerade" if is_out else "dnat"
    # Where nothing is translated, what is for the router goes to the host behind it at once.
    direct = ends if is_out else Endpoints(ends.address, ends.port, BEHIND[4], ends.dest_port)

    def mine(fast_path: FastPath, words: str) -> Side:
        setup = partial(by_daemon, files=files, fast_path=fast_path)
        return Side(f"fos1d {what}{words}", setup, ends)

    return {
        "plain": Side("no translation", plain, direct),
        "nft": Side(f"nftables {what}", partial(by_nftables, hook=hook), ends),
        "off": mine(FastPath.OFF, ""),
        "tc": mine(FastPath.TC, ", TC fast path"),
        "xdp": mine(FastPath.XDP, ", XDP fast path"),
    }


def ready(lab: Lab, side: Side, stack: ExitStack) -> bool:
    """Set a side up and aim at it; if that fails, remember why."""
    router = stack.enter_context(lab.router())
    try:
        side.forget = side.setup(router)
    except (AssertionError, Fos1Error, RuntimeError, TimeoutExpired) as error:
        side.failure = " ".join(str(error).split())[:400]
        print(f"   {side.what} could not be set up: {side.failure}", file=sys.stderr)
        return False
    side.gun = stack.enter_context(gun_of(lab, router, side.ends))
    seen = answer(router, side.gun, len(side.ends))
    if len(seen) < len(side.ends):
        raise RuntimeError(f"{side.what}: {len(seen)} of {len(side.ends)} flows came through")
    return True


def measured(lab: Lab, sides: Sequence[Side], effort: Effort, are_new: bool = False) -> None:
    """Measure all sides in turn, round by round."""
    with ExitStack() as stack:
        going = [side for side in sides if ready(lab, side, stack)]
        for _ in range(effort.rounds):
            tick()
            for side in going:
                side.readings.append(_fired(side, effort.packets, are_new))


def _fired(side: Side, packets: int, are_new: bool) -> Reading:
    assert side.gun is not None
    if are_new:
        side.forget()
        return side.gun.fire(len(side.ends))
    side.gun.fire(packets // 3)
    return side.gun.fire(packets)


def rows_of(sides: Sequence[Side], n: str, yardstick: Side) -> Iterator[Row]:
    """Yield a group's rows."""
    for side in sides:
        if side.failure:
            yield Row(side.what, n, nan, None, {"rounds": "could not be set up"})
            continue
        rounds = spread([reading.router_ns for reading in side.readings])
        mean = middle([reading.mean_ns for reading in side.readings])
        yield Row(side.what, n, side.ns, side.ns / yardstick.ns, {"rounds": rounds, "mean": mean})


def bars_of(sides: Mapping[str, Side], n: str) -> Iterator[Bar]:
    """Yield what a known flow's packet may cost."""
    nft, bare = sides["nft"].ns, sides["plain"].ns
    yield Bar(f"TC path beside nftables, {n}", sides["off"].ns / nft, 0.8)
    yield Bar(f"XDP path beside nftables, {n}", sides["xdp"].ns / nft, 0.35)
    yield Bar(f"XDP path beside plain forwarding, {n}", sides["xdp"].ns / bare, 0.55)


def nat(quick: bool) -> Table:
    """Packets of known flows outwards, few flows and many."""
    return _known("nat", True, quick)


def nat_in(quick: bool) -> Table:
    """The same inwards, to a declared port."""
    return _known("nat_in", False, quick)


def _known(name: str, is_out: bool, quick: bool) -> Table:
    random = np.random.default_rng(31)
    effort = QUICK if quick else Effort(11, 60_000)
    rows: list[Row] = []
    bars: list[Bar] = []
    for count in FLOWS:
        tick(f" {count:,} ")
        sides = sides_of(drawn(count, BEHIND[4] if is_out else ROUTER[4], PORT, random), is_out)
        with laboratory() as lab:
            measured(lab, list(sides.values()), effort)
        n = f"{count:,} flow{'s' if count > 1 else ''}"
        rows += rows_of(list(sides.values()), n, sides["nft"])
        bars += bars_of(sides, f"{n} {'out' if is_out else 'in'}")
    way = "outwards, masquerade" if is_out else "inwards, dnat"
    title = f"Packets of known flows {way}: UDP, 64 bytes, checksums on"
    return Table(name, title, "ns/packet", "nftables", tuple(rows), tuple(bars))


def nat_new(quick: bool) -> Table:
    """Flows that are new, of endpoints that are new, and so each with a port to find."""
    ends = drawn(NEW_FLOWS, BEHIND[4], PORT, np.random.default_rng(32))
    sides = {name: side for name, side in sides_of(ends, True).items() if name in ("nft", "off")}
    with laboratory() as lab:
        measured(lab, list(sides.values()), Effort(3 if quick else 11, 0), are_new=True)
    rows = tuple(rows_of(list(sides.values()), f"{NEW_FLOWS:,}", sides["nft"]))
    notes = tuple(
        f"{side.what}: {1e9 / side.ns:,.0f} new flows a second" for side in sides.values()
    )
    bar = Bar("new flows beside nftables", sides["off"].ns / sides["nft"].ns, 0.65)
    title = "New flows outwards, an endpoint each"
    return Table("nat_new", title, "ns/flow", "nftables", rows, (bar,), notes)

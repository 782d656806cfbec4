"""What it costs the router to forward packets that some rule allows, by the number of rules."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from subprocess import TimeoutExpired

import numpy as np

from fos1d.errors import Fos1Error
from tests import frames
from tests.applied import HEAD
from tests.bench import ours
from tests.bench.drop import QUICK, Effort, Side, rows_of
from tests.bench.legit import BEHIND, FAR_END, forwarding
from tests.bench.networks import Networks, Random, prefixes4
from tests.bench.peers import PATIENCE_S
from tests.bench.results import Bar, Row, Table, tick
from tests.bench.wire import INTERFACE, OUT, PAYLOAD, Lab, Router, datagram, laboratory, table_of

SIZES = (10, 100, 1_000, 10_000)
FLOWS = 8192
# Twice what the table of new flows holds, half of what conntrack does: a flow is forgotten before
# it comes again.
NEW_FLOWS = 1 << 17
SOURCE_PORT, DEST_PORT = 4242, 9
PEERS = (
    ("each", "map"),
    ("each", "concatenation"),
    ("known", "tracked"),
    ("new", "tracked new"),
)
ANSWERED = {"known", "tracked"}
GATEWAY, GATEWAY_MAC = "198.51.100.9", "02:00:00:00:00:08"


@dataclass(frozen=True, slots=True)
class Rules:
    """Networks that may send, each to its own range of ports; the lab's port is in all ranges.

    The networks do not overlap, so that every peer can hold the same rules.
    """

    networks: Networks
    first: Sequence[int]
    last: Sequence[int]

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        return zip(self.networks.lines(), self.first, self.last, strict=True)


def draw_rules(count: int, random: Random) -> Rules:
    """Return random rules."""
    networks = prefixes4(count, 16, random)
    first = random.integers(1, DEST_PORT, count, endpoint=True)
    last = random.integers(DEST_PORT, 65535, count, endpoint=True)
    return Rules(networks, first.tolist(), last.tolist())


# Ours


def run_policy(router: Router, rules: Rules, stateful: bool) -> None:
    """Apply the rules as a manifest."""
    router.poll_without_xdp()
    ours.applied_to(router, {"policy.yaml": manifest(rules, stateful)})


def manifest(rules: Rules, stateful: bool) -> str:
    """Return the rules as an EBPFNetworkPolicy."""
    head = (
        f"{HEAD}kind: EBPFNetworkPolicy\nmetadata: {{name: bench}}\nspec:\n"
        f"  policyType: filtering\n  stateful: {str(stateful).lower()}\n"
        f"  selector: {{interfaces: [{INTERFACE}]}}\n  ingress:\n"
    )
    return head + "".join(
        f"  - {{from: [{{ipBlock: {{cidr: {network}}}}}],"
        f" ports: [{{protocol: UDP, port: {first}, endPort: {last}}}]}}\n"
        for network, first, last in rules
    )


def answer(router: Router, sources: Networks) -> None:
    """Let the host behind the router answer every source once, so that their flows are known."""
    namespace = router.namespace
    reach = ("neigh", "replace", GATEWAY, "lladdr", GATEWAY_MAC, "dev", INTERFACE)
    namespace.ip(*reach, "nud", "permanent")
    namespace.ip("route", "replace", "default", "via", GATEWAY, "dev", INTERFACE)
    (link,) = json.loads(namespace.ip("-j", "link", "show", "dev", OUT))
    head = bytes.fromhex(link["address"].replace(":", "") + GATEWAY_MAC.replace(":", ""))
    with namespace.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as far:
        far.bind((FAR_END, 0))
        # A header's checksum stays the same when its addresses change places.
        rows = table_of(sources, datagram(4, BEHIND))
        for number, source in enumerate(sources.lines()):
            content = frames.udp(DEST_PORT, SOURCE_PORT, PAYLOAD)
            packet = frames.ipv4(BEHIND, source, frames.UDP, content)
            checksum = rows[8 * number + 4 : 8 * number + 6]
            whole = packet[:10] + checksum + packet[12:]
            far.send(head + frames.ethernet(whole)[12:])


# nftables


def run_nftables(router: Router, body: str) -> None:
    """Load a table whose chain judges what is forwarded."""
    router.poll_without_xdp()
    text = f"table ip bench {{\n{body}\n}}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(text)
        file.flush()
        router.namespace.run("nft", "-f", file.name, timeout_s=PATIENCE_S)


def chain(rules: str) -> str:
    """Return the chain of nftables that drops what the rules do not accept."""
    return (
        f" chain in {{ type filter hook forward priority 0; policy drop;\n"
        f'  iifname != "{INTERFACE}" accept\n{rules}\n }}'
    )


def linear(rules: Rules) -> str:
    """Return one rule of nftables for each."""
    lines = (f"  ip saddr {n} udp dport {first}-{last} accept" for n, first, last in rules)
    return chain("\n".join(lines))


def verdict_map(rules: Rules) -> str:
    """Return a verdict map of networks, each to a chain with its ports."""
    chains = "\n".join(
        f" chain c{number} {{ udp dport {first}-{last} accept; }}"
        for number, (_, first, last) in enumerate(rules)
    )
    elements = ",\n".join(f"{n} : jump c{number}" for number, (n, _, _) in enumerate(rules))
    return f"{chains}\n{chain(f'  ip saddr vmap {{ {elements} }}')}"


def concatenation(rules: Rules) -> str:
    """Return a verdict map of networks and port ranges side by side."""
    elements = ",\n".join(f"{n} . {first}-{last} : accept" for n, first, last in rules)
    return chain(f"  ip saddr . udp dport vmap {{ {elements} }}")


def tracked(rules: Rules) -> str:
    """Return the same behind connection tracking."""
    elements = ",\n".join(f"{n} . {first}-{last} : accept" for n, first, last in rules)
    return chain(
        f"  ct state established,related accept\n  ip saddr . udp dport vmap {{ {elements} }}"
    )


# The comparison


def policy(quick: bool) -> Table:
    """Forwarded packets that a rule allows, by how many rules there are."""
    random = np.random.default_rng(24)
    rows: list[Row] = []
    by_size: dict[int, dict[str, Side]] = {}
    with laboratory() as found:
        for size in SIZES:
            tick(f" {size:,} ")
            sides = by_size[size] = _sides(draw_rules(size, random), random)
            effort = QUICK if quick else Effort(9, 30_000)
            measured(found, sides, effort)
            rows += rows_of(list(sides.values()), f"{size:,}", sides["plain"])
    title = f"Forwarding what a rule allows, {FLOWS:,} flows, rules of network and port range"
    return Table("policy", title, "ns/packet", "no filter", tuple(rows), tuple(_bars(by_size)))


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
    if name in ANSWERED:
        answer(router, side.sources)
    return True


def forwarded(router: Router) -> int:
    """Return how many packets left for the host behind the router."""
    (link,) = json.loads(router.namespace.ip("-j", "-s", "link", "show", "dev", OUT))
    return int(link["stats64"]["tx"]["packets"])


def _sides(rules: Rules, random: Random) -> dict[str, Side]:
    known = rules.networks.members(FLOWS, random)
    new = rules.networks.members(NEW_FLOWS, random)

    def side(what: str, setup: Callable[[Router], object], sources: Networks = known) -> Side:
        def whole(router: Router) -> None:
            forwarding(router)
            setup(router)

        return Side(what, whole, sources, frame=datagram(4, BEHIND))

    def nft(text: Callable[[Rules], str]) -> Callable[[Router], object]:
        return lambda router: run_nftables(router, text(rules))

    def forgetful(router: Router) -> None:
        run_nftables(router, tracked(rules))
        router.namespace.run("sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=1")

    return {
        "plain": side("no filter", lambda router: router.poll_without_xdp()),
        "known": side("fos1d, known flows", lambda r: run_policy(r, rules, True)),
        "new": side("fos1d, every packet a new flow", lambda r: run_policy(r, rules, True), new),
        "each": side("fos1d, stateless", lambda r: run_policy(r, rules, False)),
        "linear": side("nftables, one rule each", nft(linear)),
        "map": side("nftables, verdict map to chains", nft(verdict_map)),
        "concatenation": side("nftables, map of concatenations", nft(concatenation)),
        "tracked": side("nftables, conntrack, known flows", nft(tracked)),
        "tracked new": side("nftables, conntrack, new flows", forgetful, new),
    }


def _bars(by_size: dict[int, dict[str, Side]]) -> Iterator[Bar]:
    few, many = by_size[min(by_size)], by_size[max(by_size)]
    for name in ("known", "new", "each"):
        what = many[name].what
        yield Bar(f"{what}: 10,000 rules beside 10", many[name].ns / few[name].ns, 1.15)
    yield Bar(
        "known flows, 10,000 rules, beside no filter", many["known"].ns / many["plain"].ns, 1.2
    )
    for size, sides in by_size.items():
        for one, other in PEERS:
            what = f"{sides[one].what} beside {sides[other].what}, {size:,} rules"
            yield Bar(what, sides[one].ns / sides[other].ns, 1.0)
    yield Bar("stateless beside 10,000 linear rules", many["each"].ns / many["linear"].ns, 1 / 30)

"""Policies of many rules: from the file to the first packet that the last rule lets in, what the
daemon computes for it, and what it and its maps take of memory."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

import numpy as np

from fos1d.errors import KernelError
from fos1d.kernel import bpf
from fos1d.kernel.bpffs import Bpffs
from tests.bench.clock import (
    ARRIVAL_S,
    ENOUGH,
    LOOK_S,
    PATIENCE_S,
    WAN,
    Place,
    cpu_s,
    memory_mb,
    place,
    process_of,
    staged,
)
from tests.bench.control import Timed, stopwatch
from tests.bench.nft_rules import concatenation, load_nftables
from tests.bench.results import Row, Table, middle, spread, tick
from tests.bench.rules import DEST_PORT, SOURCE_PORT, Rules, draw_rules, network_policy
from tests.lab import address, namespaces

SIZES = (10, 10_000)
FILE = "policy.yaml"
ROUTER, BEYOND = "203.0.113.1", "203.0.113.2"
IP_TRANSPARENT = 19
# After a change, the daemon writes down for its next start what is in force.
REST_S = 4.0


@dataclass
class Figures:
    """What was measured of policies of one size, by round."""

    nft: list[Timed] = field(default_factory=list)
    cold: list[Timed] = field(default_factory=list)
    one: list[Timed] = field(default_factory=list)
    before_mb: list[float] = field(default_factory=list)
    after_mb: list[float] = field(default_factory=list)
    most_mb: list[float] = field(default_factory=list)
    maps_before_mb: list[float] = field(default_factory=list)
    maps_mb: list[float] = field(default_factory=list)


def rules_load(quick: bool) -> Table:
    """Policies of few and many rules, cold and with one rule replaced, beside nft -f."""
    random = np.random.default_rng(41)
    rows: list[Row] = []
    for size in SIZES:
        tick(f" {size:,} ")
        rules, figures = draw_rules(size + 1, random), Figures()
        for _ in range(1 if quick else 3):
            tick()
            measure(rules, figures)
        rows += _rows(f"{size:,}", figures)
    return Table(
        "rules",
        "Policies of many rules, until in force",
        "ms",
        "nft -f",
        tuple(rows),
        (),
        (
            "in force: from the file's rename into the folder until packets that only its last "
            "rule allows come to a socket of the router; the daemon ran, with a policy of one rule",
            "one rule replaced: the same, by the source of the new rule, of a daemon at rest",
            "nft -f: the same rules as one map of networks and port ranges, loaded by nft(8)",
            "maps: all that the daemon has in the kernel, flow tables and counters among them",
        ),
    )


def measure(rules: Rules, figures: Figures) -> None:
    """Measure a round: nft, the policy cold, and one rule of it replaced twice. The last of the
    rules is the spare one."""
    old, new = _first(rules, len(rules.networks) - 1), _without(rules, len(rules.networks) - 2)
    figures.nft.append(_nft(old))
    with place() as here:
        _prepare(here)
        here.router.write(FILE, _manifest(_first(rules, 1)))
        here.router.start()
        process = process_of(here.router)
        time.sleep(REST_S)
        figures.before_mb.append(memory_mb(process)[0])
        figures.maps_before_mb.append(_maps_mb(here))
        figures.cold.append(_took(here, old))
        for version in (new, old):
            time.sleep(REST_S)
            figures.one.append(_took(here, version))
        after_mb, most_mb = memory_mb(process)
        figures.after_mb.append(after_mb)
        figures.most_mb.append(most_mb)
        figures.maps_mb.append(_maps_mb(here))


def _first(rules: Rules, count: int) -> Rules:
    return _chosen(rules, list(range(count)))


def _without(rules: Rules, left_out: int) -> Rules:
    return _chosen(rules, [n for n in range(len(rules.networks)) if n != left_out])


def _chosen(rules: Rules, numbers: list[int]) -> Rules:
    networks = rules.networks
    return Rules(
        replace(
            networks,
            high=networks.high[numbers],
            low=networks.low[numbers],
            bits=networks.bits[numbers],
        ),
        [rules.first[n] for n in numbers],
        [rules.last[n] for n in numbers],
    )


def _manifest(rules: Rules) -> str:
    return network_policy(rules, selector=f"{{interfaces: [{WAN}]}}")


def _prepare(here: Place) -> None:
    """Let the router take packets of any source from a host beyond."""
    switches = ("net.ipv4.conf.all.rp_filter=0", f"net.ipv4.conf.{WAN}.rp_filter=0")
    here.router.namespace.run("sysctl", "-qw", *switches)
    address(here.beyond, "eth0", f"{BEYOND}/24")


def _took(here: Place, rules: Rules) -> Timed:
    """Put rules in force; say how long it took and how much the daemon computed."""
    process = process_of(here.router)
    network = rules.networks.lines()[-1]
    source = str(ip_network(network).network_address + 1)
    change = staged(here.router.policy / FILE, _manifest(rules).encode())
    before = cpu_s(process)
    taken_s = _seconds_until_let_in(here, change, source)
    return Timed(taken_s, cpu_s(process) - before)


def _seconds_until_let_in(here: Place, act: Callable[[], object], source: str) -> float:
    with _datagrams(here, source) as comes:
        assert not comes(), f"{source} is let in already"
        began = time.monotonic()
        act()
        seen: list[float] = []
        while time.monotonic() < began + PATIENCE_S:
            sent = time.monotonic()
            seen = [*seen, sent] if comes() else []
            if len(seen) == ENOUGH:
                return seen[0] - began
            time.sleep(LOOK_S)
    raise RuntimeError(f"not within {PATIENCE_S} s: {here.router.log()[-2000:]}")


@contextmanager
def _datagrams(here: Place, source: str) -> Iterator[Callable[[], bool]]:
    """Return what sends a datagram to the router and tells whether it comes to its socket."""
    with here.beyond.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with here.router.namespace.entered():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, receiver:
        sender.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        sender.bind((source, SOURCE_PORT))
        receiver.bind((ROUTER, DEST_PORT))

        def comes() -> bool:
            mark = time.monotonic_ns().to_bytes(8, "big")
            sender.sendto(mark, (ROUTER, DEST_PORT))
            while select.select([receiver], [], [], ARRIVAL_S)[0]:
                if receiver.recv(64) == mark:
                    return True
            return False

        yield comes


def _maps_mb(here: Place) -> float:
    """Return what the kernel says that the daemon's pinned maps take."""
    return sum(dict(_map_bytes(Bpffs(here.router.bpffs))).values()) / 1e6


def _map_bytes(bpffs: Bpffs) -> Iterator[tuple[str, int]]:
    """Yield each map's id and memory, once for each pin."""
    for path in bpffs.listing().paths:
        with suppress(KernelError), bpffs.open(path) as fd:
            facts = bpf.fd_facts(fd)
            if "map_id" in facts:
                yield facts["map_id"], int(facts["memlock"])


def _nft(rules: Rules) -> Timed:
    """Load the same rules by nft(8)."""
    with namespaces("nft") as (namespace,):
        before = _children_cpu_s()
        timed, _ = stopwatch(lambda: load_nftables(namespace, rules, concatenation(rules)))
        return Timed(timed.wall_s, _children_cpu_s() - before)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _rows(n: str, figures: Figures) -> Iterator[Row]:
    yardstick = middle([timed.wall_s for timed in figures.nft])

    def row(what: str, times: list[Timed], more: dict[str, float | str]) -> Row:
        wall_ms = [1000 * timed.wall_s for timed in times]
        used_ms = middle([1000 * timed.cpu_s for timed in times])
        columns = {"rounds": spread(wall_ms), "CPU ms": used_ms, **more}
        return Row(what, n, middle(wall_ms), middle(wall_ms) / 1000 / yardstick, columns)

    yield row("nft -f", figures.nft, {})
    memory = {
        "MB before": figures.before_mb,
        "MB after": figures.after_mb,
        "MB at most": figures.most_mb,
        "maps MB before": figures.maps_before_mb,
        "maps MB": figures.maps_mb,
    }
    yield row("fos1d, in force", figures.cold, {k: middle(v) for k, v in memory.items()})
    yield row("fos1d, one rule replaced", figures.one, {})

"""What rules count over a daemon's life, while versions of them come and go."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fos1d import abi
from fos1d.abi import PlaceKind, PolicyAction
from fos1d.compile.policy import compile_chains
from fos1d.compile.policy_model import Limit, Rule, Service
from fos1d.compile.policy_tables import policy_tables
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.counters import STATS, Count, RuleUse, rule_counts, stats_pins
from fos1d.kernel.policy_counters import forget_buckets
from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests import lab
from tests.kernel.policy_rig import TC_NEXT, Place, Rig

pytestmark = pytest.mark.kernel

ALLOW, ROOM = PolicyAction.ACT_ALLOW, int(abi.Size.RULE_BUCKETS)
POLICED, INTERFACE = abi.PlaceFlag.PLACE_POLICED, 2
# Of each version, beside the one that all have.
RULES, VERSIONS = 1_000, 7
LIVING_PORT, FIRST_PORT = 99, 1000
LIVING = 7


@pytest.fixture
def rig(namespace: lab.Namespace, bpffs: Path) -> Iterator[Rig]:
    namespace.ip("link", "add", "name", "v0", "type", "veth", "peer", "name", "v1")
    for name in ("v0", "v1"):
        namespace.ip("link", "set", "dev", name, "up")
    kernel = RealKernel(bpffs)
    try:
        yield Rig(kernel)
    finally:
        kernel.close()


def allow(port: int, counter: int, limit: Limit | None = None) -> Rule:
    services = (Service(f.UDP, port, port),)
    return Rule(frozenset({0}), None, services, ALLOW, counter=counter, limit=limit)


def put(rig: Rig, *rules: Rule) -> None:
    chains = compile_chains((rules, (), (), ()), 1)
    vectors = tuple(int(chain.subjects[0]) for chain in chains)
    place = Place(PlaceKind.PLACE_INTERFACE, INTERFACE, vectors, (POLICED, 0, 0, 0))  # type: ignore[arg-type]
    rig.put(policy_tables(chains), [place], "in")


@cache
def frame(port: int) -> bytes:
    return f.ethernet(f.ipv4("192.0.2.9", "10.0.0.7", f.UDP, f.udp(4000, port, b"12345678")))


def comes(rig: Rig, port: int) -> bool:
    """Whether a datagram to a port is let in."""
    return rig.runners["in"].run(frame(port), INTERFACE).verdict == TC_NEXT


def packets(rig: Rig) -> dict[int, int]:
    """Return how many packets each rule has matched."""
    return {n: use.matched.packets for n, use in rule_counts(rig.kernel.bpffs).items()}


def held(rig: Rig, name: str) -> int:
    """Return how many entries a map has."""
    with rig.open(name) as fd:
        return contents.count_entries(fd, bpf.map_info(fd))


def test_what_a_rule_has_matched_outlives_versions_of_the_rules(rig: Rig) -> None:
    """What stays keeps its count, wherever it moves; what comes begins at none."""
    for version in range(VERSIONS):
        first = 10**6 * (version + 1)
        fresh = [allow(FIRST_PORT + n, first + n) for n in range(RULES)]
        put(rig, *fresh[:version], allow(LIVING_PORT, LIVING), *fresh[version:])
        for port in (LIVING_PORT, *range(FIRST_PORT, FIRST_PORT + RULES)):
            assert comes(rig, port)
        assert packets(rig) == {LIVING: version + 1} | {rule.counter: 1 for rule in fresh}


def test_rules_that_went_and_come_again_begin_at_none(rig: Rig) -> None:
    for rules in ([allow(80, 1), allow(81, 2)], [allow(81, 2)], [allow(80, 1), allow(81, 2)]):
        put(rig, *rules)
        assert comes(rig, 81)
    assert packets(rig) == {1: 0, 2: 3}


def test_no_rules_at_all_in_between(rig: Rig) -> None:
    put(rig, allow(80, 1))
    assert comes(rig, 80)
    put(rig)
    assert packets(rig) == {}
    put(rig, allow(80, 1))
    assert packets(rig) == {1: 0}


def test_a_daemon_that_is_killed_in_between_counts_nothing_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(rig, allow(80, 1), allow(81, 2))
    assert all(comes(rig, 80) for _ in range(5))
    with monkeypatch.context() as patch:
        patch.setattr(Bpffs, "remove", _killed_at_stats)
        with pytest.raises(KeyboardInterrupt):
            put(rig, allow(80, 1))
    bpffs = rig.kernel.bpffs
    assert len(stats_pins(bpffs)) == 2, "what was counted is handed over, and not yet removed"
    assert packets(rig) == {1: 5}
    put(rig, allow(80, 1))
    assert len(stats_pins(bpffs)) == 1
    assert packets(rig) == {1: 5}


def _killed_at_stats(bpffs: Bpffs, path: str) -> None:
    if path.endswith(f"/{STATS}"):
        raise KeyboardInterrupt


def test_the_limit_of_a_new_rule_is_kept(rig: Rig) -> None:
    """Also when buckets of rules that are gone had taken all the room."""
    limit = Limit(8_000, 1_514)
    put(rig, allow(80, 1, limit))
    gone = np.arange(10**9, 10**9 + ROOM, dtype="<u8")
    with rig.open("rule_buckets") as fd:
        contents.write_raw(fd, bpf.map_info(fd), gone.tobytes(), bytes(8 * ROOM))
    assert all(comes(rig, 80) for _ in range(9)), "no limit is kept without a bucket"
    forget_buckets(rig.kernel.bpffs)
    assert not all(comes(rig, 80) for _ in range(9))
    assert held(rig, "rule_buckets") == 1


def test_what_a_limit_drops_is_counted_beside_its_rule(rig: Rig) -> None:
    put(rig, allow(5, 7, Limit(8_000, 500)), allow(6, 8))
    passed = sum(comes(rig, 5) for _ in range(50))
    assert comes(rig, 6)
    assert 0 < passed < 50
    size = len(frame(5))
    assert rule_counts(rig.kernel.bpffs) == {
        7: RuleUse(Count(50, 50 * size), Count(50 - passed, (50 - passed) * size)),
        8: RuleUse(Count(1, size)),
    }
    put(rig, allow(5, 7, Limit(8_000, 500)))
    assert packets(rig) == {7: 50}
    assert rule_counts(rig.kernel.bpffs)[7].exceeding.packets == 50 - passed

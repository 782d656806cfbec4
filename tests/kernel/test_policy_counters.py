"""Where rules count over a daemon's life: more come and go than there is room for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fos1d import abi
from fos1d.abi import PlaceKind, PolicyAction, Reason
from fos1d.compile.policy import compile_chains
from fos1d.compile.policy_model import Limit, Rule, Service
from fos1d.compile.policy_tables import policy_tables
from fos1d.kernel import bpf, contents
from fos1d.kernel.counters import exceeding, rule_counts
from fos1d.kernel.policy_counters import SPARE, free_gone
from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests import lab
from tests.kernel.policy_rig import STAT, TC_NEXT, Place, Rig
from tests.running import until

pytestmark = pytest.mark.kernel

ALLOW, ROOM = PolicyAction.ACT_ALLOW, int(abi.Size.RULE_COUNTERS)
POLICED, INTERFACE = abi.PlaceFlag.PLACE_POLICED, 2
# Of each version, beside the one that all have.
RULES, VERSIONS = 12_000, 7
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
    return {counter: count.packets for counter, count in rule_counts(rig.kernel.bpffs).items()}


def held(rig: Rig, name: str) -> int:
    """Return how many entries a map has."""
    with rig.open(name) as fd:
        return contents.count_entries(fd, bpf.map_info(fd))


def without_room(rig: Rig) -> int:
    """Return how many packets found no slot or bucket."""
    key = int(Reason.NOTE_COUNTERS_FULL).to_bytes(4, "little")
    return int(np.frombuffer(rig.entries("stats")[key], STAT)["packets"].sum())


def take_all_but(rig: Rig, room: int) -> None:
    """Have all slots that are left taken by rules that are gone, but for some."""
    taken = int.from_bytes(rig.entries("rule_slots_taken")[bytes(4)], "little")
    numbers = np.arange(taken + 1, ROOM - room + 1, dtype="<u4")
    counters = numbers.astype("<u8") + 10**9
    with rig.open("rule_slots") as fd:
        contents.write_raw(fd, bpf.map_info(fd), counters.tobytes(), numbers.tobytes())
    rig.write("rule_slots_taken", bytes(4), (ROOM - room).to_bytes(4, "little"))


@contextmanager
def traffic(rig: Rig, port: int) -> Iterator[list[int]]:
    """Packets to a port, without a pause, on another CPU: how many so far."""
    sent, ending = [0], threading.Event()

    def send() -> None:
        while not ending.is_set():
            assert comes(rig, port)
            sent[0] += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent
    finally:
        ending.set()
        sender.join()


def test_more_rules_than_there_is_room_for_are_counted(rig: Rig) -> None:
    """One version after another; what stays keeps its count."""
    bpffs, gone = rig.kernel.bpffs, frozenset[int]()
    for version in range(VERSIONS):
        first = 10**6 * (version + 1)
        fresh = [allow(FIRST_PORT + n, first + n) for n in range(RULES)]
        put(rig, allow(LIVING_PORT, LIVING), *fresh)
        for port in (LIVING_PORT, *range(FIRST_PORT, FIRST_PORT + RULES)):
            assert comes(rig, port)
        gone = free_gone(bpffs, free_gone(bpffs, gone))
        counts = packets(rig)
        assert counts[LIVING] == version + 1
        assert all(counts[first + n] == 1 for n in range(RULES))
    assert VERSIONS * RULES > ROOM
    assert without_room(rig) == 0
    assert held(rig, "rule_slots") <= SPARE + RULES


def test_a_rule_without_room_is_counted_as_soon_as_there_is_some(rig: Rig) -> None:
    put(rig, allow(80, 1), allow(81, 2))
    take_all_but(rig, 1)
    assert comes(rig, 80)
    assert comes(rig, 81)
    assert without_room(rig) == 1
    gone = free_gone(rig.kernel.bpffs)
    assert len(gone) == ROOM - 1
    assert packets(rig).keys() > {1}, "what is gone rests"
    assert not free_gone(rig.kernel.bpffs, gone)
    assert comes(rig, 81)
    assert comes(rig, 80)
    assert without_room(rig) == 1
    assert packets(rig) == {1: 2, 2: 1}


def test_what_is_counted_meanwhile_is_not_lost(rig: Rig) -> None:
    put(rig, allow(80, 1), allow(81, 2))
    assert comes(rig, 81)
    with traffic(rig, 80) as sent:
        until(lambda: sent[0] > 0)
        take_all_but(rig, 0)
        assert not free_gone(rig.kernel.bpffs, free_gone(rig.kernel.bpffs))
    assert {counter: packets for counter, (packets, _) in rig.counts().items()} == {
        1: sent[0],
        2: 1,
    }


def test_the_limit_of_a_new_rule_is_kept(rig: Rig) -> None:
    """Also when buckets of rules that are gone had taken all the room."""
    limit = Limit(8_000, 1_514)
    put(rig, allow(80, 1, limit))
    take_all_but(rig, 1)
    gone = np.arange(10**9, 10**9 + ROOM, dtype="<u8")
    with rig.open("rule_buckets") as fd:
        contents.write_raw(fd, bpf.map_info(fd), gone.tobytes(), bytes(8 * ROOM))
    assert all(comes(rig, 80) for _ in range(9)), "no limit is kept without a bucket"
    free_gone(rig.kernel.bpffs)
    assert not all(comes(rig, 80) for _ in range(9))
    assert held(rig, "rule_buckets") == 1


def test_what_a_limit_drops_is_counted_beside_its_rule(rig: Rig) -> None:
    put(rig, allow(5, 7, Limit(8_000, 500)), allow(6, 8))
    passed = sum(comes(rig, 5) for _ in range(50))
    assert comes(rig, 6)
    assert 0 < passed < 50
    assert packets(rig) == {7: 50, exceeding(7): 50 - passed, 8: 1}

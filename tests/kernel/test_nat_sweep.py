"""What is freed of translations, what is not, what is listed, and what is forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from fos1d import abi
from fos1d.abi import NatBit, NatWay
from fos1d.kernel import bpf, contents
from fos1d.kernel.nat_list import choose, flush
from fos1d.kernel.nat_state import usage
from fos1d.kernel.nat_sweep import IDLE_END_NS, sweep_translations
from fos1d.kernel.port import RealKernel
from fos1d.kinds.program_lower import map_of_shape
from fos1d.model.objects import Entries, KernelObject, key_of
from fos1d.model.pins import SHARED_NAT, state_family
from fos1d.model.translated import Choice, End, Ends
from fos1d.plan.actions import Plan
from tests.contract import reconcile_once

pytestmark = pytest.mark.kernel

Address: TypeAlias = IPv4Address | IPv6Address
S = 10**9
POLICY, GONE, UDP = 77, 78, 17
OUTSIDE = {4: ip_address("203.0.113.1"), 6: ip_address("2001:db8::1")}
OLD_OUTSIDE = {4: ip_address("203.0.113.99"), 6: ip_address("2001:db8::99")}
OTHERS_OUTSIDE = {4: ip_address("203.0.113.2"), 6: ip_address("2001:db8::2")}
INSIDE = {4: ip_address("10.0.0.7"), 6: ip_address("fd00::7")}
FAR = {4: ip_address("198.51.100.9"), 6: ip_address("2001:db8:9::9")}
SHAPES = abi.MAPS["tc_nat4"] | abi.MAPS["tc_nat6"]


def record(kind: abi.Record, **fields: Any) -> bytes:
    """Return a record of the ABI; addresses as such."""
    made = np.zeros((), np.dtype(kind))
    for name, value in fields.items():
        if isinstance(value, IPv4Address | IPv6Address):
            words = np.frombuffer(value.packed, ">u4")
            made[name] = words[0] if value.version == 4 else words
        else:
            made[name] = value
    return made.tobytes()


class Tables:
    """The maps of translations, filled by hand."""

    def __init__(self, kernel: RealKernel, version: int) -> None:
        self.kernel, self.version = kernel, version
        self.now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        state = ("nat_stats", "nat_usage", *(f"nat_{n}{version}" for n in ("flows", "ends")))
        self.maps = {n: map_of_shape(state_family(SHARED_NAT, n), n, SHAPES[n]) for n in state}
        for name in (f"nat_outsides{version}", "nat_policies"):
            family = state_family(SHARED_NAT, f"{name}-00000001")
            self.maps[name] = map_of_shape(family, name, SHAPES[name])
        number = POLICY.to_bytes(4, "little")
        external = {f"external{version}": OUTSIDE[version]}
        outsides = (OUTSIDE[version], OTHERS_OUTSIDE[version])
        keys = [record(getattr(abi, f"NAT_OUTSIDE{version}"), address=a) for a in outsides]
        packed = b"".join(key + number for key in sorted(keys))
        wanted: list[KernelObject] = [
            *self.maps.values(),
            self._entries(f"nat_outsides{version}", packed),
            self._entries("nat_policies", number + record(abi.NAT_POLICY, **external)),
        ]
        assert reconcile_once(kernel, {key_of(obj): obj for obj in wanted}) == Plan()

    def _entries(self, name: str, packed: bytes) -> Entries:
        found = self.maps[name]
        return Entries(found.path, found.key_bytes, found.value_bytes, packed, exclusive=True)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        with self.kernel.bpffs.open(self.maps[name].path) as fd:
            contents.write_entries(fd, bpf.map_info(fd), {key: value})

    def held(self, name: str) -> dict[bytes, bytes]:
        with self.kernel.bpffs.open(self.maps[name].path) as fd:
            return contents.read_entries(fd, bpf.map_info(fd))

    def flow(
        self,
        port: int,
        left_s: float,
        outside: Address | None = None,
        policy: int = POLICY,
        bits: int = NatBit.NAT_SEEN_OUT,
    ) -> None:
        """Put both entries of a flow from an inside port that is kept."""
        there, version = outside or OUTSIDE[self.version], self.version
        key, value = (getattr(abi, f"NAT_FLOW{version}{end}") for end in ("_KEY", ""))
        ends = {
            NatWay.NAT_OUT: ((INSIDE[version], port), (FAR[version], 53), (there, port)),
            NatWay.NAT_IN: ((FAR[version], 53), (there, port), (INSIDE[version], port)),
        }
        for way, (source, dest, becomes) in ends.items():
            self.put(
                f"nat_flows{version}",
                record(
                    key,
                    source=source[0],
                    source_port=source[1],
                    dest=dest[0],
                    dest_port=dest[1],
                    protocol=UDP,
                    way=way,
                ),
                record(
                    value,
                    until_ns=self.now_ns + int(left_s * S),
                    address=becomes[0],
                    port=becomes[1],
                    bits=bits,
                    policy=policy,
                ),
            )

    def end(self, port: int, left_s: float, inside: Address | None = None) -> None:
        """Put both entries of an end whose port is kept; its own only one, if it is outside."""
        within, there, version = inside or INSIDE[self.version], OUTSIDE[self.version], self.version
        key, value = (getattr(abi, f"NAT_END{version}{end}") for end in ("_KEY", ""))
        life = {"until_ns": self.now_ns + int(left_s * S), "policy": POLICY, "port": port}
        self.put(
            f"nat_ends{version}",
            record(key, address=there, port=port, protocol=UDP, way=NatWay.NAT_IN),
            record(value, address=within, **life),
        )
        if within != there:
            self.put(
                f"nat_ends{version}",
                record(
                    key, address=within, outside=there, port=port, protocol=UDP, way=NatWay.NAT_OUT
                ),
                record(value, address=there, **life),
            )

    def lives_s(self) -> set[int]:
        """Return how long the ends live."""
        kind = np.dtype(getattr(abi, f"NAT_END{self.version}"))
        values = (np.frombuffer(v, kind) for v in self.held(f"nat_ends{self.version}").values())
        return {round((int(value["until_ns"][0]) - self.now_ns) / S) for value in values}


@pytest.fixture
def kernel(bpffs: Path) -> Iterator[RealKernel]:
    """The kernel, on a folder of its own."""
    made = RealKernel(bpffs)
    yield made
    made.close()


@pytest.fixture(params=[4, 6])
def tables(kernel: RealKernel, request: pytest.FixtureRequest) -> Tables:
    """The maps of one IP version."""
    return Tables(kernel, request.param)


def test_what_ended_goes_and_what_lives_stays(tables: Tables) -> None:
    tables.flow(5001, 60)
    tables.flow(5002, -1)
    tables.end(5001, 60)
    tables.end(5002, -1)
    swept = sweep_translations(tables.kernel.bpffs, tables.now_ns)
    assert (swept.freed, swept.shortened) == (4, 0)
    assert len(tables.held(f"nat_flows{tables.version}")) == 2
    assert len(tables.held(f"nat_ends{tables.version}")) == 2
    number, counted = tables.held("nat_usage").popitem()
    assert int.from_bytes(number, "little") == POLICY
    assert int(np.frombuffer(counted, np.dtype(abi.NAT_USAGE))["flows"][0]) == 1


def test_what_speaks_of_an_address_that_is_gone_goes(tables: Tables) -> None:
    tables.flow(5001, 60)
    tables.flow(5002, 60, OLD_OUTSIDE[tables.version])
    assert sweep_translations(tables.kernel.bpffs, tables.now_ns).freed == 2
    assert len(tables.held(f"nat_flows{tables.version}")) == 2


def test_what_has_the_address_of_another_policy_goes_but_declared_ports(tables: Tables) -> None:
    others = OTHERS_OUTSIDE[tables.version]
    tables.flow(5001, 60, others)
    tables.flow(5002, 60, others, bits=NatBit.NAT_MAPPED)
    tables.flow(5003, 60, policy=GONE)
    assert sweep_translations(tables.kernel.bpffs, tables.now_ns).freed == 4
    left = choose(tables.kernel.bpffs, Choice(), 10, tables.now_ns).sessions
    assert [session.inside.port for session in left] == [5002]


def test_an_end_without_flows_ends_soon_but_the_routers_own(tables: Tables) -> None:
    tables.flow(5001, 3000)
    tables.end(5001, 3000)
    tables.end(5002, 3000)
    assert sweep_translations(tables.kernel.bpffs, tables.now_ns).shortened == 2
    assert tables.lives_s() == {3000, IDLE_END_NS // S}
    flush(tables.kernel.bpffs, Choice())
    tables.end(5003, 3000, OUTSIDE[tables.version])
    assert sweep_translations(tables.kernel.bpffs, tables.now_ns).shortened == 0
    assert tables.lives_s() == {3000}


def test_what_is_renewed_while_it_is_freed_comes_back(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.flow(5001, -1)
    real = contents.take

    def renewed(fd: bpf.Fd, info: bpf.MapInfo, key: bytes) -> bytes | None:
        """A packet comes just before."""
        tables.flow(5001, 60)
        return real(fd, info, key)

    monkeypatch.setattr(contents, "take", renewed)
    sweep_translations(tables.kernel.bpffs, tables.now_ns)
    assert len(tables.held(f"nat_flows{tables.version}")) == 2


def test_counters_of_policies_that_are_gone_go(tables: Tables) -> None:
    size = np.dtype(abi.NAT_STAT).itemsize
    for number in (POLICY, GONE):
        tables.put("nat_stats", number.to_bytes(4, "little"), bytes(size))
    sweep_translations(tables.kernel.bpffs, tables.now_ns)
    assert [int.from_bytes(key, "little") for key in tables.held("nat_stats")] == [POLICY]


def test_listing(tables: Tables) -> None:
    version = tables.version
    tables.flow(5001, 60)
    tables.flow(5002, -1)
    tables.end(5001, 60)
    tables.end(22, 60, OUTSIDE[version])
    chosen = choose(tables.kernel.bpffs, Choice(), 10, tables.now_ns)
    (session,) = chosen.sessions
    assert (session.inside, session.outside) == (
        End(INSIDE[version], 5001),
        End(OUTSIDE[version], 5001),
    )
    assert (session.far, session.state) == (End(FAR[version], 53), "unanswered")
    assert sorted(binding.own for binding in chosen.bindings) == [False, True]
    use = usage(tables.kernel.bpffs, tables.now_ns)[POLICY]
    assert (use.flows, dict(use.ports)) == (1, {UDP: 1})


def test_choosing(tables: Tables) -> None:
    for port in (5001, 5002, 5003):
        tables.flow(port, 60)
        tables.end(port, 60)
    bpffs, now_ns = tables.kernel.bpffs, tables.now_ns
    inside = Choice(inside=Ends(None, 5002))
    assert choose(bpffs, inside, 10, now_ns).session_count == 1
    assert choose(bpffs, Choice(protocol=6), 10, now_ns).session_count == 0
    assert choose(bpffs, Choice(frozenset({GONE})), 10, now_ns).binding_count == 0
    within = Choice(far=Ends(IPv4Network("198.51.100.0/24")))
    found = choose(bpffs, within, 1, now_ns)
    assert (len(found.sessions), found.session_count, found.binding_count) == (
        (1, 3, 0) if tables.version == 4 else (0, 0, 0)
    )
    gone = flush(bpffs, inside)
    assert (gone.session_count, gone.binding_count) == (1, 1)
    left = choose(bpffs, Choice(), 10, now_ns)
    assert (left.session_count, left.binding_count) == (2, 2)

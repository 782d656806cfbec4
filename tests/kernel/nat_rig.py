"""NAT's programs with rules of a test's own, run packet by packet by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np

from fos1d import abi
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpf import Fd
from fos1d.kernel.libbpf import call
from fos1d.kernel.port import RealKernel
from fos1d.kinds.program_lower import map_of_shape
from fos1d.model.objects import BuiltIn, Entries, Hook, KernelObject, Map, Program, key_of
from fos1d.model.pins import program_family, state_family
from fos1d.plan.actions import Plan
from tests import frames as f
from tests.contract import reconcile_once
from tests.kernel.nat_packets import Seen, read
from tests.kernel.policy_rig import TC_NEXT, TC_REDIRECT, TC_SHOT, Runner

OUTSIDE_IF, INSIDE_IF = 1, 1
POLICY, OTHER_POLICY = 77, 78
FORWARDED_FROM = 36
TIMES = {
    "udp_s": 300,
    "tcp_established_s": 7440,
    "tcp_transitory_s": 240,
    "icmp_s": 60,
    "other_s": 600,
}
HOOKS = {
    "in": Hook.TC_INGRESS,
    "out": Hook.TC_EGRESS,
    "turn_in": Hook.TC_INGRESS,
    "turn_out": Hook.TC_EGRESS,
}
OF_THESE_RULES = (
    "policies",
    "sources",
    "ports",
    "backends",
    "members",
    "outsides",
    "prefixes",
    "version",
)


def record(kind: abi.Record, **fields: Any) -> bytes:
    """Return a record of the ABI, other fields zero."""
    made = np.zeros((), np.dtype(kind))
    for name, value in fields.items():
        made[name] = value
    return made.tobytes()


def words(address: str) -> Any:
    """Return an address as the ABI has it: one number, or four."""
    parsed = ip_address(address)
    if parsed.version == 4:
        return int(parsed)
    return list(struct.unpack("!4I", parsed.packed))


# Rules


@dataclass
class Rules:
    """What the daemon would write. Interface and policy are the first where not told."""

    policies: dict[int, dict[str, Any]] = field(default_factory=dict)
    sources: list[tuple[str, int]] = field(default_factory=list)
    ports: list[tuple[str, str, int, int, dict[str, Any]]] = field(default_factory=list)
    backends: list[list[tuple[str, int]]] = field(default_factory=list)
    members: list[tuple[int, str, int]] = field(default_factory=list)
    outsides: list[tuple[str, int]] = field(default_factory=list)
    prefixes: list[tuple[str, str, str, int]] = field(default_factory=list)


class Nat:
    """The programs of one family under some rules."""

    def __init__(
        self,
        kernel: RealKernel,
        family: int,
        rules: Rules,
        generation: int = 1,
        hooks: str = "in out",
        program: str = "",
    ) -> None:
        self.kernel, self.family, self.hooks = kernel, family, hooks.split()
        self.object = program or f"tc_nat{family}"
        self.runners: dict[str, Runner] = {}
        self.put(rules, generation)

    def put(self, rules: Rules, generation: int) -> None:
        """Load rules and programs; flows, ends and counters stay."""
        tables = dict(self._tables(rules, generation))
        self.maps = {}
        for name, shape in abi.MAPS[self.object].items():
            owner = f"_v{generation}" if self._plain(name) in OF_THESE_RULES else "_nat"
            made = map_of_shape(state_family(owner, name), name, shape)
            if name.startswith("nat_backends"):
                made = replace(made, max_entries=max(1, 1021 * len(rules.backends)))
            self.maps[name] = made
        wanted: list[KernelObject] = [*self.maps.values()]
        for name, rows in tables.items():
            if rows and name in self.maps:
                wanted.append(self._entries(name, b"".join(sorted(rows))))
        knobs = {
            "link_header_bytes": 14,
            "nat_unmarked": 1,
            "nat_has_mirrors": int(any(p[0] == "out" for p in rules.ports)),
            "nat_has_stateless": int(
                bool(rules.prefixes) or any(p[4].get("flags", 0) & 1 for p in rules.ports)
            ),
        }
        knobs = {name: knobs[name] for name in knobs if name in abi.KNOBS[self.object]}
        programs = {way: self._program(way, generation, knobs) for way in self.hooks}
        wanted += programs.values()
        assert reconcile_once(self.kernel, {key_of(obj): obj for obj in wanted}) == Plan()
        self.runners = {w: Runner(self.kernel.bpffs.open(p.path)) for w, p in programs.items()}

    def _plain(self, name: str) -> str:
        return name.removeprefix("nat_").rstrip("46")

    def _source_interface(self) -> int:
        return 0 if self.object == "tc_nat64" else OUTSIDE_IF

    def _named(self, plain: str) -> str:
        return f"nat_{plain}{self.family}"

    @property
    def maps_of(self) -> Iterable[str]:
        """The names of the object's maps."""
        return abi.MAPS[self.object]

    def _entries(self, name: str, packed: bytes) -> Entries:
        found: Map = self.maps[name]
        return Entries(found.path, found.key_bytes, found.value_bytes, packed, exclusive=True)

    def _tables(self, rules: Rules, generation: int) -> Iterator[tuple[str, list[bytes]]]:
        def kind(name: str) -> abi.Record:
            made: abi.Record = getattr(abi, name.replace("#", str(self.family)))
            return made

        yield (
            "nat_policies",
            [
                number.to_bytes(4, "little")
                + record(abi.NAT_POLICY, **{"interface": OUTSIDE_IF, **TIMES, **values})
                for number, values in rules.policies.items()
            ],
        )
        yield "nat_version", [b"\0\0\0\0" + generation.to_bytes(4, "little")]
        yield (
            self._named("sources"),
            [
                record(
                    kind("NAT_SOURCE#"),
                    prefix_bits=32 + ip_network(prefix).prefixlen,
                    interface=self._source_interface(),
                    address=words(str(ip_network(prefix).network_address)),
                )
                + number.to_bytes(4, "little")
                for prefix, number in rules.sources
            ],
        )
        yield (
            self._named("ports"),
            [
                record(
                    kind("NAT_PORT#_KEY"),
                    interface=OUTSIDE_IF,
                    address=words(address),
                    port=port,
                    protocol=protocol,
                    way=int(way == "in"),
                )
                + record(kind("NAT_PORT#"), **{"policy": POLICY, **value})
                for way, address, port, protocol, value in rules.ports
            ],
        )
        slots = [slot for table in rules.backends for slot in table]
        yield (
            self._named("backends"),
            [
                struct.pack("=I", n)
                + record(kind("NAT_BACKEND#"), address=words(address), port=port)
                for n, (address, port) in enumerate(slots)
            ],
        )
        yield (
            self._named("members"),
            [
                record(kind("NAT_MEMBER#"), table=table, address=words(address), port=port)
                + b"\1\0\0\0"
                for table, address, port in rules.members
            ],
        )
        yield (
            self._named("outsides"),
            [
                record(kind("NAT_OUTSIDE#"), address=words(address)) + number.to_bytes(4, "little")
                for address, number in rules.outsides
            ],
        )
        if "nat_prefixes6" in self.maps_of:
            yield "nat_prefixes6", [self._prefix(*row) for row in rules.prefixes]

    def _prefix(self, way: str, old: str, new: str, adjustment: int) -> bytes:
        bits = ip_network(old).prefixlen
        return record(
            abi.NAT_PREFIX_KEY,
            prefix_bits=64 + bits,
            interface=OUTSIDE_IF,
            way=int(way == "in"),
            address=words(str(ip_network(old).network_address)),
        ) + record(
            abi.NAT_PREFIX,
            prefix=words(str(ip_network(new).network_address)),
            bits=bits,
            policy=POLICY,
            adjustment=adjustment,
        )

    def _program(self, way: str, generation: int, knobs: dict[str, int]) -> Program:
        bound = tuple(sorted((name, found.path) for name, found in self.maps.items()))
        return Program(
            program_family("_nat"),
            f"{way}{generation}",
            frozenset(path for _, path in bound),
            HOOKS[way],
            BuiltIn(self.object, f"fos1_{self.object}_{way}"),
            tuple(sorted(knobs.items())),
            bound,
        )

    # Packets through hooks

    def out(self, sent: bytes, own: bool = False) -> Seen | None:
        """Let a packet leave by the outside interface; None: it was dropped."""
        return self._see(self._run("out", sent, 0 if own else 2))

    def come(self, sent: bytes) -> Seen | None:
        """Let a packet come in by the outside interface."""
        return self._see(self._run("in", sent, 0))

    def turn(self, sent: bytes, own: bool = False) -> Seen | None:
        """Let a packet come in by an inside interface and leave by one."""
        arrived = sent if own else self._run("turn_in", sent, 0)
        if arrived is None:
            return None
        return self._see(self._run("turn_out", arrived, 0 if own else 2))

    def _see(self, data: bytes | None) -> Seen | None:
        return None if data is None else read(data)

    def _run(self, way: str, sent: bytes, came_by: int) -> bytes | None:
        runner = self.runners[way]
        struct.pack_into("=I", runner.context, FORWARDED_FROM, came_by)
        ran = runner.run(f.ethernet(sent), OUTSIDE_IF)
        if ran.verdict == TC_SHOT:
            return None
        assert ran.verdict in (TC_NEXT, TC_REDIRECT)
        assert ran.frame[:14] == f.ethernet(ran.frame[14:])[:14]
        return ran.frame[14:]

    # Tables

    def open(self, name: str) -> Fd:
        """Open a map by its name."""
        return self.kernel.bpffs.open(self.maps[name].path)

    def rows(self, plain: str) -> list[tuple[Any, Any]]:
        """Return the keys and values of nat_flows or nat_ends."""
        kind = getattr(abi, f"NAT_{plain[:-1].upper()}{self.family}")
        key_kind = getattr(abi, f"NAT_{plain[:-1].upper()}{self.family}_KEY")
        with self.open(self._named(plain)) as fd:
            found = dict(contents.read_whole(fd, bpf.map_info(fd)))
        return [
            (np.frombuffer(k, np.dtype(key_kind))[0], np.frombuffer(v, np.dtype(kind))[0])
            for k, v in sorted(found.items())
        ]

    def lose(self, plain: str, which: Callable[[Any], bool]) -> None:
        """Delete the entries of some keys."""
        keys = [key.tobytes() for key, _ in self.rows(plain) if which(key)]
        with self.open(self._named(plain)) as fd:
            contents.delete_entries(fd, bpf.map_info(fd), keys)

    def age(self, seconds: float) -> None:
        """Let flows and ends grow older."""
        by = int(seconds * 1e9)
        for plain in ("flows", "ends"):
            with self.open(self._named(plain)) as fd:
                for key, value in self.rows(plain):
                    older = np.array(value).copy()
                    for name in ("until_ns", "fresh_ns"):
                        if name in (older.dtype.names or ()):
                            older[name] = max(1, int(older[name]) - by)
                    call(
                        "bpf_map_update_elem",
                        fd.number,
                        key.tobytes(),
                        older.tobytes(),
                        0,
                        what="age",
                    )

    def counts(self, policy: int = POLICY) -> dict[str, int]:
        """Return a policy's counters."""
        kind = np.dtype(abi.NAT_STAT)
        with self.open("nat_stats") as fd:
            found = dict(contents.read_raw(fd, bpf.map_info(fd)))
        if policy.to_bytes(4, "little") not in found:
            return dict.fromkeys(kind.names or (), 0)
        stats = np.frombuffer(found[policy.to_bytes(4, "little")], kind)
        return {name: int(stats[name].sum()) for name in kind.names or ()}

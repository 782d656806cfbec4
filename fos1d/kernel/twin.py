"""Twins of loaded programs: the same code, knobs and tables, but maps of their own.

A twin is run on a packet (BPF_PROG_TEST_RUN) and leaves no trace: what it counts and remembers is
in maps that end with it. What only the daemon writes it shares with the original, or has a copy.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from fos1d import abi
from fos1d.abi import RuleRow
from fos1d.errors import KernelError
from fos1d.kernel import bpf, contents, libbpf
from fos1d.kernel.bpf import Fd
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.counters import STATS, read_stats
from fos1d.kernel.libbpf import call
from fos1d.kernel.loader import load
from fos1d.model.objects import Hook, Program

K = TypeVar("K")
STATE = "state/"
# What no program writes, or only once: a twin sees it as it is.
SHARED = frozenset(
    {
        *("operator_flows4", "operator_flows6", "nat_policies", "nat_prefixes6"),
        *("nat_sources4", "nat_sources6", "nat_ports4", "nat_ports6"),
        *("nat_members4", "nat_members6", "nat_outsides4", "nat_outsides6"),
    }
)
COPIED = frozenset({"tracking", "policy_stats"})
# Arrays whose every index may be asked for, and the ring, whose size is a power of two.
INDEXED = frozenset({"stats", "crowds", "policy_stats", "policy_events", "policy_interfaces"})
OF_PLACES = ("policy_places", "policed_since")
MOST_ENTRIES = 1024
ETHERNET_BYTES = 14
# By how much a frame can grow: to IPv6 from IPv4, and a fragment's header.
ROOM_BYTES = 64
TESTED_ON = {"link_header_bytes": ETHERNET_BYTES, "chained": 0, "counts_loopback": 1}
LOOPBACK = 1
STAT, PLACE_KEY = struct.Struct("=QQ"), struct.Struct("=IIQ")


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each reason was given, and each rule matched, by its counter."""

    reasons: dict[abi.Reason, int]
    rules: dict[int, int]

    def since(self, before: Counts) -> Counts:
        """Return what was added."""
        return Counts(_more(self.reasons, before.reasons), _more(self.rules, before.rules))


def _more(now: dict[K, int], before: dict[K, int]) -> dict[K, int]:
    return {key: count for key, n in now.items() if (count := n - before.get(key, 0))}


@dataclass(slots=True)
class Scratch:
    """The maps of twins, by the pins that they stand for: twins that share a map share it too."""

    bpffs: Bpffs
    _maps: dict[str, Fd] = field(default_factory=dict)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for fd in self._maps.values():
            fd.close()

    def load(self, program: Program) -> Fd:
        """Load a program's twin."""
        constants = {k: TESTED_ON.get(k, v) for k, v in program.constants}
        maps = tuple((name, path) for name, path in program.maps if name != "chain")
        twin = replace(program, constants=tuple(constants.items()), maps=maps, successor=None)
        own = {path: self._own(name, path) for name, path in maps if _is_own(name, path)}
        return load(twin, self.bpffs, own)

    def _own(self, name: str, path: str) -> Fd:
        if path not in self._maps:
            with self.bpffs.open(path) as real:
                self._maps[path] = _like(real, path, name in INDEXED)
                if name in COPIED:
                    contents.copy_entries(real, self._maps[path])
        return self._maps[path]

    def place(self, program: Program, real: bytes, seen_as: bytes) -> None:
        """Give a twin what is known of a place, under the key by which the test finds it."""
        paths = dict(program.maps)
        for name in OF_PLACES:
            own = self._own(name, paths[name])
            with self.bpffs.open(paths[name]) as fd:
                record = contents.read_singly(fd, bpf.map_info(fd)).get(real)
            if record is None:
                continue
            contents.write_entries(own, bpf.map_info(own), {seen_as: record})
            if name == "policy_places" and (index := _index(seen_as)):
                own = self._own("policy_interfaces", paths["policy_interfaces"])
                contents.write_entries(own, bpf.map_info(own), {index: record})

    def give(self, program: Program, name: str, entries: Mapping[bytes, bytes]) -> None:
        """Let a twin have some entries in a map of its own."""
        path = dict(program.maps).get(name)
        if path is not None and entries:
            own = self._own(name, path)
            contents.write_entries(own, bpf.map_info(own), entries)

    def counts(self, program: Program) -> Counts:
        """Return what the twins that share a program's counters have counted."""
        paths = dict(program.maps)
        reasons = [_packets(value) for _, value in self.whole(paths.get("stats", ""))]
        return Counts(
            {abi.Reason(n): count for n, count in enumerate(reasons[: abi.Reason.REASONS])},
            self._rules(paths.get("policy_stats", "")),
        )

    def _rules(self, path: str) -> dict[int, int]:
        fd = self._maps.get(path)
        if fd is None:
            return {}
        stats = read_stats(fd)
        matched = stats.total(RuleRow.ROW_MATCHED)["packets"]
        return dict(zip(stats.counters.tolist(), matched.tolist(), strict=True))

    def whole(self, path: str) -> list[tuple[bytes, bytes]]:
        """Return what twins have in the map that stands for the one at `path`."""
        fd = self._maps.get(path)
        return list(contents.read_whole(fd, bpf.map_info(fd))) if fd else []


def _index(place: bytes) -> bytes:
    """Return an interface's key in policy_interfaces, nothing for what is not in there."""
    kind, _, number = PLACE_KEY.unpack(place)
    is_there = kind == abi.PlaceKind.PLACE_INTERFACE and number < abi.Size.POLICY_INTERFACES
    return number.to_bytes(4, "little") if is_there else b""


def _packets(per_cpu: bytes) -> int:
    return sum(packets for packets, _ in STAT.iter_unpack(per_cpu))


def _is_own(name: str, path: str) -> bool:
    return name == STATS or (path.startswith(STATE) and name not in SHARED)


def _like(real: Fd, path: str, is_whole: bool) -> Fd:
    """Create an empty map like another, but smaller unless all of it is needed."""
    shape = bpf.shape_of(bpf.map_info(real), path)
    if is_whole:
        return bpf.create_map(shape)
    return bpf.create_map(replace(shape, max_entries=min(shape.max_entries, MOST_ENTRIES)))


# Running


@dataclass(frozen=True, slots=True)
class Ran:
    """A verdict, and the frame as the program left it."""

    verdict: int
    frame: bytes


def run(program: Fd, hook: Hook | None, frame: bytes, index: int, came_in: int) -> Ran:
    """Run a twin on a frame. `hook` None: a cgroup's.

    `index` is the interface, `came_in` the one by which the packet came, 0 for the machine's own.
    """
    match hook:
        case Hook.XDP:
            return _run_xdp(program, frame, index)
        case Hook.TC_INGRESS | Hook.TC_EGRESS:
            return _run(program, frame, _skb(index, came_in))
        case None:
            return _run(program, frame, b"")


def _skb(index: int, came_in: int) -> bytes:
    """Return struct __sk_buff with the fields at 36 and 40 set."""
    return struct.pack("=36xII148x", came_in, index)


def _run_xdp(program: Fd, frame: bytes, index: int) -> Ran:
    context = struct.pack("=IIIIII", 0, len(frame), 0, index, 0, 0)
    try:
        return _run(program, frame, context)
    except KernelError:  # a device whose queues are not set up for XDP: as if on loopback
        return _run(program, frame, b"")


def _run(program: Fd, frame: bytes, context: bytes) -> Ran:
    left = ctypes.create_string_buffer(len(frame) + ROOM_BYTES)
    data = ctypes.create_string_buffer(frame, len(frame))
    given = ctypes.create_string_buffer(context, len(context)) if context else None
    opts = libbpf.TestRunOpts(
        sz=ctypes.sizeof(libbpf.TestRunOpts),
        data_in=ctypes.addressof(data),
        data_size_in=len(frame),
        data_out=ctypes.addressof(left),
        data_size_out=len(left),
        ctx_in=ctypes.addressof(given) if given else None,
        ctx_size_in=len(context),
        repeat=1,
    )
    what = "run a program on a packet"
    call("bpf_prog_test_run_opts", program.number, ctypes.byref(opts), what=what)
    return Ran(int(opts.retval), left.raw[: opts.data_size_out])


def own_cgroup() -> int:
    """Return the id of this process's cgroup, as whose the kernel tests a cgroup's program."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    path = next((line[4:] for line in lines if line.startswith("0::/")), "")
    return Cgroupfs().id_of(path) or 0

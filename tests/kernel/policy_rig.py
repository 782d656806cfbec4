"""The policies' programs with tables of a test's own, run by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.compile.rule_stats import STAT, no_stats
from fos1d.kernel import bpf, contents, libbpf
from fos1d.kernel.bpf import Fd
from fos1d.kernel.counters import STATS, rule_counts
from fos1d.kernel.libbpf import call
from fos1d.kernel.port import RealKernel
from fos1d.kinds.program_lower import map_of_shape
from fos1d.model.objects import (
    BuiltIn,
    CgroupHook,
    Entries,
    Hook,
    KernelObject,
    Map,
    Program,
    Table,
    key_of,
)
from fos1d.model.pins import SHARED_POLICY, program_family, state_family, table_path
from fos1d.plan.actions import Plan
from tests import frames as f
from tests.contract import reconcile_once
from tests.oracle.policy import WITH_PORTS, WITH_TYPES, Packet

Tables = Mapping[str, npt.NDArray[Any]]
PLACE_KEY, PLACE = np.dtype(abi.PLACE_KEY), np.dtype(abi.PLACE)
TABLES = (
    "policy_heads",
    "policy_rules",
    "policy_words",
    "policy_leaves32",
    "policy_leaves128",
    "policy_tree32",
    "policy_tree128",
    "policy_routes",
)
TC_NEXT, TC_SHOT, TC_REDIRECT = 0xFFFFFFFF, 2, 7
PROGRAMS: dict[str, tuple[str, str, Hook | CgroupHook]] = {
    "in": ("tc_policy", "fos1_tc_policy_in", Hook.TC_INGRESS),
    "out": ("tc_policy", "fos1_tc_policy_out", Hook.TC_EGRESS),
    "receive": ("cgroup_policy", "fos1_cgroup_receive", CgroupHook.INGRESS),
    "send": ("cgroup_policy", "fos1_cgroup_send", CgroupHook.EGRESS),
    "sent": ("tc_workload", "fos1_tc_workload_out", Hook.TC_EGRESS),
}
# Maps that live as long as the rules.
OF_THESE_RULES = {"policy_places", "policy_interfaces"}
# Declared by a header that the program includes, and used by others only.
UNUSED = {"workload_sockets"}
Knobs = dict[str, int | tuple[int, ...]]


@dataclass(frozen=True)
class Place:
    """A record of policy_places."""

    kind: abi.PlaceKind
    id: int
    vectors: tuple[int, int, int, int]
    flags: tuple[int, int, int, int]


def packed_places(places: Iterable[Place]) -> bytes:
    """Return places as sorted records of key and value."""
    rows = []
    for place in places:
        key, value = np.zeros((), PLACE_KEY), np.zeros((), PLACE)
        key["kind"], key["id"] = place.kind, place.id
        value["vector"], value["flags"] = place.vectors, place.flags
        rows.append(key.tobytes() + value.tobytes())
    return b"".join(sorted(rows))


def packed_interfaces(places: Iterable[Place]) -> bytes:
    """Return the records of the interfaces, by their index."""
    records = (packed_places([p]) for p in places if p.kind is abi.PlaceKind.PLACE_INTERFACE)
    return b"".join(sorted(record[8:12] + record[PLACE_KEY.itemsize :] for record in records))


@dataclass
class Ran:
    """What a run gave: the verdict, the packet, its mark."""

    verdict: int
    frame: bytes
    mark: int


@dataclass
class Runner:
    """A program, run on one frame after another without new buffers."""

    program: Fd
    data: Any = field(default_factory=lambda: ctypes.create_string_buffer(4096))
    out: Any = field(default_factory=lambda: ctypes.create_string_buffer(4096))
    context: Any = field(default_factory=lambda: ctypes.create_string_buffer(192))
    context_out: Any = field(default_factory=lambda: ctypes.create_string_buffer(192))

    def __post_init__(self) -> None:
        """Make the arguments that stay."""
        self.opts = libbpf.TestRunOpts(
            sz=ctypes.sizeof(libbpf.TestRunOpts),
            data_in=ctypes.addressof(self.data),
            data_out=ctypes.addressof(self.out),
            ctx_in=ctypes.addressof(self.context),
            ctx_out=ctypes.addressof(self.context_out),
            ctx_size_in=192,
        )

    def run(self, frame: bytes, ifindex: int = 0, repeat: int = 1, segments: int = 0) -> Ran:
        """Run it on a frame that came in or goes out on an interface."""
        self.data[: len(frame)] = frame
        struct.pack_into("=I", self.context, 40, ifindex)
        struct.pack_into("=I", self.context, 164, segments)
        self.opts.data_size_in, self.opts.data_size_out = len(frame), 4096
        self.opts.ctx_size_out, self.opts.repeat = 192, repeat
        call("bpf_prog_test_run_opts", self.program.number, ctypes.byref(self.opts), what="run")
        mark = struct.unpack_from("=I", self.context_out, 8)[0]
        return Ran(self.opts.retval, self.out.raw[: self.opts.data_size_out], mark)

    @property
    def nanoseconds(self) -> int:
        """How long the last run took, on average."""
        return int(self.opts.duration)


@dataclass
class Rig:
    """A kernel that holds the rules; each `put` replaces them."""

    kernel: RealKernel
    runners: dict[str, Runner] = field(default_factory=dict)
    shared: dict[str, Map] = field(default_factory=dict)
    desired: dict[Any, KernelObject] = field(default_factory=dict)

    def put(self, tables: Tables, places: Iterable[Place], hooks: str, **knobs: Any) -> None:
        """Load tables, places and the programs of some hooks (names, separated by blanks)."""
        digest = _digest(tables)
        chosen: dict[str, KernelObject] = {}
        for name in TABLES:
            chosen[name] = _table(digest, name, tables[name])
        chosen[STATS] = _stats(_counters(tables))
        wanted: list[KernelObject] = list(chosen.values())
        names = {PROGRAMS[hook][0] for hook in hooks.split()}
        for name, shape in {n: s for o in names for n, s in abi.MAPS[o].items()}.items():
            if name not in {*chosen, *UNUSED}:
                owner = digest if name in OF_THESE_RULES else SHARED_POLICY
                self.shared[name] = map_of_shape(state_family(owner, name), name, shape)
                wanted.append(self.shared[name])
        wanted.append(
            Entries(
                self.shared["policy_places"].path,
                PLACE_KEY.itemsize,
                PLACE.itemsize,
                packed_places(places),
                exclusive=True,
            )
        )
        if "policy_interfaces" in self.shared:
            path = self.shared["policy_interfaces"].path
            packed = packed_interfaces(places)
            wanted.append(Entries(path, 4, PLACE.itemsize, packed, exclusive=True))
        programs = {hook: self._program(hook, chosen, digest, knobs) for hook in hooks.split()}
        self._reconcile([*wanted, *programs.values()])
        for hook, program in programs.items():
            self.runners[hook] = Runner(self.kernel.bpffs.open(program.path))

    def _program(
        self, hook: str, tables: Mapping[str, KernelObject], digest: str, knobs: Knobs
    ) -> Program:
        name, function, at = PROGRAMS[hook]
        constants: Knobs = {"policy_generation": int(digest[:8], 16) | 1, **knobs}
        if name in ("tc_policy", "tc_workload"):
            constants.setdefault("link_header_bytes", 14)
        maps = {
            n: found.path
            for n in abi.MAPS[name]
            if n not in UNUSED and isinstance(found := tables.get(n) or self.shared[n], Map | Table)
        }
        given = tuple(sorted(constants.items()))
        return Program(
            program_family("_policy"),
            _sum(f"{function}{digest}{given}".encode()),
            frozenset(maps.values()),
            at,
            BuiltIn(name, function),
            given,
            tuple(sorted(maps.items())),
        )

    def _reconcile(self, wanted: Iterable[KernelObject]) -> None:
        self.desired = {key_of(obj): obj for obj in wanted}
        plan = reconcile_once(self.kernel, self.desired)
        assert plan == Plan(), plan

    def open(self, name: str) -> Fd:
        """Open a shared map."""
        return self.kernel.bpffs.open(self.shared[name].path)

    def put_place(self, place: Place) -> None:
        """Write the record of one place over what it was."""
        record = packed_places([place])
        width = PLACE_KEY.itemsize
        self.write("policy_places", record[:width], record[width:])
        if by_index := packed_interfaces([place]):
            self.write("policy_interfaces", by_index[:4], by_index[4:])

    def write(self, name: str, key: bytes, value: bytes) -> None:
        """Write an entry of a shared map."""
        with self.open(name) as fd:
            call("bpf_map_update_elem", fd.number, key, value, 0, what=f"write to {name}")

    def events(self) -> list[bytes]:
        """Take what was logged off the ring (Documentation/bpf/ringbuf.rst)."""
        page, size = mmap.PAGESIZE, int(abi.Size.EVENTS_BYTES)
        found: list[bytes] = []
        with (
            self.open("policy_events") as fd,
            mmap.mmap(fd.number, page) as consumer,
            mmap.mmap(fd.number, page + 2 * size, prot=mmap.PROT_READ, offset=page) as ring,
        ):
            at, end = struct.unpack("=Q", consumer[:8])[0], struct.unpack("=Q", ring[:8])[0]
            while at < end:
                place = page + at % size
                length = struct.unpack("=I", ring[place : place + 4])[0] & 0x3FFFFFFF
                found.append(ring[place + 8 : place + 8 + length])
                at += (length + 8 + 7) // 8 * 8
            consumer[:8] = struct.pack("=Q", at)
        return found

    def entries(self, name: str) -> dict[bytes, bytes]:
        """Return what a shared map holds."""
        with self.open(name) as fd:
            return dict(contents.read_whole(fd, bpf.map_info(fd)))

    def clear(self, *names: str) -> None:
        """Empty shared maps."""
        for name in names:
            with self.open(name) as fd:
                contents.delete_entries(fd, bpf.map_info(fd), list(self.entries(name)))

    def counts(self) -> dict[int, tuple[int, int]]:
        """Return packets and bytes by rule counter."""
        return {
            counter: (use.matched.packets, use.matched.bytes)
            for counter, use in rule_counts(self.kernel.bpffs).items()
            if use.matched.packets
        }


def _counters(tables: Tables) -> list[int]:
    rules = int(tables["policy_heads"][0]["all_rules"])
    return [int(counter) for counter in tables["policy_rules"]["counter"][:rules]]


def _stats(counters: list[int]) -> Table:
    content = no_stats(counters, contents.possible_cpus())
    path = table_path(_sum(repr(counters).encode()), STATS)
    return Table(path, STAT.itemsize, False, lambda: memoryview(content.tobytes()))


def _digest(tables: Tables) -> str:
    return _sum(b"".join(tables[name].tobytes() for name in TABLES))


def _sum(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _table(digest: str, name: str, content: npt.NDArray[Any]) -> Table:
    path = table_path(_sum(f"{digest}{name}".encode()), name)
    return Table(path, content.dtype.itemsize, content=lambda: memoryview(content.tobytes()))


# Frames


def frame_of(packet: Packet, tags: tuple[int, ...] = ()) -> bytes:
    """Return the frame of an oracle's packet."""
    return f.ethernet(packet_bytes(packet), tags=tags)


def packet_bytes(packet: Packet) -> bytes:
    """Return an oracle's packet on the wire."""
    content = _content(packet)
    number = packet.fragment_id if packet.fragment_id is not None else 7
    is_fragment = packet.later_fragment or packet.fragment_id is not None
    offset = 40 if packet.later_fragment else 0
    if isinstance(packet.source, IPv4Address):
        words = offset | (0x2000 if is_fragment else 0)
        head = struct.pack(
            "!BBHHHBBH",
            0x45,
            0,
            20 + len(content),
            number,
            words,
            packet.hop_limit,
            packet.protocol,
            0,
        )
        head += packet.source.packed + packet.destination.packed
        return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + content
    assert isinstance(packet.source, IPv6Address)
    protocol = packet.protocol
    if is_fragment:
        content = struct.pack("!BBHI", protocol, 0, offset << 3 | 1, number) + content
        protocol = f.FRAGMENT
    head = struct.pack("!IHBB", 6 << 28, len(content), protocol, packet.hop_limit)
    return head + packet.source.packed + packet.destination.packed + content


def _content(packet: Packet) -> bytes:
    if packet.later_fragment:
        return b"later fragment.."
    if packet.protocol in WITH_TYPES:
        quoted = _quote(packet.quoted) if packet.quoted else b""
        head = struct.pack("!BBHHH", packet.icmp_type, packet.icmp_code, 0, packet.source_port, 1)
        return head + quoted
    if packet.protocol == f.TCP:
        return f.tcp(packet.source_port, packet.destination_port, packet.tcp_flags)
    if packet.protocol in WITH_PORTS:
        return f.udp(packet.source_port, packet.destination_port, b"\0" * 4)
    return b"\0" * 8


def _quote(packet: Packet) -> bytes:
    """An error quotes at least the network header and 8 bytes (RFC 792)."""
    return packet_bytes(packet)[: (40 if packet.is_v6 else 20) + 8]


def checksum(head: bytes) -> int:
    """Return the Internet checksum of a header (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(head) // 2}H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF

"""What the kernel has counted, read when somebody asks. Only reads; safe from any thread."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np

from fos1d import abi
from fos1d.abi import RuleRow
from fos1d.compile.rule_stats import STAT, RuleStats
from fos1d.errors import KernelError
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpf import Fd
from fos1d.kernel.bpffs import Bpffs
from fos1d.model.objects import WITHOUT_ENTRIES
from fos1d.model.pins import TABLES, state_family

SAMPLE_BATCH = 64
PER_CPU_STAT = struct.Struct("=QQ")
STATS = "policy_stats"


@dataclass(frozen=True, slots=True)
class Count:
    """Packets and bytes that were judged for one reason."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class MapUse:
    """What a map holds and costs. `entries` is None for types that cannot be counted."""

    id: int
    entries: int | None
    max_entries: int
    memory_bytes: int


def program_counts(bpffs: Bpffs, owner: str) -> dict[abi.Reason, Count]:
    """Return an XDP program's counters, summed over its CPUs; empty if it has none."""
    counts: dict[abi.Reason, Count] = {}
    for path in bpffs.pins(state_family(owner, "stats")):
        with bpffs.open(path) as fd:
            info = bpf.map_info(fd)
            for key, value in contents.read_singly(fd, info).items():
                reason = int.from_bytes(key, "little")
                if reason < abi.Reason.REASONS:
                    counts[abi.Reason(reason)] = _sum(value)
    return counts


def _sum(per_cpu: bytes) -> Count:
    rows = list(PER_CPU_STAT.iter_unpack(per_cpu))
    return Count(sum(row[0] for row in rows), sum(row[1] for row in rows))


@dataclass(frozen=True, slots=True)
class RuleUse:
    """What a rule has matched, and what its limit dropped of that."""

    matched: Count = Count()
    exceeding: Count = Count()


def rule_counts(bpffs: Bpffs) -> dict[int, RuleUse]:
    """Return the use of each rule of the policies, by its counter, over all versions that are
    loaded."""
    found: dict[int, RuleUse] = {}
    versions = dict(_versions(bpffs))
    added = {stats.last_added for stats in versions.values()}
    for stats in (stats for number, stats in versions.items() if number not in added):
        matched = stats.total(RuleRow.ROW_MATCHED).tolist()
        exceeding = stats.total(RuleRow.ROW_EXCEEDING).tolist()
        for counter, one, other in zip(stats.counters.tolist(), matched, exceeding, strict=True):
            before = found.get(counter, RuleUse())
            found[counter] = RuleUse(_added(before.matched, one), _added(before.exceeding, other))
    return found


def _versions(bpffs: Bpffs) -> Iterator[tuple[int, RuleStats]]:
    """Yield what each version has counted, by the id of its map; one may go meanwhile."""
    for path in stats_pins(bpffs):
        with suppress(KernelError), bpffs.open(path) as fd:
            yield bpf.map_info(fd).id, read_stats(fd)


def stats_pins(bpffs: Bpffs) -> list[str]:
    """Return where the rules of each version are counted."""
    return sorted(path for path in bpffs.pins(TABLES) if path.endswith(f"/{STATS}"))


def read_stats(fd: Fd) -> RuleStats:
    """Return what a version's rules have counted."""
    raw = contents.read_array(fd, bpf.map_info(fd))
    return RuleStats.of(np.frombuffer(raw, STAT), contents.possible_cpus())


def _added(count: Count, more: tuple[int, int]) -> Count:
    return Count(count.packets + more[0], count.bytes + more[1])


def program_id(bpffs: Bpffs, path: str) -> int:
    """Return a pinned program's id, 0 if it is not there."""
    try:
        with bpffs.open(path) as fd:
            return bpf.program_info(fd).id
    except KernelError:
        return 0


def map_use(bpffs: Bpffs, path: str) -> MapUse | None:
    """Return the use of a map; None if it is not there."""
    try:
        with bpffs.open(path) as fd:
            info = bpf.map_info(fd)
            counted = info.type not in WITHOUT_ENTRIES
            entries = contents.count_entries(fd, info) if counted else None
            memory = bpf.fd_facts(fd).get("memlock", "0")
            return MapUse(info.id, entries, info.max_entries, int(memory))
    except KernelError:
        return None


def map_entries(bpffs: Bpffs, path: str, most: int) -> list[tuple[bytes, bytes]]:
    """Return at most `most` entries of a map, those that the kernel gives first; array elements
    of zeros left out."""
    try:
        with bpffs.open(path) as fd:
            info = bpf.map_info(fd)
            if info.type in WITHOUT_ENTRIES:
                return []
            return sorted(islice(contents.each_entry(fd, info, SAMPLE_BATCH), most))
    except KernelError:
        return []

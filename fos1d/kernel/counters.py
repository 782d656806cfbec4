"""What the kernel has counted, read when somebody asks. Only reads; safe from any thread."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from fos1d import abi
from fos1d.errors import KernelError
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpffs import Bpffs
from fos1d.model.objects import WITHOUT_ENTRIES
from fos1d.model.pins import SHARED_POLICY, state_family

SAMPLE_BATCH = 64
STAT = struct.Struct("=QQ")


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
    rows = list(STAT.iter_unpack(per_cpu))
    return Count(sum(row[0] for row in rows), sum(row[1] for row in rows))


def exceeding(counter: int) -> int:
    """Return the counter of what the limit of a rule drops, by the rule's own (rule.h)."""
    return counter ^ (1 << 64) - 1


def rule_counts(bpffs: Bpffs) -> dict[int, Count]:
    """Return what each rule of the policies has matched, and its limit dropped, by counter."""
    slots = {
        int.from_bytes(key, "little"): int.from_bytes(value, "little") - 1
        for key, value in _shared(bpffs, "rule_slots")
    }
    wanted = set(slots.values())
    stats = {
        number: _sum(value)
        for number, (_, value) in enumerate(_shared(bpffs, "rule_stats"))
        if number in wanted
    }
    return {counter: stats[slot] for counter, slot in slots.items() if slot in stats}


def _shared(bpffs: Bpffs, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield what a map holds that the policies' programs share; arrays in their order."""
    for path in bpffs.pins(state_family(SHARED_POLICY, name)):
        with bpffs.open(path) as fd:
            yield from contents.read_whole(fd, bpf.map_info(fd))


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

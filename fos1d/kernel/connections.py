"""Recounting of the workloads' connections.

The programs count as sockets connect and close, but they do not see what closed while they were
not there, nor know what connected before they came. Every half minute the counts are set right from
the sockets that the kernel lists (sock_diag(7)). It lists those of our own network namespace;
sockets in others, which the programs have seen from their beginning, keep their entries.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpf import Fd, MapInfo
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.inet_diag import connected_sockets
from fos1d.model.pins import SHARED_POLICY, state_family

SO_NETNS_COOKIE = 71
KEY, SOCKET = np.dtype("<u8"), np.dtype(abi.SOCKET)
STATE_OF_WORKLOADS = ("workload_buckets", "workload_usage", "workload_connections")

Sockets = dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Recounted:
    """How many sockets are counted now, and how many of them were not, or no longer should be."""

    counted: int = 0
    found: int = 0
    gone: int = 0


def has_workloads(bpffs: Bpffs) -> bool:
    """Whether any connections are counted."""
    return any(bpffs.pins(state_family(SHARED_POLICY, "workload_sockets")))


def recount(bpffs: Bpffs, cgroup_root: Path) -> Recounted:
    """Set the counts of connections right, and forget workloads that are limited no more."""
    limited = limited_cgroups(bpffs)
    _forget(bpffs, limited)
    total = Recounted()
    for path in bpffs.pins(state_family(SHARED_POLICY, "workload_sockets")):
        with bpffs.open(path) as fd:
            total = _recount(fd, owners(cgroup_root, limited), limited)
            _correct(bpffs, limited, _sockets(fd, bpf.map_info(fd)).values())
    return total


def limited_cgroups(bpffs: Bpffs) -> frozenset[int]:
    """Return the ids of the cgroups that have limits of their own."""
    found: set[int] = set()
    for path in bpffs.pins(state_family(SHARED_POLICY, "workload_limits_of")):
        with bpffs.open(path) as fd:
            for keys, _ in contents.read_raw(fd, bpf.map_info(fd)):
                found.update(np.frombuffer(keys, KEY).tolist())
    return frozenset(found)


def owners(cgroup_root: Path, limited: frozenset[int]) -> dict[int, int]:
    """Return the limited cgroup that each cgroup belongs to: itself, or the nearest above."""
    found: dict[int, int] = {}
    for place, _, _ in os.walk(cgroup_root):
        path = Path(place)
        number = _id(path)
        owner = number if number in limited else found.get(_id(path.parent))
        if owner is not None:
            found[number] = owner
    return found


def _id(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


# Sockets


def _recount(fd: Fd, owner: Mapping[int, int], limited: frozenset[int]) -> Recounted:
    info, here = bpf.map_info(fd), netns_cookie()
    held = _sockets(fd, info)
    living = {c.cookie: owner[c.cgroup] for c in connected_sockets() if c.cgroup in owner}
    gone = stale(held, living, limited, here)
    found = living.keys() - held.keys()
    contents.delete_entries(fd, info, [KEY.type(cookie).tobytes() for cookie in gone])
    records = {c: np.array((living[c], here), SOCKET).tobytes() for c in sorted(found)}
    contents.write_entries(fd, info, {KEY.type(c).tobytes(): r for c, r in records.items()})
    return Recounted(len(held) - len(gone) + len(found), len(found), len(gone))


def stale(
    held: Sockets, living: Mapping[int, int], limited: frozenset[int], here: int
) -> list[int]:
    """Return the cookies that should not be held: closed, or of what is limited no more."""
    return sorted(
        cookie
        for cookie, (cgroup, netns) in held.items()
        if cgroup not in limited or (netns == here and cookie not in living)
    )


def _sockets(fd: Fd, info: MapInfo) -> Sockets:
    """Return workload and network namespace by socket cookie."""
    found: Sockets = {}
    for keys, values in contents.read_raw(fd, info):
        cookies, records = np.frombuffer(keys, KEY), np.frombuffer(values, SOCKET)
        places = zip(records["cgroup"].tolist(), records["netns"].tolist(), strict=True)
        found.update(zip(cookies.tolist(), places, strict=True))
    return found


def netns_cookie() -> int:
    """Return what the programs call our network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        raw = probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    return int.from_bytes(raw, "little")


# Counts


def _correct(bpffs: Bpffs, limited: frozenset[int], sockets: Iterable[tuple[int, int]]) -> None:
    """Write the counts that differ from the number of sockets."""
    numbers, counts = np.unique(np.array([s[0] for s in sockets], KEY), return_counts=True)
    right = dict.fromkeys(limited, 0) | dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    for path in bpffs.pins(state_family(SHARED_POLICY, "workload_connections")):
        with bpffs.open(path) as fd:
            info = bpf.map_info(fd)
            held = contents.read_entries(fd, info)
            wanted = {_packed(cgroup): _packed(count) for cgroup, count in right.items()}
            wrong = {k: v for k, v in wanted.items() if k in held and held[k] != v}
            new = {k: v for k, v in wanted.items() if k not in held and v != _packed(0)}
            contents.write_entries(fd, info, wrong | new)


def _packed(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _forget(bpffs: Bpffs, limited: frozenset[int]) -> None:
    """Remove what was remembered of cgroups that are limited no more."""
    for name in STATE_OF_WORKLOADS:
        for path in bpffs.pins(state_family(SHARED_POLICY, name)):
            with bpffs.open(path) as fd:
                info = bpf.map_info(fd)
                keys = np.concatenate([np.empty(0, KEY), *_keys(fd, info)])
                old = [key.tobytes() for key in keys if int(key) not in limited]
                contents.delete_entries(fd, info, old)


def _keys(fd: Fd, info: MapInfo) -> list[npt.NDArray[np.uint64]]:
    return [np.frombuffer(keys, KEY) for keys, _ in contents.read_raw(fd, info)]

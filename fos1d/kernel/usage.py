"""What workloads have used, and what their limits cost them, read when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fos1d import abi
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.counters import Count
from fos1d.model.pins import SHARED_POLICY, state_family

USAGE = np.dtype(abi.USAGE)
REFUSED = ("refused_in", "refused_out", "devices_refused", "denied")
NOTHING = Count()


@dataclass(frozen=True, slots=True)
class Usage:
    """One workload's account. `connections` are those at this moment, `opened` those ever."""

    received: Count = NOTHING
    sent: Count = NOTHING
    limited_in: Count = NOTHING
    limited_out: Count = NOTHING
    marked: int = 0
    connections: int = 0
    opened: int = 0
    refused_in: int = 0
    refused_out: int = 0
    devices_refused: int = 0
    denied: int = 0

    @property
    def blocked(self) -> int:
        """Packets dropped by rules and limits, connections and devices refused."""
        packets = self.limited_in.packets + self.limited_out.packets + self.denied
        return packets + self.refused_in + self.refused_out + self.devices_refused


def workload_usage(bpffs: Bpffs) -> dict[int, Usage]:
    """Return the accounts of all limited workloads, by cgroup id."""
    current = _connections(bpffs)
    accounts: dict[int, Usage] = {}
    for path in bpffs.pins(state_family(SHARED_POLICY, "workload_usage")):
        with bpffs.open(path) as fd:
            for key, value in contents.read_singly(fd, bpf.map_info(fd)).items():
                cgroup = int.from_bytes(key, "little")
                accounts[cgroup] = _usage(value, current.get(cgroup, 0))
    return accounts


def _connections(bpffs: Bpffs) -> dict[int, int]:
    found: dict[int, int] = {}
    for path in bpffs.pins(state_family(SHARED_POLICY, "workload_connections")):
        with bpffs.open(path) as fd:
            for key, value in contents.read_entries(fd, bpf.map_info(fd)).items():
                held = int.from_bytes(value, "little", signed=True)
                found[int.from_bytes(key, "little")] = max(held, 0)
    return found


def _usage(per_cpu: bytes, connections: int) -> Usage:
    rows = np.frombuffer(per_cpu, USAGE)
    total = {name: int(rows[name].sum()) for name in ("marked", "connections", *REFUSED)}
    return Usage(
        _count(rows, "in"),
        _count(rows, "out"),
        _count(rows, "limited_in"),
        _count(rows, "limited_out"),
        total["marked"],
        connections,
        total["connections"],
        *(total[name] for name in REFUSED),
    )


def _count(rows: np.ndarray[tuple[int], np.dtype[np.void]], name: str) -> Count:
    stats = np.frombuffer(rows[name].tobytes(), "<u8").reshape(-1, 2)
    return Count(int(stats[:, 0].sum()), int(stats[:, 1].sum()))

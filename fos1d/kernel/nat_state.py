"""What the programs that translate remember: flows, ends, counters; read in bulk, as records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.abi import NatWay
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpf import Fd, MapInfo
from fos1d.kernel.bpffs import Bpffs
from fos1d.model.pins import SHARED_NAT, STATE, state_family
from fos1d.model.translated import NatUse

Records: TypeAlias = npt.NDArray[np.void]
Mask: TypeAlias = npt.NDArray[np.bool_]
# Entries at a time: a whole table at once would stay in the heap.
BATCH = 4096
FLOW = {4: np.dtype(abi.NAT_FLOW4), 6: np.dtype(abi.NAT_FLOW6)}
FLOW_KEY = {4: np.dtype(abi.NAT_FLOW4_KEY), 6: np.dtype(abi.NAT_FLOW6_KEY)}
END = {4: np.dtype(abi.NAT_END4), 6: np.dtype(abi.NAT_END6)}
END_KEY = {4: np.dtype(abi.NAT_END4_KEY), 6: np.dtype(abi.NAT_END6_KEY)}
STAT, USAGE = np.dtype(abi.NAT_STAT), np.dtype(abi.NAT_USAGE)


def has_translations(bpffs: Bpffs) -> bool:
    """Whether addresses are translated here."""
    return any(bpffs.pins(f"{STATE}/{SHARED_NAT}"))


def pinned(bpffs: Bpffs, name: str) -> Iterator[tuple[Fd, MapInfo]]:
    """Open each map that has a name, as long as the caller needs it."""
    for path in bpffs.pins(state_family(SHARED_NAT, name)):
        with bpffs.open(path) as fd:
            yield fd, bpf.map_info(fd)


def of_all_versions(bpffs: Bpffs, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a map of rules, in every version that is there."""
    for path in bpffs.pins(f"{STATE}/{SHARED_NAT}"):
        if path.split("/")[2].rpartition("-")[0] == name:
            with bpffs.open(path) as fd:
                yield from contents.read_whole(fd, bpf.map_info(fd))


def flows(fd: Fd, info: MapInfo, version: int) -> Iterator[tuple[Records, Records]]:
    """Yield the keys and values of the flows of an IP version, batch by batch."""
    for keys, values in contents.read_raw(fd, info, BATCH):
        yield np.frombuffer(keys, FLOW_KEY[version]), np.frombuffer(values, FLOW[version])


def ends(fd: Fd, info: MapInfo, version: int) -> Iterator[tuple[Records, Records]]:
    """Yield the keys and values of the ends of an IP version, batch by batch."""
    for keys, values in contents.read_raw(fd, info, BATCH):
        yield np.frombuffer(keys, END_KEY[version]), np.frombuffer(values, END[version])


def flow_outsides(keys: Records, values: Records) -> npt.NDArray[np.unsignedinteger]:
    """Return the outside address that each flow's entry speaks of."""
    return _either(keys["way"] == NatWay.NAT_OUT, values["address"], keys["dest"])


def end_outsides(keys: Records) -> npt.NDArray[np.unsignedinteger]:
    """Return the outside address that each end's entry speaks of."""
    return _either(keys["way"] == NatWay.NAT_OUT, keys["outside"], keys["address"])


def _either(
    first: Mask, one: npt.NDArray[np.unsignedinteger], other: npt.NDArray[np.unsignedinteger]
) -> npt.NDArray[np.unsignedinteger]:
    chosen = first[:, None] if one.ndim > 1 else first
    return np.where(chosen, one, other)


def in_rows(addresses: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
    """Return addresses with a row for each, of IPv4 ones, too."""
    return addresses[:, None] if addresses.ndim == 1 else addresses


def own_ends(keys: Records, values: Records) -> Mask:
    """Return which ends name themselves: those of the router's own sockets, and NAT64's."""
    same = keys["address"] == values["address"]
    found: Mask = (same.all(axis=1) if same.ndim > 1 else same) & (keys["way"] == NatWay.NAT_IN)
    return found


# Sums


def usage(bpffs: Bpffs, now_ns: int) -> dict[int, NatUse]:
    """Count living flows and ports, by the number of the policy; `now_ns` is CLOCK_MONOTONIC."""
    living: dict[int, int] = {}
    ports: dict[int, dict[int, int]] = {}
    for version in (4, 6):
        for fd, info in pinned(bpffs, f"nat_flows{version}"):
            for keys, values in flows(fd, info, version):
                chosen = (keys["way"] == NatWay.NAT_OUT) & (values["until_ns"] >= now_ns)
                _count(values["policy"][chosen], living)
        for fd, info in pinned(bpffs, f"nat_ends{version}"):
            for keys, values in ends(fd, info, version):
                chosen = (keys["way"] == NatWay.NAT_IN) & (values["until_ns"] >= now_ns)
                chosen &= ~own_ends(keys, values)
                for protocol in np.unique(keys["protocol"][chosen]).tolist():
                    mine = chosen & (keys["protocol"] == protocol)
                    _count(values["policy"][mine], ports.setdefault(protocol, {}))
    numbers = living.keys() | {number for counted in ports.values() for number in counted}
    return {
        number: NatUse(
            living.get(number, 0),
            {protocol: c[number] for protocol, c in sorted(ports.items()) if number in c},
        )
        for number in numbers
    }


def _count(policies: npt.NDArray[np.unsignedinteger], counts: dict[int, int]) -> None:
    numbers, found = np.unique(policies, return_counts=True)
    for number, count in zip(numbers.tolist(), found.tolist(), strict=True):
        counts[number] = counts.get(number, 0) + count


def stats(bpffs: Bpffs) -> dict[int, dict[str, int]]:
    """Return the counters of each policy, by its number, summed over CPUs."""
    found: dict[int, dict[str, int]] = {}
    for fd, info in pinned(bpffs, "nat_stats"):
        for key, value in contents.read_whole(fd, info):
            rows = np.frombuffer(value, STAT)
            sums = {name: int(rows[name].sum()) for name in STAT.names or ()}
            found[int.from_bytes(key, "little")] = sums
    return found

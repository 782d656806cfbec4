"""Housekeeping of translations: free what ended, what speaks of addresses that are gone, and count.

The programs judge at each lookup whether an entry lives, so this only frees memory and ports.
An entry that a packet has renewed meanwhile is never lost: the kernel hands out what it
deletes, and what turns out to live is put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fos1d.abi import NatBit, NatWay
from fos1d.kernel import contents
from fos1d.kernel.bpf import Fd, MapInfo
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.nat_places import Places, living_places
from fos1d.kernel.nat_state import (
    END,
    FLOW,
    USAGE,
    Mask,
    Records,
    end_outsides,
    ends,
    flow_outsides,
    flows,
    of_all_versions,
    own_ends,
    pinned,
)

# How long an end lives on that no flow has: bpf/include/fos1/nat_end.h, NAT_END_S.
IDLE_END_NS = 60 * 10**9
# Flows that may have an outside address that is not their policy's.
OF_OTHERS = int(NatBit.NAT_MAPPED | NatBit.NAT_HAIRPINNED)
MIXER = np.uint64(0x9E3779B97F4A7C15)

Names = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Swept:
    """How many entries were freed, and how many flows of each policy live."""

    freed: int = 0
    shortened: int = 0
    flows: dict[int, int] = field(default_factory=dict)


def sweep_translations(bpffs: Bpffs, now_ns: int) -> Swept:
    """Free flows and ends, and write down how many flows live; `now_ns` is CLOCK_MONOTONIC."""
    swept = Swept()
    places = living_places(bpffs)
    for version in (4, 6):
        used = [np.empty(0, np.uint64)]
        for fd, info in pinned(bpffs, f"nat_flows{version}"):
            for keys, values in flows(fd, info, version):
                old = values["until_ns"] < now_ns
                moved = (values["bits"] & OF_OTHERS) == 0
                gone = places.gone(flow_outsides(keys, values), values["policy"], moved)
                _free(fd, info, keys, old | gone, gone, FLOW[version], now_ns)
                swept.freed += int((old | gone).sum())
                out = ~(old | gone) & (keys["way"] == NatWay.NAT_OUT)
                _count(values["policy"][out], swept.flows)
                used.append(_names(values["address"][out], values["port"][out], keys[out]))
        _sweep_ends(bpffs, version, places, np.unique(np.concatenate(used)), now_ns, swept)
    _forget_policies(bpffs, swept, now_ns)
    return swept


def _sweep_ends(
    bpffs: Bpffs,
    version: int,
    places: Places,
    used: Names,
    now_ns: int,
    swept: Swept,
) -> None:
    for fd, info in pinned(bpffs, f"nat_ends{version}"):
        for keys, values in ends(fd, info, version):
            old = values["until_ns"] < now_ns
            moved = np.ones(len(keys), np.bool_)
            gone = places.gone(end_outsides(keys), values["policy"], moved)
            _free(fd, info, keys, old | gone, gone, END[version], now_ns)
            swept.freed += int((old | gone).sum())
            idle = ~(old | gone) & _idle(keys, values, used, now_ns)
            swept.shortened += _shorten(fd, info, keys[idle], values[idle], now_ns)


# Ends without flows


def _idle(keys: Records, values: Records, used: Names, now_ns: int) -> Mask:
    """Return which ends outlast the last of their flows: those of the router's own last."""
    is_out = keys["way"] == NatWay.NAT_OUT
    outside = end_outsides(keys)
    ports = np.where(is_out, values["port"], keys["port"])
    found: Mask = ~np.isin(_names(outside, ports, keys), used)
    return found & ~own_ends(keys, values) & (values["until_ns"] > now_ns + IDLE_END_NS)


def _names(
    addresses: npt.NDArray[np.unsignedinteger],
    ports: npt.NDArray[np.unsignedinteger],
    keys: Records,
) -> Names:
    """Return a number for each outside endpoint. Two that share one keep each other alive."""
    tail = ports.astype(np.uint64) << np.uint64(8) | keys["protocol"].astype(np.uint64)
    if addresses.ndim == 1:
        return addresses.astype(np.uint64) << np.uint64(32) | tail
    mixed = tail
    for place in range(4):
        mixed = (mixed ^ addresses[:, place].astype(np.uint64)) * MIXER
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _shorten(fd: Fd, info: MapInfo, keys: Records, values: Records, now_ns: int) -> int:
    """Let ends end soon, unless they changed since they were read."""
    shortened = values.copy()
    shortened["until_ns"] = now_ns + IDLE_END_NS
    count = 0
    for key, before, after in zip(_rows(keys), _rows(values), _rows(shortened), strict=True):
        if contents.look_up(fd, info, key) == before:
            contents.write_raw_one(fd, info, key, after)
            count += 1
    return count


# Entries


def _rows(records: Records) -> Iterator[bytes]:
    size, whole = records.itemsize, records.tobytes()
    return (whole[at : at + size] for at in range(0, len(whole), size))


def _free(
    fd: Fd,
    info: MapInfo,
    keys: Records,
    chosen: Mask,
    whatever: Mask,
    kind: np.dtype[np.void],
    now_ns: int,
) -> None:
    """Delete the chosen entries; put back those that live, but for those that go `whatever`."""
    for key, certain in zip(_rows(keys[chosen]), whatever[chosen].tolist(), strict=True):
        value = contents.take(fd, info, key)
        if value is not None and not certain and _lives(value, kind, now_ns):
            contents.add_entry(fd, info, key, value)


def _lives(value: bytes, kind: np.dtype[np.void], now_ns: int) -> bool:
    return int(np.frombuffer(value, kind)["until_ns"][0]) >= now_ns


def _count(policies: npt.NDArray[np.unsignedinteger], counts: dict[int, int]) -> None:
    numbers, found = np.unique(policies, return_counts=True)
    for number, count in zip(numbers.tolist(), found.tolist(), strict=True):
        counts[number] = counts.get(number, 0) + count


# Policies


def _forget_policies(bpffs: Bpffs, swept: Swept, now_ns: int) -> None:
    """Write how many flows each policy has, and forget what those counted that are gone."""
    living = {_number(key) for key, _ in of_all_versions(bpffs, "nat_policies")}
    for name in ("nat_usage", "nat_stats"):
        for fd, info in pinned(bpffs, name):
            held = {_number(key) for keys, _ in contents.read_raw(fd, info) for key in _each(keys)}
            gone = held - living - swept.flows.keys()
            contents.delete_entries(fd, info, [_key(number) for number in sorted(gone)])
            if name == "nat_usage":
                counted = {n: swept.flows.get(n, 0) for n in (held & living) | swept.flows.keys()}
                contents.write_entries(fd, info, dict(_usage(counted, now_ns)))


def _usage(counted: dict[int, int], now_ns: int) -> Iterator[tuple[bytes, bytes]]:
    for number, count in counted.items():
        yield _key(number), np.array((count, now_ns), USAGE).tobytes()


def _each(keys: bytes) -> Iterable[bytes]:
    return (keys[at : at + 4] for at in range(0, len(keys), 4))


def _number(key: bytes) -> int:
    return int.from_bytes(key, "little")


def _key(number: int) -> bytes:
    return number.to_bytes(4, "little")

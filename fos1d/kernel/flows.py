"""Housekeeping of flows: free what expired, recount connections per source, note beginnings.

The programs judge a flow's age at every lookup, so none of this decides a packet's fate; it only
frees memory, and corrects counts that drift when connections die without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.errors import KernelError
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpf import Fd, MapInfo
from fos1d.kernel.bpffs import Bpffs
from fos1d.model.pins import SHARED_FLOW, owner_of_program, state_family

# Entries at a time: a whole table at once would stay in the heap.
SWEEP_BATCH = 4096
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FLOW = np.dtype(abi.FLOW)
KEYS = {"flows4": np.dtype(abi.FLOW4_KEY), "flows6": np.dtype(abi.FLOW6_KEY)}
Bit = abi.FlowBit
Life = abi.Lifetime


@dataclass(frozen=True, slots=True)
class Swept:
    """How many flows live and how many were freed."""

    living: int = 0
    freed: int = 0


def sweep(bpffs: Bpffs, now_ns: int) -> Swept:
    """Free the expired flows and recount the connections; `now_ns` is CLOCK_MONOTONIC."""
    living, freed = 0, 0
    sources: list[npt.NDArray[np.uint64]] = []
    for name, key_type in KEYS.items():
        for path in bpffs.pins(state_family(SHARED_FLOW, name)):
            with bpffs.open(path) as fd:
                info = bpf.map_info(fd)
                for keys, flows in _tables(fd, info, key_type):
                    old = _expired(keys["protocol"], flows, now_ns)
                    contents.delete_entries(fd, info, _rows(keys[old]))
                    freed += int(old.sum())
                    living += int((~old).sum())
                    sources.append(_openers(keys[~old], flows[~old]))
    _recount(bpffs, np.concatenate(sources) if sources else np.empty(0, np.uint64))
    return Swept(living, freed)


def begin_tracking(bpffs: Bpffs, program: str, interface: int, now_ns: int) -> None:
    """Note that the program at the pin `program` tracks an interface's flows from now on, if it
    tracks flows and did not do so before; `now_ns` is CLOCK_MONOTONIC."""
    since = np.array([(now_ns,)], np.dtype(abi.TRACKING)).tobytes()
    for path in bpffs.pins(state_family(owner_of_program(program), "tracking")):
        with bpffs.open(path) as fd:
            contents.add_entry(fd, bpf.map_info(fd), interface.to_bytes(4, "little"), since)


def _tables(
    fd: Fd, info: MapInfo, key_type: np.dtype[np.void]
) -> list[tuple[npt.NDArray[np.void], npt.NDArray[np.void]]]:
    return [
        (np.frombuffer(keys, key_type), np.frombuffer(values, FLOW))
        for keys, values in contents.read_raw(fd, info, SWEEP_BATCH)
    ]


def _rows(keys: npt.NDArray[np.void]) -> list[bytes]:
    return [key.tobytes() for key in keys]


def _expired(
    protocol: npt.NDArray[np.uint8], flows: npt.NDArray[np.void], now_ns: int
) -> npt.NDArray[np.bool_]:
    """Say which flows are older than their lifetime, as flow_lives() of bpf/ does."""
    bits = flows["bits"]
    both = Bit.FROM_A | Bit.FROM_B
    established = ((bits & both) == both) & ~_closing(bits)
    seconds = np.full(len(flows), int(Life.OTHER_S), np.int64)
    seconds[protocol == TCP] = int(Life.TCP_TRANSITORY_S)
    seconds[(protocol == TCP) & established] = int(Life.TCP_ESTABLISHED_S)
    seconds[protocol == UDP] = int(Life.UDP_S)
    seconds[(protocol == ICMP) | (protocol == ICMPV6)] = int(Life.ICMP_S)
    age_ns = now_ns - flows["seen_ns"].astype(np.int64)
    old: npt.NDArray[np.bool_] = age_ns > seconds * abi.Time.NS_PER_SECOND
    return old


def _closing(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    fins = Bit.FIN_A | Bit.FIN_B
    closing: npt.NDArray[np.bool_] = ((bits & Bit.RST) != 0) | ((bits & fins) == fins)
    return closing


def _openers(keys: npt.NDArray[np.void], flows: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """Return the source (source_key() of bpf/) of each open TCP connection."""
    bits = flows["bits"]
    opened = Bit.OPENED_BY_A | Bit.OPENED_BY_B
    counts = (keys["protocol"] == TCP) & ((bits & opened) != 0) & ~_closing(bits)
    keys, bits = keys[counts], bits[counts]
    by_a = (bits & Bit.OPENED_BY_A) != 0
    if keys.dtype["address_a"].shape:
        by_a = by_a[:, None]
    address = np.ascontiguousarray(np.where(by_a, keys["address_a"], keys["address_b"]), ">u4")
    raw = address.view("<u4").astype(np.uint64)
    if raw.ndim == 1:
        return raw << np.uint64(32) | np.uint64(0xFFFFFFFF)
    return raw[:, 1] << np.uint64(32) | raw[:, 0]


def _recount(bpffs: Bpffs, openers: npt.NDArray[np.uint64]) -> None:
    for path in bpffs.pins(state_family(SHARED_FLOW, "connections")):
        with bpffs.open(path) as fd:
            info = bpf.map_info(fd)
            sources, counts = np.unique(openers, return_counts=True)
            held = {
                int(source).to_bytes(8, "little"): int(count).to_bytes(4, "little")
                for source, count in zip(sources, counts, strict=True)
            }
            before = contents.read_entries(fd, info)
            contents.delete_entries(fd, info, before.keys() - held.keys())
            changed = {key: value for key, value in held.items() if before.get(key) != value}
            contents.write_entries(fd, info, changed)


def has_flows(bpffs: Bpffs) -> bool:
    """Whether any flow table is there to be swept."""
    try:
        return any(bpffs.pins(f"state/{SHARED_FLOW}"))
    except (KernelError, OSError):
        return False

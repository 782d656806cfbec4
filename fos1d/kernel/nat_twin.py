"""What twins of the programs that translate see of the state, and what is seen of their work."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import numpy as np

from fos1d import abi
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.nat_state import Records, ends, flows, in_rows, pinned
from fos1d.kernel.twin import ETHERNET_BYTES, Scratch
from fos1d.model.objects import Program
from fos1d.model.packet import WITH_PORTS, Address, Tuple
from fos1d.model.translated import End

STAT = np.dtype(abi.NAT_STAT)
ADDRESSES = {4: (12, 4), 6: (8, 16)}
PROTOCOL_AT = {4: 9, 6: 6}


def show_state(scratch: Scratch, program: Program, bpffs: Bpffs, packet: Tuple) -> None:
    """Give a twin the entries that its original has of the packet's ends."""
    for version in (4, 6):
        if packet.source.version != version:
            continue
        for name, read in (("nat_flows", flows), ("nat_ends", ends)):
            for fd, info in pinned(bpffs, f"{name}{version}"):
                for keys, values in read(fd, info, version):
                    mask = _about(keys, packet)
                    rows = zip(_rows(keys[mask]), _rows(values[mask]), strict=True)
                    scratch.give(program, f"{name}{version}", dict(rows))


def _about(keys: Records, packet: Tuple) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    source, dest = (packet.source, packet.source_port), (packet.dest, packet.dest_port)
    if "dest" not in (keys.dtype.names or ()):
        return _is(keys, "address", "port", *source) | _is(keys, "address", "port", *dest)
    there = _is(keys, "source", "source_port", *source) & _is(keys, "dest", "dest_port", *dest)
    back = _is(keys, "source", "source_port", *dest) & _is(keys, "dest", "dest_port", *source)
    return there | back


def _is(
    keys: Records, address: str, port: str, wanted: Address, number: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    words = np.frombuffer(wanted.packed, ">u4")
    same = (in_rows(keys[address]) == words).all(axis=1)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = same & (keys[port] == number)
    return found


def _rows(records: Records) -> Iterable[bytes]:
    size, whole = records.itemsize, records.tobytes()
    return (whole[at : at + size] for at in range(0, len(whole), size))


def counted(scratch: Scratch, program: Program) -> dict[int, dict[str, int]]:
    """Return what the twins that share a program's counters have counted, by policy."""
    found = {}
    for key, value in scratch.whole(dict(program.maps).get("nat_stats", "")):
        rows = np.frombuffer(value, STAT)
        sums = {name: int(rows[name].sum()) for name in STAT.names or ()}
        found[int.from_bytes(key, "little")] = sums
    return found


def changed_ends(before: bytes, after: bytes) -> list[str]:
    """Say which ends of a packet have changed, from its frame before and after."""
    old, new = _ends(before), _ends(after)
    names = ("source", "destination")
    return [
        f"{name} {one} becomes {other}"
        for name, one, other in zip(names, old, new, strict=True)
        if one != other
    ]


def _ends(frame: bytes) -> tuple[End, End]:
    version = frame[ETHERNET_BYTES] >> 4
    at, size = ADDRESSES[version]
    at += ETHERNET_BYTES
    header = 20 if version == 4 else 40
    ports = ETHERNET_BYTES + header
    protocol = frame[ETHERNET_BYTES + PROTOCOL_AT[version]]
    numbers = [0, 0]
    if protocol in WITH_PORTS:
        numbers = [int.from_bytes(frame[ports + n : ports + n + 2]) for n in (0, 2)]
    source, dest = (ip_address(frame[at + n * size : at + (n + 1) * size]) for n in (0, 1))
    return End(source, numbers[0]), End(dest, numbers[1])

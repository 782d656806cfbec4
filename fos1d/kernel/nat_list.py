"""Sessions and bindings, listed and flushed: masks over batches, values only of the chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fos1d.abi import NatBit, NatWay
from fos1d.kernel import contents
from fos1d.kernel.bpf import Fd, MapInfo
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.nat_state import Mask, Records, ends, flows, in_rows, own_ends, pinned
from fos1d.model.packet import TCP
from fos1d.model.translated import Binding, Choice, Chosen, End, Ends, Session

Words: TypeAlias = npt.NDArray[np.unsignedinteger]
BOTH_SEEN = NatBit.NAT_SEEN_OUT | NatBit.NAT_SEEN_IN
BOTH_FINS = NatBit.NAT_FIN_OUT | NatBit.NAT_FIN_IN
NS_PER_S = 10**9


@dataclass(frozen=True, slots=True)
class _Side:
    """One end of each of several entries; where `there` is not, the entry does not say it."""

    addresses: Words
    ports: Words
    there: Mask | None = None


@dataclass(frozen=True, slots=True)
class _Sides:
    inside: _Side
    outside: _Side
    far: _Side


def choose(bpffs: Bpffs, choice: Choice, most: int, now_ns: int) -> Chosen:
    """Return at most so many of the living sessions and bindings; `now_ns` is CLOCK_MONOTONIC."""
    sessions: list[Session] = []
    bindings: list[Binding] = []
    session_count = binding_count = 0
    for version in (4, 6):
        for fd, info in pinned(bpffs, f"nat_flows{version}"):
            for keys, values in flows(fd, info, version):
                mask = _chosen_flows(keys, values, choice) & (values["until_ns"] >= now_ns)
                mask &= keys["way"] == NatWay.NAT_OUT
                session_count += int(mask.sum())
                found = _sessions(keys[mask], values[mask], now_ns)
                sessions += islice(found, most - len(sessions))
        for fd, info in pinned(bpffs, f"nat_ends{version}"):
            for keys, values in ends(fd, info, version):
                mask = _chosen_ends(keys, values, choice) & (values["until_ns"] >= now_ns)
                mask &= keys["way"] == NatWay.NAT_IN
                binding_count += int(mask.sum())
                listed = _bindings(keys[mask], values[mask], now_ns)
                bindings += islice(listed, most - len(bindings))
    return Chosen(tuple(sessions), tuple(bindings), session_count, binding_count)


def flush(bpffs: Bpffs, choice: Choice) -> Chosen:
    """Forget the chosen sessions and bindings; return how many there were.

    A packet may restore one half of a session from the other, so what was read first goes twice.
    """
    first = _flushed(bpffs, choice)
    _flushed(bpffs, choice)
    return first


def _flushed(bpffs: Bpffs, choice: Choice) -> Chosen:
    sessions = bindings = 0
    for version in (4, 6):
        for fd, info in pinned(bpffs, f"nat_flows{version}"):
            for keys, values in flows(fd, info, version):
                mask = _chosen_flows(keys, values, choice)
                sessions += int((mask & (keys["way"] == NatWay.NAT_OUT)).sum())
                _delete(fd, info, keys[mask])
        for fd, info in pinned(bpffs, f"nat_ends{version}"):
            for keys, values in ends(fd, info, version):
                mask = _chosen_ends(keys, values, choice) & ~own_ends(keys, values)
                bindings += int((mask & (keys["way"] == NatWay.NAT_IN)).sum())
                _delete(fd, info, keys[mask])
    return Chosen(session_count=sessions, binding_count=bindings)


def _delete(fd: Fd, info: MapInfo, keys: Records) -> None:
    size, whole = keys.itemsize, keys.tobytes()
    rows = (whole[at : at + size] for at in range(0, len(whole), size))
    contents.delete_entries(fd, info, rows)


# Choosing


def _chosen_flows(keys: Records, values: Records, choice: Choice) -> Mask:
    sides = _sides_of_flows(keys, values)
    return _meets(keys, values, choice) & (
        _within(sides.inside, choice.inside)
        & _within(sides.outside, choice.outside)
        & _within(sides.far, choice.far)
    )


def _chosen_ends(keys: Records, values: Records, choice: Choice) -> Mask:
    """Ends know no far side: who asks for one means sessions only."""
    if choice.far != Ends():
        return np.zeros(len(keys), np.bool_)
    inside, outside = _sides_of_ends(keys, values)
    chosen = _within(inside, choice.inside) & _within(outside, choice.outside)
    return _meets(keys, values, choice) & chosen


def _meets(keys: Records, values: Records, choice: Choice) -> Mask:
    mask: Mask = np.ones(len(keys), np.bool_)
    if choice.policies is not None:
        mask &= np.isin(values["policy"], sorted(choice.policies))
    if choice.protocol is not None:
        mask &= keys["protocol"] == choice.protocol
    return mask


def _within(side: _Side, wanted: Ends) -> Mask:
    mask: Mask = np.ones(len(side.ports), np.bool_)
    if wanted.port:
        mask &= side.ports == wanted.port
    if wanted.network is not None:
        mask &= _in_network(side.addresses, wanted)
    if side.there is not None and wanted != Ends():
        mask &= side.there
    return mask


def _in_network(addresses: Words, wanted: Ends) -> Mask:
    network = wanted.network
    assert network is not None
    is_six = addresses.ndim > 1
    if network.version == 4 and is_six:
        network = ip_network(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    if is_six != (network.version == 6):
        return np.zeros(len(addresses), np.bool_)
    mask = np.frombuffer(network.netmask.packed, ">u4")
    base = np.frombuffer(network.network_address.packed, ">u4")
    found: Mask = ((in_rows(addresses) & mask) == base).all(axis=1)
    return found


# Sides


def _sides_of_flows(keys: Records, values: Records) -> _Sides:
    """An OUT entry has its inside first, an IN entry its far end; PEER knows no inside."""
    is_out = keys["way"] == NatWay.NAT_OUT
    source = _Side(keys["source"], keys["source_port"])
    dest = _Side(keys["dest"], keys["dest_port"])
    made = _Side(values["address"], values["port"])
    inside = _either(is_out, source, made)
    known = _Side(inside.addresses, inside.ports, keys["way"] != NatWay.NAT_PEER)
    return _Sides(known, _either(is_out, made, dest), _either(is_out, dest, source))


def _sides_of_ends(keys: Records, values: Records) -> tuple[_Side, _Side]:
    is_out = keys["way"] == NatWay.NAT_OUT
    key, value = _Side(keys["address"], keys["port"]), _Side(values["address"], values["port"])
    return _either(is_out, key, value), _either(is_out, value, key)


def _either(first: Mask, one: _Side, other: _Side) -> _Side:
    chosen = first[:, None] if one.addresses.ndim > 1 else first
    return _Side(
        np.where(chosen, one.addresses, other.addresses), np.where(first, one.ports, other.ports)
    )


# Values


def _sessions(keys: Records, values: Records, now_ns: int) -> Iterator[Session]:
    sides = _sides_of_flows(keys, values)
    for place in range(len(keys)):
        bits, protocol = int(values["bits"][place]), int(keys["protocol"][place])
        yield Session(
            int(values["policy"][place]),
            protocol,
            _end(sides.inside, place),
            _end(sides.outside, place),
            _end(sides.far, place),
            _state(protocol, bits),
            bool(bits & NatBit.NAT_MAPPED),
            bool(bits & NatBit.NAT_HAIRPINNED),
            _seconds_left(values, place, now_ns),
        )


def _bindings(keys: Records, values: Records, now_ns: int) -> Iterator[Binding]:
    inside, outside = _sides_of_ends(keys, values)
    own = own_ends(keys, values)
    for place in range(len(keys)):
        yield Binding(
            int(values["policy"][place]),
            int(keys["protocol"][place]),
            _end(inside, place),
            _end(outside, place),
            bool(own[place]),
            _seconds_left(values, place, now_ns),
        )


def _state(protocol: int, bits: int) -> str:
    answered = bits & BOTH_SEEN == BOTH_SEEN
    if protocol != TCP:
        return "answered" if answered else "unanswered"
    if bits & NatBit.NAT_RST or bits & BOTH_FINS == BOTH_FINS:
        return "closed"
    if bits & BOTH_FINS:
        return "closing"
    return "established" if answered else "opening"


def _end(side: _Side, place: int) -> End:
    words = np.atleast_1d(side.addresses[place])
    address = ip_address(words.astype(">u4").tobytes())
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return End(address.ipv4_mapped, int(side.ports[place]))
    return End(address, int(side.ports[place]))


def _seconds_left(values: Records, place: int, now_ns: int) -> int:
    return max(int(values["until_ns"][place]) - now_ns, 0) // NS_PER_S

"""Interfaces as the policies' programs know them, and which of them may have a fast path."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fos1d import abi
from fos1d.abi import PlaceFlag, PlaceKind
from fos1d.abi import PolicyChain as Chains
from fos1d.kinds.policy_compiled import Compiled
from fos1d.kinds.policy_places import Place
from fos1d.model.facts import Facts, Interface
from fos1d.model.objects import Entries, Map

PLACE = np.dtype(abi.PLACE)
KEY_BYTES = 4
OUTSIDE = {4: PlaceFlag.PLACE_OUTSIDE4, 6: PlaceFlag.PLACE_OUTSIDE6}


def interface_entries(
    target: Map,
    records: Mapping[int, bytes],
    facts: Facts,
    outsides: Mapping[str, frozenset[int]],
) -> Entries:
    """Return the entries of policy_interfaces: the record of each place, by its interface's index,
    and those that frames may be sent to besides. `outsides` are the IP versions whose addresses are
    translated at an interface."""
    values = {index: np.frombuffer(record, PLACE).copy() for index, record in records.items()}
    for interface in facts.interfaces.values():
        flags = _flags(interface, outsides.get(interface.name, frozenset()))
        if flags:
            value = values.setdefault(interface.index, np.zeros(1, PLACE))
            value["flags"] |= np.uint32(flags)
    rows = (
        index.to_bytes(KEY_BYTES, "little") + value.tobytes()
        for index, value in values.items()
        if index < target.max_entries
    )
    return Entries(target.path, KEY_BYTES, PLACE.itemsize, b"".join(sorted(rows)), exclusive=True)


def _flags(interface: Interface, translated: frozenset[int]) -> int:
    flags = int(PlaceFlag.PLACE_TAKES_FRAMES) if interface.takes_frames else 0
    return flags | sum(int(OUTSIDE[version]) for version in translated)


def fast_places(compiled: Compiled, facts: Facts) -> list[Place]:
    """Return the interfaces that may have a fast path for what they receive: whose drivers can
    do it, and whose rules remember connections and do no more."""
    return [
        place
        for place, subject in compiled.places.numbers.items()
        if place.kind is PlaceKind.PLACE_INTERFACE
        and (found := facts.interfaces.get(place.name)) is not None
        and found.redirects
        and _remembers(compiled, subject)
    ]


def _remembers(compiled: Compiled, subject: int) -> bool:
    flags = compiled.rules.flags[subject][Chains.CHAIN_IN]
    judges = flags & (PlaceFlag.PLACE_POLICED | PlaceFlag.PLACE_STATEFUL)
    is_stateful = bool(flags & PlaceFlag.PLACE_STATEFUL)
    return (is_stateful or not judges) and not compiled.chains[Chains.CHAIN_IN].has_effects[subject]

"""Entries of the maps of address translation, packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.kinds.addresses import Address

Records = npt.NDArray[np.void]


def records(kind: abi.Record, count: int = 1, **fields: Any) -> Records:
    """Return records of the ABI. A field is one value for all of them, or one for each."""
    made = np.zeros(count, np.dtype(kind))
    for name, value in fields.items():
        made[name] = value
    return made


def words(addresses: Sequence[Address]) -> npt.NDArray[np.unsignedinteger]:
    """Return addresses of one IP version as the ABI has them: a word each, or four."""
    packed = np.frombuffer(b"".join(address.packed for address in addresses), ">u4")
    return packed if addresses[0].version == 4 else packed.reshape(-1, 4)


def word(address: Address) -> npt.NDArray[np.unsignedinteger]:
    """Return one address as the ABI has it."""
    found: npt.NDArray[np.unsignedinteger] = words([address])[0]
    return found


@dataclass(slots=True)
class Rows:
    """Entries of several maps in the making. Of two with one key, the first stays."""

    entries: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    def add(self, name: str, keys: Records, values: Records) -> None:
        """Add entries to a map."""
        held = self.entries.setdefault(name, {})
        for key, value in zip(_each(keys), _each(values), strict=True):
            held.setdefault(key, value)

    def has(self, name: str, key: Records) -> bool:
        """Whether a map has an entry of that key."""
        return key.tobytes() in self.entries.get(name, {})

    def packed(self) -> Mapping[str, bytes]:
        """Return the entries of each map, sorted and packed."""
        return {
            name: b"".join(key + held[key] for key in sorted(held))
            for name, held in self.entries.items()
        }


def _each(array: Records) -> Iterator[bytes]:
    size, whole = array.itemsize, array.tobytes()
    return (whole[at : at + size] for at in range(0, len(whole), size))

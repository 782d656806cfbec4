"""Servers that share a port -> slots, so that a server that comes or goes moves few connections.

Each slot goes to the server with the highest score in it (rendezvous hashing, Thaler and
Ravishankar 1998, with weights): one that goes gives up its own slots and no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

NOBODY = -1


def shares(servers: Sequence[tuple[bytes, int]], slots: int) -> npt.NDArray[np.int64]:
    """Return the place of the server that has each slot, from the names and weights of all.

    A server of weight 0 has none; if no server has a weight, all slots are nobody's.
    """
    living = [place for place, (_, weight) in enumerate(servers) if weight]
    if not living:
        return np.full(slots, NOBODY, np.int64)
    scores = np.stack([_scores(*servers[place], slots) for place in living])
    chosen: npt.NDArray[np.int64] = np.array(living, np.int64)[scores.argmax(axis=0)]
    return chosen


def _scores(name: bytes, weight: int, slots: int) -> npt.NDArray[np.float64]:
    seed = np.frombuffer(hashlib.blake2b(name, digest_size=8).digest(), "<u8")
    numbers = np.arange(1, slots + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = _mixed(numbers ^ seed)
    unit = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    scores: npt.NDArray[np.float64] = np.log(unit) / weight
    return scores


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread numbers evenly (the finalizer of SplitMix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))

"""Housekeeping of what the rules of policies have counted and of what their limits let through.

Each version of the rules counts by itself. When one goes, what it has counted is added to the
version that is loaded then, of the rules that are in both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpf import Fd
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.counters import read_stats, stats_pins
from fos1d.model.pins import SHARED_POLICY, TABLES, state_family

SPARE = int(abi.Size.RULE_BUCKETS) // 2
COUNTER = np.dtype("<u8")
RULE = np.dtype(abi.POLICY_RULE)

Counters = npt.NDArray[np.uint64]


def hand_over(bpffs: Bpffs, path: str) -> None:
    """Add what a version that goes has counted to the newest other one.

    That one notes the id of the map in the same call, so a daemon that was killed in between adds
    nothing twice.
    """
    with bpffs.open(path) as old:
        number = bpf.map_info(old).id
        heir = _newest(bpffs, [other for other in stats_pins(bpffs) if other != path])
        if heir is None:
            return
        with heir:
            stats = read_stats(heir)
            if stats.last_added == number:
                return
            elements = stats.with_earlier(read_stats(old), number)
            keys = np.arange(len(stats.elements), dtype="<u4")[-len(elements) :]
            contents.write_raw(heir, bpf.map_info(heir), keys.tobytes(), elements.tobytes())


def _newest(bpffs: Bpffs, paths: list[str]) -> Fd | None:
    newest: Fd | None = None
    for path in paths:
        found = bpffs.open(path)
        if newest is None or bpf.map_info(newest).id < bpf.map_info(found).id:
            newest, found = found, newest or found
        if found is not newest:
            found.close()
    return newest


def forget_buckets(bpffs: Bpffs) -> None:
    """Forget what is left of the limits of rules that are gone, where they take half the room."""
    for path in bpffs.pins(state_family(SHARED_POLICY, "rule_buckets")):
        with bpffs.open(path) as fd:
            info = bpf.map_info(fd)
            parts = [np.frombuffer(keys, COUNTER) for keys, _ in contents.read_raw(fd, info)]
            held = np.concatenate([np.empty(0, COUNTER), *parts])
            if len(held) > SPARE:
                gone = np.setdiff1d(held, counters_in_force(bpffs))
                contents.delete_entries(fd, info, [counter.tobytes() for counter in gone])


def counters_in_force(bpffs: Bpffs) -> Counters:
    """Return the counters of the rules of all versions that are loaded."""
    found = [np.empty(0, COUNTER)]
    for path in bpffs.pins(TABLES):
        if path.endswith("/policy_rules"):
            with bpffs.open(path) as fd:
                raw = contents.read_array(fd, bpf.map_info(fd))
                found.append(np.frombuffer(raw, RULE)["counter"])
    return np.unique(np.concatenate(found))

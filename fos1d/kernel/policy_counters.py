"""Housekeeping of what rules have counted: free the slots and buckets of rules that are gone.

The programs take a slot for each rule that ever matched. When more than half are taken, the slots
of rules that no version in force has are given back. A rule that is gone rests until the next
sweep: whatever judged by it has ended when its slot becomes another's.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.kernel import bpf, contents
from fos1d.kernel.bpf import Fd
from fos1d.kernel.bpffs import Bpffs
from fos1d.model.pins import SHARED_POLICY, TABLES, state_family

SPARE = int(abi.Size.RULE_COUNTERS) // 2
COUNTER, NUMBER = np.dtype("<u8"), np.dtype("<u4")
RULE, STAT = np.dtype(abi.POLICY_RULE), np.dtype(abi.STAT)

Counters = npt.NDArray[np.uint64]
Gone = frozenset[int]


def free_gone(bpffs: Bpffs, gone_before: Gone = frozenset()) -> Gone:
    """Free what rules have that are gone and were `gone_before`; return which are gone now.

    Nothing is gone as long as there is plenty of room.
    """
    with ExitStack() as stack:
        maps = {
            name: stack.enter_context(bpffs.open(path))
            for name in ("rule_slots_taken", "rule_slots_free", "rule_slots", "rule_stats")
            for path in bpffs.pins(state_family(SHARED_POLICY, name))
        }
        if len(maps) < 4 or _taken(maps["rule_slots_taken"]) <= SPARE:
            return frozenset()
        living = counters_in_force(bpffs)
        _forget_buckets(bpffs, living)
        numbers = _numbers(maps["rule_slots"])
        if len(numbers) <= SPARE:
            return frozenset()
        gone = frozenset(numbers.keys() - set(living.tolist()))
        _free({counter: numbers[counter] for counter in sorted(gone & gone_before)}, maps)
        return gone - gone_before


def counters_in_force(bpffs: Bpffs) -> Counters:
    """Return the counters of the rules of all versions that are loaded, and of their limits."""
    found = [np.empty(0, COUNTER)]
    for path in bpffs.pins(TABLES):
        if path.endswith("/policy_rules"):
            with bpffs.open(path) as fd:
                raw = contents.read_array(fd, bpf.map_info(fd))
                found.append(np.frombuffer(raw, RULE)["counter"])
    counters = np.concatenate(found)
    return np.unique(np.concatenate([counters, ~counters]))


def _taken(fd: Fd) -> int:
    ((_, value),) = contents.read_whole(fd, bpf.map_info(fd))
    return int.from_bytes(value, "little")


def _numbers(fd: Fd) -> dict[int, int]:
    """Return where each counter counts: the index in rule_stats, and one."""
    found: dict[int, int] = {}
    for keys, values in contents.read_raw(fd, bpf.map_info(fd)):
        counters, numbers = np.frombuffer(keys, COUNTER), np.frombuffer(values, NUMBER)
        found.update(zip(counters.tolist(), numbers.tolist(), strict=True))
    return found


def _free(numbers: dict[int, int], maps: dict[str, Fd]) -> None:
    """Give slots back, empty. One by one: a daemon that is killed here loses one at most."""
    stats, slots = maps["rule_stats"], bpf.map_info(maps["rule_slots"])
    none = bytes(STAT.itemsize)
    empty = {_packed(number - 1, NUMBER): none for number in numbers.values()}
    contents.write_entries(stats, bpf.map_info(stats), empty)
    for counter, number in numbers.items():
        contents.delete_entries(maps["rule_slots"], slots, [_packed(counter, COUNTER)])
        contents.push_element(maps["rule_slots_free"], _packed(number, NUMBER))


def _forget_buckets(bpffs: Bpffs, living: Counters) -> None:
    for path in bpffs.pins(state_family(SHARED_POLICY, "rule_buckets")):
        with bpffs.open(path) as fd:
            info = bpf.map_info(fd)
            parts = [np.frombuffer(keys, COUNTER) for keys, _ in contents.read_raw(fd, info)]
            held = np.concatenate([np.empty(0, COUNTER), *parts])
            if len(held) > SPARE:
                gone = np.setdiff1d(held, living)
                contents.delete_entries(fd, info, [counter.tobytes() for counter in gone])


def _packed(number: int, kind: np.dtype[np.unsignedinteger]) -> bytes:
    return number.to_bytes(kind.itemsize, "little")

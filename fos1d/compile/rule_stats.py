"""What rules have counted: the layout of policy_stats (bpf/include/fos1/abi.h, fos1_rule_row)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.abi import RuleRow

Stats = npt.NDArray[Any]

STAT = np.dtype(abi.STAT)
A_CPU = int(RuleRow.ROWS_A_CPU)


@dataclass(frozen=True, slots=True, eq=False)
class RuleStats:
    """The elements of policy_stats. `rows[row, rule]` are views of them: of each CPU, of earlier
    versions, and the counters."""

    elements: Stats = field(repr=False)
    rows: Stats = field(repr=False)

    @property
    def counters(self) -> npt.NDArray[np.uint64]:
        """The counter of each rule."""
        return np.asarray(self.rows[-1]["packets"], np.uint64)

    @property
    def last_added(self) -> int:
        """The id of the map whose counts were added most recently, 0 if none was."""
        return int(self.elements[-1]["packets"])

    def total(self, row: RuleRow) -> Stats:
        """Return packets and bytes of each rule, of all CPUs and all versions."""
        rows = self.rows[row:-1:A_CPU]
        total = np.zeros(rows.shape[1], STAT)
        for name in ("packets", "bytes"):
            total[name] = rows[name].sum(axis=0)
        return total

    def with_earlier(self, earlier: RuleStats, number: int) -> Stats:
        """Return the last elements with what an `earlier` version counted, the map with that id,
        added to the rules that stayed."""
        changed = RuleStats.of(self.elements.copy(), len(self.rows) // A_CPU - 1)
        _, here, there = np.intersect1d(self.counters, earlier.counters, return_indices=True)
        for row in (RuleRow.ROW_MATCHED, RuleRow.ROW_EXCEEDING):
            total, sums = earlier.total(row), changed.rows[row - A_CPU - 1]
            for name in ("packets", "bytes"):
                sums[name][here] += total[name][there]
        changed.elements[-1]["packets"] = number
        return changed.elements[-(A_CPU + 1) * self.rows.shape[1] - 1 :]

    @classmethod
    def of(cls, elements: Stats, cpus: int) -> RuleStats:
        """Return what a whole policy_stats holds on a machine of so many CPUs."""
        rows = A_CPU * (cpus + 1) + 1
        return cls(elements, elements[:-1].reshape(rows, -1))


def no_stats(counters: Sequence[int], cpus: int) -> Stats:
    """Return the elements before anything is counted of rules with these counters."""
    elements = np.zeros((A_CPU * (cpus + 1) + 1) * len(counters) + 1, STAT)
    RuleStats.of(elements, cpus).rows[-1]["packets"] = counters
    return elements

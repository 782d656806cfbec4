"""What is freed and recounted from time to time; none of it decides a packet's fate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.connections import has_workloads, recount
from fos1d.kernel.flows import has_flows, sweep
from fos1d.kernel.nat_state import has_translations
from fos1d.kernel.nat_sweep import sweep_translations
from fos1d.kernel.policy_counters import forget_buckets
from fos1d.kernel.port import RealKernel

SWEEP_S = 30.0
# From when addresses or rules changed until no program goes by the old ones.
SETTLED_S = 0.1


@dataclass(slots=True)
class Housekeeping:
    """What is to be done every half minute. `attempt` does a part of it, and tells of errors."""

    kernel: RealKernel
    attempt: Callable[[Callable[[], None]], None]
    _translations: int = 0
    _sweeping: threading.Thread | None = None

    def sweep(self) -> float:
        """Do it; return after how many seconds it is to be done again."""
        for part in (self._flows, self._translated, self._rules, self._connections):
            self.attempt(part)
        return SWEEP_S

    def is_due_for(self, translations: int) -> bool:
        """Whether a pass, after which this stands for all translations, has left flows and ends
        of addresses that are gone."""
        before, self._translations = self._translations, translations
        return before != translations

    def _flows(self) -> None:
        if has_flows(self.kernel.bpffs):
            sweep(self.kernel.bpffs, _now_ns())

    def _translated(self) -> None:
        """Sweep beside the loop: a million flows take seconds; an address may change meanwhile."""
        is_busy = self._sweeping is not None and self._sweeping.is_alive()
        if is_busy or not has_translations(self.kernel.bpffs):
            return
        bpffs = self.kernel.bpffs
        sweep = partial(self.attempt, lambda: _sweep(bpffs))
        self._sweeping = threading.Thread(target=sweep, name="sweep", daemon=True)
        self._sweeping.start()

    def _rules(self) -> None:
        forget_buckets(self.kernel.bpffs)

    def _connections(self) -> None:
        root = self.kernel.cgroups.root()
        if root is not None and has_workloads(self.kernel.bpffs):
            recount(self.kernel.bpffs, root)


def _sweep(bpffs: Bpffs) -> None:
    sweep_translations(bpffs, _now_ns())


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

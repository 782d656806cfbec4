"""Drift: objects that were as desired and were changed by somebody else.

What keeps coming back is contested: it is set right each time, but people are told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from fos1d.model.objects import Key

CONTESTED_TIMES = 5
CONTESTED_WITHIN_S = 600.0


@dataclass(slots=True)
class Drift:
    """When each object was set right, of late; and how often in all."""

    total: int = 0
    _times: dict[Key, deque[float]] = field(default_factory=dict)

    def record(self, drifted: Iterable[Key], now: float) -> frozenset[Key]:
        """Note what a pass at `now` (seconds) set right; return what is contested."""
        for key in drifted:
            self._times.setdefault(key, deque()).append(now)
            self.total += 1
        for key, times in list(self._times.items()):
            while times and now - times[0] > CONTESTED_WITHIN_S:
                times.popleft()
            if not times:
                del self._times[key]
        return frozenset(key for key, times in self._times.items() if len(times) > CONTESTED_TIMES)

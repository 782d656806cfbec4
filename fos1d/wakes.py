"""What the loop waits for: reasons to make a pass, and work to do between passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

# A burst of events is one reason: after the first, wait for silence, but not for long.
QUIET_S = 0.002
MOST_QUIET_S = 0.1


@dataclass(frozen=True, slots=True)
class Woken:
    """Why the loop goes on. Neither a reason nor work: the time was over."""

    reasons: frozenset[str] = frozenset()
    work: tuple[Callable[[], None], ...] = ()


class Wakes:
    """Collects reasons and work from any thread; one loop takes them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reasons: set[str] = set()
        self._work: list[Callable[[], None]] = []

    def wake(self, reason: str) -> None:
        """Give a reason for a pass."""
        with self._changed:
            self._reasons.add(reason)
            self._changed.notify()

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Have work done by the loop's thread, between passes."""
        future: Future[Any] = Future()
        with self._changed:
            self._work.append(lambda: _settle(future, work))
            self._changed.notify()
        return future

    def wait(self, timeout_s: float) -> Woken:
        """Wait for reasons or work, at most so long; let a burst of reasons come to rest."""
        with self._changed:
            self._changed.wait_for(self._any, timeout_s)
            waited = 0.0
            while self._reasons and waited < MOST_QUIET_S:
                before = len(self._reasons)
                self._changed.wait(QUIET_S)
                waited += QUIET_S
                if len(self._reasons) == before:
                    break
            woken = Woken(frozenset(self._reasons), tuple(self._work))
            self._reasons.clear()
            self._work.clear()
            return woken

    def _any(self) -> bool:
        return bool(self._reasons or self._work)


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)

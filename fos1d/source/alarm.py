"""A thread that wakes somebody when a changing tree has settled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from fos1d.source.settle import Change, Ready, Settle, Timing, Verdict, Waiting


class Alarm:
    """The settle machine, its clock, and the thread that calls `wake` when it says Ready."""

    def __init__(self, wake: Callable[[], None], timing: Timing) -> None:
        self._wake = wake
        self._settle = Settle(time.monotonic(), timing)
        self._announced = -1
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="settle", daemon=True)

    def start(self, known: AbstractSet[str]) -> None:
        """Begin to wake; `known` is what there is now."""
        with self._changed:
            self._settle.begin(known, time.monotonic())
        self._thread.start()

    def stop(self) -> None:
        """End the thread, without a last wake."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def feed(self, change: Change) -> None:
        """Take note of a change."""
        with self._changed:
            self._settle.feed(change, time.monotonic())
            self._changed.notify()

    def again(self) -> None:
        """Note that a snapshot could not be taken, and wake again soon."""
        with self._changed:
            self._settle.again(time.monotonic())
            self._changed.notify()

    def verdict(self) -> tuple[Verdict, int]:
        """Return whether a snapshot may be taken, and the count of changes until now."""
        with self._changed:
            return self._settle.verdict(time.monotonic()), self._settle.count

    def taken(self, known: AbstractSet[str], count: int) -> bool:
        """Note that a snapshot was taken, unless changes came since `count`; tell which."""
        with self._changed:
            if self._settle.count != count:
                return False
            self._settle.taken(known, time.monotonic())
            self._changed.notify()
            return True

    def _run(self) -> None:
        while self._wait():
            self._wake()

    def _wait(self) -> bool:
        """Return True when it is time to wake, False at the end."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                match self._settle.verdict(now):
                    case Ready() if self._announced != self._settle.count:
                        self._announced = self._settle.count
                        return True
                    case Waiting(until):
                        self._changed.wait(until - now)
                    case _:
                        self._changed.wait()
        return False

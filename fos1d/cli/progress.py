"""A progress bar for long work: on standard error, on a terminal only, never with NO_COLOR."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

WIDTH = 30
PERIOD_S = 0.1


class ProgressBar:
    """Draws how much of `what` is done; call it with how many are done, and of how many."""

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        self._what = what
        self._stream = stream or sys.stderr
        self._wanted = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._next_s = time.monotonic() + PERIOD_S
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Draw the bar, at most ten times a second."""
        if not self._wanted or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + PERIOD_S
        filled = WIDTH * done // max(total, 1)
        bar = "#" * filled + "." * (WIDTH - filled)
        self._stream.write(f"\r[{bar}] {done}/{total} {self._what}\x1b[K")
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        """Remove the bar, so that what follows starts on a clean line."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

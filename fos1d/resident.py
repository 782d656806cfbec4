"""What this process holds resident, and giving back what it freed.

glibc keeps freed memory for later. A daemon that read a million lines once would hold for good what
the reading took.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
from contextlib import suppress
from pathlib import Path

# mallopt(3)
M_ARENA_MAX = -8
WORTH_BYTES = 4 * 1024 * 1024


def resident_bytes() -> int:
    """Return the resident size (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def be_thrifty() -> None:
    """Have one heap for all threads; one for each keeps what the others could use."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def settle() -> None:
    """Spare the collector what is there now: modules and what the first pass made stay, and to
    walk through them would hold up a later pass by 20 ms."""
    gc.collect()
    gc.freeze()


class Giver:
    """Gives freed memory back when much was used since it did so last."""

    def __init__(self) -> None:
        self._least_bytes = 0

    def give_back(self) -> None:
        """Give back what is free, if the process grew. Where libc has no malloc_trim, it stays."""
        if resident_bytes() < self._least_bytes + WORTH_BYTES:
            return
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        self._least_bytes = resident_bytes()

"""Tests that run at the same time in other workers, and how one that measures has them wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path


@dataclass(frozen=True)
class Others:
    """The other workers' tests. `door` and `room` are open files that all workers lock."""

    door: int
    room: int

    def enter(self, how: int) -> None:
        """Wait for the room; who waits at the door for all of it lets nobody in before."""
        flock(self.door, LOCK_EX)
        flock(self.room, how)
        flock(self.door, LOCK_UN)

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Have them wait."""
        flock(self.room, LOCK_UN)
        self.enter(LOCK_EX)
        try:
            yield
        finally:
            flock(self.room, LOCK_SH)


@contextmanager
def beside(folder: Path) -> Iterator[Others]:
    """Run beside other tests, whose workers share the folder."""
    locks = [os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in ("door", "room")]
    others = Others(*locks)
    others.enter(LOCK_SH)
    try:
        yield others
    finally:
        for lock in locks:
            flock(lock, LOCK_UN)
            os.close(lock)

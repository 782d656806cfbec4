"""Reading one file, if it is still the one that was listed and nobody is writing it.

Whether a file is open for writing is asked of the kernel: a read lease (fcntl(2), F_SETLEASE) is
granted only while it is not, and whoever opens it for writing waits until the lease is given back.
So a file read under a lease is whole. The kernel grants leases to the file's owner and to
CAP_LEASE; some file systems have none. Where it cannot be told, the caller's own knowledge counts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum

from fos1d.errors import SnapshotChanged, SourceError
from fos1d.model.snapshot import PIECE_BYTES
from fos1d.source.links import Stamp, stamp_of
from fos1d.source.tree import path_of

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CHUNK_BYTES = 1 << 20
_LONGEST_TICK_NS = 20_000_000
_NEWS_NS = 20_000_000
_NEWS_OF_CUT_NS = 2_000_000_000


class Writers(Enum):
    """Whether somebody has a file open for writing."""

    NONE = "none"
    SOME = "some"
    UNKNOWN = "unknown"


@contextmanager
def opened_file(path: str, stamp: Stamp) -> Iterator[int]:
    """Open the file that had `stamp` when it was listed.

    `path` is absolute and free of symlinks. Raises SnapshotChanged where another file is there by
    now, or the same with other content, both before and after the body; SourceError where it may
    not be read.
    """
    try:
        fd = os.open(path, _FILE)
    except PermissionError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise SnapshotChanged(f"{path} vanished while it was read") from error
    try:
        _check(fd, path, stamp)
        if path_of(fd) != path:
            raise SnapshotChanged(f"{path} was replaced while it was read")
        yield fd
        _check(fd, path, stamp)
    finally:
        os.close(fd)


def _check(fd: int, path: str, stamp: Stamp) -> None:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or stamp_of(info) != stamp:
        raise SnapshotChanged(f"{path} changed while it was read")


@contextmanager
def leased(fd: int) -> Iterator[Writers]:
    """Keep writers out, if nobody has the file open for writing; say whether somebody has."""
    writers = _lease(fd)
    try:
        yield writers
    finally:
        if writers is Writers.NONE:
            with suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _lease(fd: int) -> Writers:
    """Take a read lease. A writer who comes now is announced by SIGURG, ignored by default."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return Writers.SOME if error.errno == errno.EAGAIN else Writers.UNKNOWN
    return Writers.NONE


def read_file(path: str, stamp: Stamp) -> bytes:
    """Return the bytes of the file that had `stamp`; SnapshotChanged if it has it no more."""
    with opened_file(path, stamp) as fd, leased(fd) as writers:
        if writers is Writers.SOME:
            raise SnapshotChanged(f"{path} is open for writing")
        return read_all(fd, stamp.size_bytes)


def stream_file(path: str, stamp: Stamp) -> Iterator[bytes]:
    """Yield the bytes that `read_file` would return, piece by piece."""
    with opened_file(path, stamp) as fd, leased(fd) as writers:
        if writers is Writers.SOME:
            raise SnapshotChanged(f"{path} is open for writing")
        while piece := os.read(fd, PIECE_BYTES):
            yield piece


def read_all(fd: int, size_bytes: int) -> bytes:
    """Return the content of an open file; `size_bytes` is what it should have."""
    parts = []
    while part := os.read(fd, max(size_bytes + 1, _CHUNK_BYTES)):
        parts.append(part)
        size_bytes -= len(part)
        if size_bytes < 0:
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


def now_ns() -> int:
    """Return the time of the clock that stamps files, which moves by the timer tick."""
    return time.clock_gettime_ns(_STAMPING_CLOCK)


def is_doubtful(stamp: Stamp, since_ns: int) -> bool:
    """Tell whether what is written at `since_ns` or later could leave the stamp as it is.

    On kernels whose file times move by the tick it can, if the tick is the same.
    """
    return 0 <= stamp.ctime_ns - since_ns < _LONGEST_TICK_NS


def was_just_written(stamp: Stamp) -> bool:
    """Tell whether a file was written so recently that the news of it may not have come yet.

    A file that was cut to nothing tells of it only when the file system is done with that.
    """
    news_ns = _NEWS_NS if stamp.size_bytes else _NEWS_OF_CUT_NS
    return abs(now_ns() - stamp.mtime_ns) < news_ns


def wait_for_tick(stamps: Iterable[Stamp]) -> None:
    """Wait, a few milliseconds at most, until no stamp is doubtful any more."""
    latest = max(stamps, key=lambda stamp: stamp.ctime_ns, default=None)
    while latest and is_doubtful(latest, now_ns()):
        time.sleep(0.001)


_STAMPING_CLOCK = 5  # CLOCK_REALTIME_COARSE, which the time module does not name

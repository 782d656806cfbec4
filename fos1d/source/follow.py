"""Following a source: whoever runs a pass is woken when there is something new to take.

`wake` is called, from a thread of the follower, when a new snapshot may be taken and not before.
`snapshot` may be called at any time: it gives the newest whole state, which is the one before while
files are being written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from fos1d.errors import SnapshotChanged, SourceError
from fos1d.model.snapshot import Snapshot
from fos1d.source.alarm import Alarm
from fos1d.source.directory import DirectorySource
from fos1d.source.git import GitSource
from fos1d.source.settle import DEFAULT_TIMING, Change, Quiet, Ready, Timing, Waiting
from fos1d.source.spots import names_in, spots_above, spots_in
from fos1d.source.watch import Spot, Watch

_TRIES = 4
_PAUSE_S = 0.02
_LOOK_ANYWAY_S = 20.0


class Follower(Protocol):
    """A source and its wakes."""

    def start(self) -> None:
        """Begin to watch. Raises SourceError where it cannot be watched."""

    def stop(self) -> None:
        """End watching and the threads."""

    def snapshot(self) -> Snapshot:
        """Return the newest whole snapshot; raise SourceError where the source cannot be read."""

    @property
    def settled(self) -> bool:
        """Whether nothing is waiting to be taken."""


def follow(source: DirectorySource | GitSource, wake: Callable[[], None]) -> Follower:
    """Return a follower of `source`; `wake` must return soon, whatever thread it is called in."""
    match source:
        case DirectorySource():
            return DirectoryFollower(source, wake)
        case GitSource():
            return GitFollower(source, wake)


class DirectoryFollower:
    """Follows a directory that anybody may write to at any time."""

    def __init__(
        self, source: DirectorySource, wake: Callable[[], None], timing: Timing = DEFAULT_TIMING
    ) -> None:
        self._source = source
        self._timing = timing
        self._alarm = Alarm(wake, timing)
        self._watch = Watch(self._alarm.feed)
        self._last: Snapshot | None = None
        self._looked = float("-inf")

    def start(self) -> None:
        """Begin to watch. Raises SourceError where it cannot be watched."""
        self._watch.start()
        with suppress(SourceError):
            self._source.survey()
        self._cover()
        self._alarm.start(self._known())

    def stop(self) -> None:
        """End watching and the threads."""
        self._watch.stop()
        self._alarm.stop()

    @property
    def settled(self) -> bool:
        """Whether nothing is waiting to be taken."""
        self._watch.fence()
        return isinstance(self._alarm.verdict()[0], Quiet)

    def snapshot(self) -> Snapshot:
        """Return the newest whole snapshot, which is the last one while files are being written.

        Where there is none yet, wait for it for some seconds. Raises SourceError where the tree
        cannot be read.
        """
        deadline = time.monotonic() + 2 * self._timing.limit_s
        while time.monotonic() < deadline:
            for _ in range(_TRIES):
                if taken := self._take():
                    return taken
            if self._last:
                return self._last
            time.sleep(_PAUSE_S)
        raise SnapshotChanged(f"{self._source.place} does not stand still long enough to be read")

    def _take(self) -> Snapshot | None:
        """Take a snapshot in which nothing happened from before its beginning to its end."""
        self._watch.fence()
        verdict, count = self._alarm.verdict()
        match verdict:
            case Waiting():
                return None
            case Quiet():
                return self._last_if_fresh() or self._read(Ready(), count)
            case Ready():
                return self._read(verdict, count)

    def _last_if_fresh(self) -> Snapshot | None:
        """Return the last snapshot unless it is old: inotify cannot see mmap and NFS writes."""
        return self._last if time.monotonic() < self._looked + _LOOK_ANYWAY_S else None

    def _read(self, ready: Ready, count: int) -> Snapshot | None:
        self._looked = float("-inf")
        try:
            taken = self._source.snapshot(ready.held, ready.patient)
        except SnapshotChanged:
            self._cover()
            self._alarm.again()
            return None
        except SourceError:
            if self._cover() or not self._alarm.taken(self._known(), count):
                self._alarm.again()
            raise
        return taken if self._accept(taken, count) else None

    def _accept(self, taken: Snapshot, count: int) -> bool:
        """Tell whether nothing happened meanwhile, and could not have without being seen."""
        newly_watched = self._cover()
        self._watch.fence()
        if newly_watched or not self._alarm.taken(self._known(), count):
            return False
        self._last, self._looked = taken, time.monotonic()
        return True

    def _cover(self) -> bool:
        return self._watch.cover(self._spots())

    def _spots(self) -> list[Spot]:
        sight = self._source.sight
        below = spots_in(sight.base, sight.listing) if sight else []
        return spots_above(self._source.place) + below

    def _known(self) -> frozenset[str]:
        """Return every path whose vanishing means something."""
        sight = self._source.sight
        if sight is None:
            return frozenset()
        seen = {found.real for found in sight.listing.files.values()}
        seen.update(sight.listing.links, sight.listing.folders)
        return frozenset(seen.union(names_in(spots_above(self._source.place))))


class GitFollower:
    """Follows a branch of a repository on disk. What a commit holds never changes."""

    def __init__(self, source: GitSource, wake: Callable[[], None]) -> None:
        self._source = source
        self._wake = wake
        self._watch = Watch(self._see)
        self._last: Snapshot | None = None
        self._seen: str | None = None

    def start(self) -> None:
        """Begin to watch. Raises SourceError where it cannot be watched."""
        self._watch.start()
        self._watch.cover(self._spots())
        self._seen = self._head()

    def stop(self) -> None:
        """End watching, the thread and git."""
        self._watch.stop()
        self._source.close()

    @property
    def settled(self) -> bool:
        """Whether the branch is where the last snapshot was taken."""
        return self._last is not None and self._head() == self._last.revision

    def snapshot(self) -> Snapshot:
        """Return the files of the commit that the branch points to."""
        head = self._source.head()
        if self._last is None or head != self._last.revision:
            self._last = self._source.snapshot(head)
        return self._last

    def _see(self, change: Change) -> None:
        """Wake if the branch moved; folders that are new may have been missed, so look twice."""
        self._compare()
        try:
            newly_watched = self._watch.cover(self._spots())
        except SourceError:
            return
        if newly_watched:
            self._compare()

    def _compare(self) -> None:
        head = self._head()
        if head != self._seen:
            self._seen = head
            self._wake()

    def _head(self) -> str | None:
        """Return the branch's commit; None too where it cannot be read, which `snapshot` tells."""
        try:
            return self._source.head()
        except SourceError:
            return None

    def _spots(self) -> list[Spot]:
        """Return where the branch's ref lies, or where the repository would come to be."""
        path = self._source.path
        try:
            files = self._source.layout().ref_files(self._source.branch)
        except SourceError:
            files = [path / name for name in ("HEAD", "objects", ".git")]
        return [spot for file in (path, *files) for spot in spots_above(file)]

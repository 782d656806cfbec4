"""inotify, by watchdog: what happens in folders is reported as changes, within milliseconds.

watchdog's own observers hold back a rename whose halves come in two reads for half a second, and
pass silently over folders for which no watches are left. So this uses the layer below them, the
reader of an inotify instance: one thread, which sleeps while nothing happens.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from fos1d.errors import SourceError
from fos1d.source.names import is_ignored, joined
from fos1d.source.settle import Change, What

_NAMES = Mask(
    InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_MASK_ADD
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_MOVE_SELF
)
_WRITES = Mask(
    _NAMES
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ATTRIB
)
_OPENING = Mask(InotifyConstants.IN_OPEN | InotifyConstants.IN_MASK_ADD)
_FENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A folder to watch, by its path free of symlinks, and what in it matters.

    `shown` is put before the names in reports. The names in `names` matter in any case; with
    `whole`, all that are not ignored; with `writes`, also what is written into those files.
    """

    path: str
    shown: str
    names: frozenset[str] = frozenset()
    whole: bool = False
    writes: bool = False

    def wants(self, name: str, folder: bool) -> bool:
        """Tell whether a name in this folder matters."""
        return name in self.names or (self.whole and not is_ignored(name, folder))


class Watch:
    """An inotify instance and the folders that it watches. `report` is called in its thread."""

    def __init__(self, report: Callable[[Change], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._posts: dict[Spot, _Post] = {}
        self._failure: SourceError | None = None
        self._fence = _Fence()
        try:
            self._reader = InotifyFD()
        except OSError as error:
            raise _explained(error, "starting") from error

    def start(self) -> None:
        """Begin to read events."""
        self._reader.start()
        self._reader.add_callback(os.fsencode(__file__), _OPENING, self._fence, _id(self._fence))

    def stop(self) -> None:
        """End the thread and give all watches back."""
        self._reader.stop()
        self._reader.join()

    def cover(self, spots: Collection[Spot]) -> bool:
        """Watch exactly these folders; tell whether one of them was not watched until now.

        A folder that is not there is passed over. Raises SourceError at inotify's limits.
        """
        with self._lock:
            for spot in self._posts.keys() - set(spots):
                self._leave(self._posts.pop(spot))
            added = [self._occupy(spot) for spot in spots]
            failure, self._failure = self._failure, None
        if failure:
            raise failure
        return any(added)

    def fence(self) -> None:
        """Return when everything that happened before the call has been reported."""
        with self._fence.lock:
            self._fence.passed.clear()
            os.close(os.open(__file__, os.O_RDONLY | os.O_CLOEXEC))
            if not self._fence.passed.wait(_FENCE_S):
                raise SourceError(
                    "the thread that watches the source does not answer: restart fos1d"
                )

    def _occupy(self, spot: Spot) -> bool:
        identity = _identity(spot.path)
        post = self._posts.get(spot)
        if identity is None or (post and post.identity == identity and not post.dropped):
            return False
        if post:
            self._leave(post)
        self._posts[spot] = post = _Post(spot, identity, self._see)
        mask = _WRITES if spot.writes else _NAMES
        try:
            post.descriptor = self._reader.add_callback(
                os.fsencode(spot.path), mask, post, _id(post)
            )
        except OSError as error:
            del self._posts[spot]
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise _explained(error, f"watching {spot.path}") from error
        return True

    def _leave(self, post: _Post) -> None:
        if post.descriptor is not None and not post.dropped:
            self._reader.remove_callbacks([(post.descriptor, _id(post))])

    def _see(self, spot: Spot, change: Change, name: str) -> None:
        """Report a change; watch a folder that is new, and those in it, before that."""
        if change.folder and spot.whole and change.what in (What.PLACED, What.TOUCHED) and name:
            with self._lock:
                self._descend(f"{spot.path}/{name}", change.path)
        self._report(change)

    def _descend(self, path: str, shown: str) -> None:
        try:
            self._occupy(Spot(path, shown, whole=True, writes=True))
        except SourceError as error:
            self._failure = error
            return
        for name in _folders_in(path):
            self._descend(f"{path}/{name}", joined(shown, name))


@dataclass(slots=True, eq=False)
class _Post:
    """Who hears of one folder, as watchdog wants it."""

    spot: Spot
    identity: tuple[int, int]
    see: Callable[[Spot, Change, str], None]
    descriptor: WatchDescriptor | None = None
    dropped: bool = False

    def on_event(self, event: InotifyEvent) -> None:
        """Turn an event into a change."""
        if event.is_move_self and not self.spot.whole:
            self._vanish()
        name = os.fsdecode(event.name)
        folder = bool(event.mask & InotifyConstants.IN_ISDIR)
        if name and self.spot.wants(name, folder):
            what = _what(event, f"{self.spot.path}/{name}", folder)
            if what:
                path = joined(self.spot.shown, name)
                self.see(self.spot, Change(what, path, folder, event.cookie), name)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Report that the folder itself is gone."""
        self.dropped = True
        self._vanish()

    def _vanish(self) -> None:
        self.see(self.spot, Change(What.GONE, self.spot.shown, folder=True), "")

    def on_queue_overflow(self) -> None:
        """Report that events were dropped."""
        self.see(self.spot, Change(What.LOST, ""), "")


@dataclass(slots=True, eq=False)
class _Fence:
    """Hears that this very file was opened: inotify keeps its events in order."""

    passed: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_event(self, event: InotifyEvent) -> None:
        """Let the waiting one pass."""
        self.passed.set()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Do nothing: the instance is being closed."""

    def on_queue_overflow(self) -> None:
        """Let the waiting one pass: nothing older is in the queue."""
        self.passed.set()


def _what(event: InotifyEvent, path: str, folder: bool) -> What | None:
    if event.is_moved_from or event.is_delete:
        return What.GONE
    if event.is_moved_to:
        return What.PLACED
    if event.is_create:
        return What.TOUCHED if folder else _created(path)
    if event.is_modify:
        return What.WRITTEN
    if event.is_close_write:
        return What.CLOSED
    return What.TOUCHED if event.is_attrib else None


def _created(path: str) -> What | None:
    """Tell a symlink, which is whole at once, from a file that somebody begins to write."""
    try:
        info = os.lstat(path)
    except OSError:
        return What.TOUCHED
    if stat.S_ISLNK(info.st_mode):
        return What.PLACED
    if not stat.S_ISREG(info.st_mode):
        return None
    return What.TOUCHED if info.st_size else What.WRITTEN


def _folders_in(path: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not is_ignored(entry.name, folder=True):
                yield entry.name


def _identity(path: str) -> tuple[int, int] | None:
    try:
        info = Path(path).lstat()
    except OSError:
        return None
    return (info.st_dev, info.st_ino) if stat.S_ISDIR(info.st_mode) else None


def _id(listener: object) -> CallbackId:
    return CallbackId(id(listener))


_LIMITS = {
    errno.ENOSPC: "fs.inotify.max_user_watches",
    errno.EMFILE: "fs.inotify.max_user_instances",
}


def _explained(error: OSError, doing: str) -> SourceError:
    setting = _LIMITS.get(error.errno or 0)
    if setting is None:
        return SourceError(f"inotify failed {doing}: {error.strerror}")
    return SourceError(
        f"inotify's limit was reached {doing}: raise it with "
        f"`sysctl -w {setting}=...` (and in /etc/sysctl.d), then restart fos1d"
    )

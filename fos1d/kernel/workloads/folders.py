"""inotify on many folders: which of them changed. The reading thread only takes notes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from fos1d.errors import KernelError

CHILDREN = Mask(
    InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_ATTRIB
)
CONTENTS = Mask(CHILDREN | InotifyConstants.IN_CLOSE_WRITE)


class Folders:
    """Watched folders. `changed` is told which of them changed, None: perhaps any."""

    def __init__(self, changed: Callable[[Path | None], None]) -> None:
        self._changed = changed
        self._posts: dict[Path, _Post] = {}
        try:
            self._reader = InotifyFD()
        except OSError as error:
            raise _explained(error) from error

    def start(self) -> None:
        """Begin to read events."""
        self._reader.start()

    def stop(self) -> None:
        """End the thread and give all watches back."""
        self._reader.stop()
        self._reader.join()

    def watch(self, folder: Path, mask: Mask = CHILDREN) -> None:
        """Watch a folder, in place of one that had its name before; pass over one that is gone.

        Raises KernelError at inotify's limits.
        """
        self.leave(folder)
        post = _Post(folder, self._changed)
        try:
            identity = CallbackId(id(post))
            post.descriptor = self._reader.add_callback(os.fsencode(folder), mask, post, identity)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _explained(error) from error
        self._posts[folder] = post

    def leave(self, folder: Path) -> None:
        """Watch a folder no more."""
        post = self._posts.pop(folder, None)
        if post is not None and post.descriptor is not None and not post.gone:
            with suppress(OSError):
                self._reader.remove_callbacks([(post.descriptor, CallbackId(id(post)))])


@dataclass(slots=True, eq=False)
class _Post:
    """Who hears of one folder, as watchdog wants it."""

    folder: Path
    changed: Callable[[Path | None], None]
    descriptor: WatchDescriptor | None = None
    gone: bool = False

    def on_event(self, _event: InotifyEvent) -> None:
        """Note the folder."""
        self.changed(self.folder)

    def on_watch_deleted(self, _descriptor: WatchDescriptor) -> None:
        """Note that the folder is gone; its parent tells of it too."""
        self.gone = True

    def on_queue_overflow(self) -> None:
        """Note that something happened, whatever it was."""
        self.changed(None)


def _explained(error: OSError) -> KernelError:
    what = f"workloads that come will be noticed only at the next resync: inotify: {error}"
    advice = "raise fs.inotify.max_user_instances and max_user_watches with sysctl"
    return KernelError(f"{what}; {advice}", error.errno or 0)

"""What wakes a pass from the kernel's side: links, addresses, and pins that come and go."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from fos1d.errors import KernelError
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.xdp_features import driver_socket

Inode: TypeAlias = tuple[int, int]

COMING_AND_GOING = Mask(
    InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
)
# linux/rtnetlink.h; the last two tell of forwarding that is switched on or off.
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 1, 0x10, 0x100
RTMGRP_IPV4_NETCONF, RTMGRP_IPV6_NETCONF = 1 << 23, 1 << 24
GROUPS = (
    RTMGRP_LINK
    | RTMGRP_IPV4_IFADDR
    | RTMGRP_IPV6_IFADDR
    | RTMGRP_IPV4_NETCONF
    | RTMGRP_IPV6_NETCONF
)
RTM_NEWLINK, RTM_DELLINK = 16, 17
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTM_NEWNETCONF = 80
TELLING = frozenset({RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWNETCONF})
HEADER = struct.Struct("=IHHII")


class LinkMonitor:
    """Calls `wake` when an interface appears, goes, or changes: its addresses, its XDP program,
    and what its driver can do with XDP, included.

    The messages are not read further: the pass looks for itself.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._ears = [_Ear("links", route, _tells_of_links, wake)]
        if (drivers := driver_socket()) is not None:
            self._ears.append(_Ear("drivers", drivers, bool, wake))

    def start(self) -> None:
        """Begin to listen."""
        self._ears[0].socket.bind((0, GROUPS))
        for ear in self._ears:
            threading.Thread(target=ear.run, name=ear.name, daemon=True).start()

    def stop(self) -> None:
        """End listening."""
        for ear in self._ears:
            ear.socket.close()


@dataclass(frozen=True, slots=True)
class _Ear:
    """A socket, and which of its messages wake."""

    name: str
    socket: socket.socket
    tells: Callable[[bytes], bool]
    wake: Callable[[], None]

    def run(self) -> None:
        """Listen until the socket is closed."""
        while True:
            try:
                message = self.socket.recv(65536)
            except OSError as error:
                if self.socket.fileno() < 0 or error.errno is None:
                    return
                # The queue overflowed: something changed, whatever it was.
                self.wake()
                continue
            if self.tells(message):
                self.wake()


def _tells_of_links(message: bytes) -> bool:
    offset = 0
    while offset + HEADER.size <= len(message):
        length, kind, *_ = HEADER.unpack_from(message, offset)
        if kind in TELLING:
            return True
        offset += max(HEADER.size, -(-length // 4) * 4)
    return False


class PinMonitor:
    """Calls `wake` when a pin of ours comes or goes: below our folder, or at a user's path.

    inotify works on bpffs. It watches inodes, so `cover` is called after each pass, which may have
    made folders, or found others in their place.
    """

    def __init__(self, bpffs: Bpffs, wake: Callable[[], None]) -> None:
        self._bpffs = bpffs
        self._wake = wake
        self._reader: InotifyFD | None = None
        self._posts: dict[Inode, _Post] = {}

    def start(self) -> None:
        """Begin to watch.

        Raises KernelError at inotify's limits; so does `cover`.
        """
        try:
            self._reader = InotifyFD()
        except OSError as error:
            raise _explained(error) from error
        self._reader.start()
        self.cover()

    def stop(self) -> None:
        """End watching."""
        if self._reader is not None:
            self._reader.stop()
            self._reader.join()

    def cover(self) -> None:
        """Watch the folders as they are now; wake a pass if one of them was not watched."""
        if self._reader is None:
            return
        wanted = dict(_spots(self._bpffs))
        for inode, post in list(self._posts.items()):
            if post.gone or wanted.get(inode) != post.spot:
                self._leave(self._reader, self._posts.pop(inode))
        fresh = wanted.keys() - self._posts.keys()
        for inode in fresh:
            self._posts[inode] = self._occupy(self._reader, wanted[inode])
        if fresh:
            self._wake()

    def _occupy(self, reader: InotifyFD, spot: _Spot) -> _Post:
        post = _Post(spot, self._wake)
        try:
            path, identity = os.fsencode(spot.folder), CallbackId(id(post))
            post.descriptor = reader.add_callback(path, COMING_AND_GOING, post, identity)
        except FileNotFoundError:
            post.gone = True
        except OSError as error:
            raise _explained(error) from error
        return post

    def _leave(self, reader: InotifyFD, post: _Post) -> None:
        if post.descriptor is not None and not post.gone:
            reader.remove_callbacks([(post.descriptor, CallbackId(id(post)))])


@dataclass(frozen=True, slots=True)
class _Spot:
    """A folder, and the names in it that matter; None: all."""

    folder: str
    names: frozenset[str] | None = None


def _spots(bpffs: Bpffs) -> Iterator[tuple[Inode, _Spot]]:
    """Yield users' folders that hold aliases, then ours, which win."""
    aliases = sorted((Path(path) for path, _ in bpffs.aliases()), key=attrgetter("parent"))
    for folder, paths in groupby(aliases, key=attrgetter("parent")):
        yield from _found(_Spot(str(folder), frozenset(path.name for path in paths)))
    for path, _, _ in os.walk(bpffs.root):
        yield from _found(_Spot(path))


def _found(spot: _Spot) -> Iterator[tuple[Inode, _Spot]]:
    with suppress(OSError):
        info = os.stat(spot.folder)  # noqa: PTH116 - a thousand paths need no Path
        yield (info.st_dev, info.st_ino), spot


@dataclass(slots=True, eq=False)
class _Post:
    """Who hears of one folder, as watchdog wants it."""

    spot: _Spot
    wake: Callable[[], None]
    descriptor: WatchDescriptor | None = None
    gone: bool = False

    def on_event(self, event: InotifyEvent) -> None:
        """Wake a pass if the name matters."""
        if self.spot.names is None or os.fsdecode(event.name) in self.spot.names:
            self.wake()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Wake a pass: the folder is gone, or the file system was unmounted."""
        self.gone = True
        self.wake()

    def on_queue_overflow(self) -> None:
        """Wake a pass: something happened, whatever it was."""
        self.wake()


def _explained(error: OSError) -> KernelError:
    what = f"pins that are removed will be noticed only at the next resync: inotify: {error}"
    advice = "raise fs.inotify.max_user_instances and max_user_watches with sysctl"
    return KernelError(f"{what}; {advice}", error.errno or 0)

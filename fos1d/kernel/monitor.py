"""What wakes a pass from the kernel's side: links that change, and pins that come and go."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

RTMGRP_LINK = 1
RTM_NEWLINK, RTM_DELLINK = 16, 17
HEADER = struct.Struct("=IHHII")


class LinkMonitor:
    """Calls `wake` when an interface appears, goes, or changes (its XDP program included).

    The messages are not read further: the pass looks for itself.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._thread = threading.Thread(target=self._run, name="links", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._socket.bind((0, RTMGRP_LINK))
        self._thread.start()

    def stop(self) -> None:
        """End listening."""
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                message = self._socket.recv(65536)
            except OSError as error:
                if self._socket.fileno() < 0 or error.errno is None:
                    return
                # The queue overflowed: something changed, whatever it was.
                self._wake()
                continue
            if _tells_of_links(message):
                self._wake()


def _tells_of_links(message: bytes) -> bool:
    offset = 0
    while offset + HEADER.size <= len(message):
        length, kind, *_ = HEADER.unpack_from(message, offset)
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            return True
        offset += max(HEADER.size, -(-length // 4) * 4)
    return False


class PinMonitor(FileSystemEventHandler):
    """Calls `wake` when a pin below our folder comes or goes (inotify works on bpffs)."""

    def __init__(self, root: Path, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._observer = Observer()
        self._observer.schedule(self, str(root), recursive=True)

    def start(self) -> None:
        """Begin to watch."""
        self._observer.start()

    def stop(self) -> None:
        """End watching."""
        self._observer.stop()
        self._observer.join()

    def on_created(self, event: FileSystemEvent) -> None:
        """A pin came."""
        self._wake()

    def on_deleted(self, event: FileSystemEvent) -> None:
        """A pin went."""
        self._wake()

    def on_moved(self, event: FileSystemEvent) -> None:
        """A pin was put over another."""
        self._wake()

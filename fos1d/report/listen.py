"""The API's socket file: made whole or not at all, and never taken from a daemon that lives."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fos1d.errors import SettingsError
from fos1d.report.peers import GROUP, group_id, peer_of

MODE = 0o660
LONGEST_PATH = 107
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket. `remark` says what could not be had, "" if nothing."""

    path: Path
    socket: socket.socket
    inode: int
    remark: str = ""

    def close(self) -> None:
        """Stop listening, and remove the file if it is still this one."""
        self.socket.close()
        try:
            if self.path.stat().st_ino == self.inode:
                self.path.unlink()
        except OSError:
            pass


def listen(path: Path) -> Listener:
    """Listen at `path`; a file that a killed daemon left there is replaced.

    Raises SettingsError if a daemon answers there, or if the place cannot be used.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise SettingsError(
            f"{path}: longer than the {LONGEST_PATH} bytes of a socket's name;"
            " set paths.runtime to a shorter folder"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_name("api.lock")):
            _check_is_free(path)
            return _bind(path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot listen there: {error.strerror or error}") from error


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let no two daemons look and take at the same time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_is_free(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a full backlog: somebody listens
                raise
            holder = "another fos1d"
        else:
            holder = f"another fos1d (process {peer_of(probe).pid})"
    raise SettingsError(
        f"{path}: {holder} answers there; stop it, or give this one another paths.runtime"
    )


def _bind(path: Path) -> Listener:
    """Bind under another name and rename, so that mode and group are right from the start."""
    fresh = path.with_name("api.new")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(fresh))
        fresh.chmod(MODE)
        remark = _give_to_group(fresh)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        inode = fresh.stat().st_ino
        fresh.rename(path)
    except OSError:
        listener.close()
        raise
    return Listener(path, listener, inode, remark)


def _give_to_group(path: Path) -> str:
    group = group_id()
    if group is None:
        return ""
    try:
        os.chown(path, -1, group)
    except PermissionError:
        return (
            f"group {GROUP} cannot use the API: fos1d may not give it the socket; put"
            f" SupplementaryGroups={GROUP} into the unit"
        )
    return ""

"""Symlinks followed by hand, so that every one passed is known and none leads out.

The kernel would follow them too, but would not tell through which it went: two looks at a tree
can then not be compared, nor the links be watched.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from fos1d.errors import SnapshotChanged, SourceError

_MAX_LINKS = 40


class Stamp(NamedTuple):
    """What differs whenever a file's bytes may."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


def stamp_of(info: os.stat_result) -> Stamp:
    """Return the stamp of a file."""
    return Stamp(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Root:
    """An opened folder and the path, free of symlinks, that it had when it was opened."""

    fd: int
    path: str


@dataclass(slots=True)
class Trail:
    """Where a path leads below a root: its real path, what is there, the symlinks on the way.

    `info` is None where nothing is there; `real` is then the first part that is missing.
    """

    real: str = ""
    info: os.stat_result | None = None
    links: dict[str, Stamp] = field(default_factory=dict)


def follow(root: Root, path: str) -> Trail:
    """Follow every symlink in `path`, which is relative to `root`.

    Raises SourceError where one leads out of the root or in a circle, SnapshotChanged where one
    vanishes meanwhile.
    """
    trail = Trail(info=os.fstat(root.fd))
    ahead = deque(_parts(path))
    turns = 0
    while ahead:
        name = ahead.popleft()
        if name == "..":
            _move_to(root, trail, _above(root, trail.real, path))
        elif not _step(root, trail, name):
            return trail
        elif stat.S_ISLNK(_mode(trail)):
            turns += 1
            if turns > _MAX_LINKS:
                raise SourceError(f"{path} is a symlink that leads in a circle: remove it")
            ahead.extendleft(reversed(_turn(root, trail, path)))
    return trail


def unmoved(root: Root, trail: Trail) -> bool:
    """Tell whether every symlink that the trail passed is still the same."""
    try:
        return all(
            stamp_of(os.lstat(link, dir_fd=root.fd)) == stamp for link, stamp in trail.links.items()
        )
    except OSError:
        return False


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _mode(trail: Trail) -> int:
    return trail.info.st_mode if trail.info else 0


def _step(root: Root, trail: Trail, name: str) -> bool:
    """Go one part further; tell whether something is there."""
    trail.real = f"{trail.real}/{name}" if trail.real else name
    try:
        trail.info = os.lstat(trail.real, dir_fd=root.fd)
    except (FileNotFoundError, NotADirectoryError):
        trail.info = None
    return trail.info is not None


def _turn(root: Root, trail: Trail, path: str) -> list[str]:
    """Note the symlink at which the trail stands, go to its folder, return what it says."""
    assert trail.info is not None
    trail.links[trail.real] = stamp_of(trail.info)
    try:
        target = os.readlink(trail.real, dir_fd=root.fd)
    except OSError as error:
        raise SnapshotChanged(f"{path} changed while it was followed") from error
    folder = trail.real.rpartition("/")[0]
    if target.startswith("/"):
        folder, target = "", _inside(root, target, path)
    _move_to(root, trail, folder)
    return _parts(target)


def _move_to(root: Root, trail: Trail, folder: str) -> None:
    """Stand in a folder through which the trail came."""
    trail.real = folder
    try:
        trail.info = os.lstat(folder or ".", dir_fd=root.fd)
    except OSError as error:
        raise SnapshotChanged(f"{folder} vanished while it was followed") from error


def _inside(root: Root, target: str, path: str) -> str:
    """Return an absolute target as a path relative to the root."""
    base = root.path.rstrip("/")
    if target != base and not target.startswith(f"{base}/"):
        raise _leaving(root, path, target)
    return target[len(base) :]


def _above(root: Root, real: str, path: str) -> str:
    if not real:
        raise _leaving(root, path, "..")
    return real.rpartition("/")[0]


def _leaving(root: Root, path: str, target: str) -> SourceError:
    return SourceError(
        f"{path} leads out of {root.path} (by a symlink to {target}): put the file itself there"
    )

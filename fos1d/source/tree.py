"""One look at a directory tree: which files there are, through which symlinks, with which stamps.

Two equal looks, one after the other, mean that all their files stood side by side at the moment
between them: a stamp holds the change time, which never returns.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fos1d.errors import SnapshotChanged, SourceError
from fos1d.source.links import Root, Stamp, follow, stamp_of, unmoved
from fos1d.source.names import MAX_DEPTH, check_count, check_name, is_ignored, joined

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Identity(NamedTuple):
    """Which folder it is, whatever its name."""

    device: int
    inode: int


class Found(NamedTuple):
    """A file: where it lies below the root once symlinks are followed, and its stamp."""

    real: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Listing:
    """One look: files by their path from the root, the symlinks passed, the folders read.

    `files` is keyed by the path that a person sees; `links` and `folders` by the real one.
    """

    files: dict[str, Found] = field(default_factory=dict)
    links: dict[str, Stamp] = field(default_factory=dict)
    folders: dict[str, Identity] = field(default_factory=dict)


@contextmanager
def opened(root: Path) -> Iterator[Root]:
    """Open `root`, following symlinks this once; raise SourceError where it is no folder."""
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{root} (source.path) cannot be read: {error.strerror}") from error
    try:
        yield Root(fd, path_of(fd))
    finally:
        os.close(fd)


def path_of(fd: int) -> str:
    """Return the path that the kernel knows for an open file."""
    return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 (called once a file: Path is slow)


def identity_of(info: os.stat_result) -> Identity:
    """Return which folder `info` is about."""
    return Identity(info.st_dev, info.st_ino)


def look(root: Root, subpath: str) -> Listing:
    """List the tree below `subpath` of `root`.

    Raises SnapshotChanged where something vanishes meanwhile, SourceError for what is refused.
    """
    listing = Listing()
    real, info = _follow(root, subpath, listing)
    if not stat.S_ISDIR(info.st_mode):
        raise SourceError(f"{subpath} (source.subpath) in {root.path} is no folder")
    _step_into(root, listing, subpath, real, ())
    return listing


def _follow(root: Root, path: str, listing: Listing) -> tuple[str, os.stat_result]:
    trail = follow(root, path)
    listing.links.update(trail.links)
    if trail.info is None:
        if not unmoved(root, trail):
            raise SnapshotChanged(f"{path} was swapped while it was followed")
        raise SourceError(f"{path} is missing: there is no {trail.real} in {root.path}")
    return trail.real, trail.info


def _step_into(
    root: Root, listing: Listing, shown: str, real: str, above: tuple[Identity, ...]
) -> None:
    """List the folder at `real`, which people know as `shown`."""
    with _opened_below(root, real, shown) as fd:
        identity = identity_of(os.fstat(fd))
        if identity in above:
            raise SourceError(f"{shown} leads in a circle, to a folder above it: remove it")
        if len(above) >= MAX_DEPTH:
            raise SourceError(f"{shown} lies more than {MAX_DEPTH} folders deep")
        listing.folders[real] = identity
        with os.scandir(fd) as entries:
            for entry in entries:
                if not is_ignored(entry.name, entry.is_dir(follow_symlinks=False)):
                    _take(root, listing, entry, shown, real, (*above, identity))


def _take(
    root: Root,
    listing: Listing,
    entry: os.DirEntry[str],
    folder_shown: str,
    folder_real: str,
    above: tuple[Identity, ...],
) -> None:
    """Add one entry of a folder; sockets, pipes and devices are passed over unopened."""
    shown, real = joined(folder_shown, entry.name), joined(folder_real, entry.name)
    check_name(entry.name, shown)
    try:
        info = entry.stat(follow_symlinks=False)
    except FileNotFoundError as error:
        raise SnapshotChanged(f"{shown} vanished while the folder was read") from error
    if stat.S_ISLNK(info.st_mode):
        real, info = _follow(root, real, listing)
    if stat.S_ISDIR(info.st_mode):
        _step_into(root, listing, shown, real, above)
    elif stat.S_ISREG(info.st_mode):
        listing.files[shown] = Found(real, stamp_of(info))
        check_count(len(listing.files))


@contextmanager
def _opened_below(root: Root, real: str, shown: str) -> Iterator[int]:
    """Open the folder at `real` part by part, following no symlink."""
    fd = os.open(".", _FOLDER, dir_fd=root.fd)
    try:
        for part in filter(None, real.split("/")):
            fd = _descended(fd, part, shown)
        yield fd
    finally:
        os.close(fd)


def _descended(fd: int, part: str, shown: str) -> int:
    """Open a folder below `fd` and close `fd`."""
    try:
        below = os.open(part, _FOLDER, dir_fd=fd)
    except PermissionError as error:
        raise SourceError(f"{shown} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise SnapshotChanged(f"{shown} changed while it was read") from error
    os.close(fd)
    return below

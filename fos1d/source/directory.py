"""A directory as a source: the YAML that somebody edits, or that a tool swaps into place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fos1d.errors import SnapshotChanged, SourceError
from fos1d.model.snapshot import Blob, Snapshot
from fos1d.source.links import Root, Stamp
from fos1d.source.names import check_size, is_manifest, normal_subpath
from fos1d.source.reading import (
    Writers,
    is_doubtful,
    leased,
    now_ns,
    opened_file,
    read_all,
    read_file,
    stream_file,
    wait_for_tick,
    was_just_written,
)
from fos1d.source.tree import Found, Listing, identity_of, look, opened

KEPT_BYTES = 1 << 20
"""Manifests up to this size are held in memory; larger files are read when they are asked for."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was last looked at: the root's real path and the listing below it."""

    base: str
    listing: Listing


@dataclass(frozen=True, slots=True)
class _Known:
    """A file as it was last read, below the root whose real path is `base`."""

    base: str
    found: Found
    blob: Blob


class DirectorySource:
    """The files below `subpath` of `root`; their paths in a snapshot count from `root`."""

    def __init__(self, root: Path, subpath: str = "") -> None:
        self.root = root.absolute()
        self.subpath = normal_subpath(subpath)
        self.place = self.root / self.subpath
        self.sight: Sight | None = None
        self._taken: Sight | None = None
        self._known: dict[str, _Known] = {}
        self._doubtful: frozenset[str] = frozenset()
        self._last: Snapshot | None = None

    def survey(self) -> None:
        """Look at the tree without reading any file; `sight` then says what there is."""
        with opened(self.root) as root:
            self.sight = Sight(root.path, look(root, self.subpath))

    def snapshot(self, held: Collection[str] = (), patient: bool = True) -> Snapshot:
        """Return all files as they stood side by side at one moment.

        A file that somebody has open for writing raises SnapshotChanged. The `held` ones (real
        paths below the root), or any if not `patient`, keep the content that they had in the last
        snapshot instead, and are left out where they were not in it.
        Raises SnapshotChanged where the tree changed meanwhile (look again), SourceError where it
        cannot be read.
        """
        with opened(self.root) as root:
            self.sight = sight = Sight(root.path, look(root, self.subpath))
            if self._last and sight == self._taken and not self._doubtful:
                return self._last
            since_ns = now_ns()
            known = self._read(root, sight.listing, frozenset(held), patient)
            if look(root, self.subpath) != sight.listing or not _is_still_at(self.root, root):
                raise SnapshotChanged(f"{self.root} changed while it was read")
        whole = {path: entry.found for path, entry in known.items()} == sight.listing.files
        self._known, self._taken = known, sight if whole else None
        self._doubtful = frozenset(
            path for path, entry in known.items() if is_doubtful(entry.found.stamp, since_ns)
        )
        self._last = _snapshot_of({path: known[path].blob for path in sorted(known)})
        return self._last

    def _read(
        self, root: Root, listing: Listing, held: frozenset[str], patient: bool
    ) -> dict[str, _Known]:
        known, changed = self._sorted_out(root, listing)
        wait_for_tick(found.stamp for path, found in changed.items() if _is_lazy(path, found.stamp))
        for path, found in changed.items():
            if entry := self._entry(root, path, found, found.real in held, patient):
                known[path] = entry
        return known | self._missing(listing, held)

    def _sorted_out(
        self, root: Root, listing: Listing
    ) -> tuple[dict[str, _Known], dict[str, Found]]:
        """Part the files that are as they were from those that must be read."""
        known, changed = {}, {}
        for path, found in listing.files.items():
            entry = self._known.get(path)
            same = entry and entry.found == found and entry.base == root.path
            if entry and same and path not in self._doubtful:
                known[path] = entry
            else:
                changed[path] = found
        return known, changed

    def _missing(self, listing: Listing, held: frozenset[str]) -> dict[str, _Known]:
        """Return the held files that are not there just now, as they last were."""
        return {
            path: entry
            for path, entry in self._known.items()
            if path not in listing.files and entry.found.real in held
        }

    def _entry(
        self, root: Root, path: str, found: Found, held: bool, patient: bool
    ) -> _Known | None:
        """Return one file, or None where it is left out because it is being written."""
        place = f"{root.path.rstrip('/')}/{found.real}"
        check_size(place, found.stamp.size_bytes)
        blob = _read_blob(path, place, found.stamp, held)
        if blob:
            return _Known(root.path, found, blob)
        if patient and not held:
            raise SnapshotChanged(f"{place} is open for writing")
        if self._last is None:
            raise SourceError(f"{place} is open for writing: close it, or move it away")
        return self._known.get(path)


def _read_blob(path: str, place: str, stamp: Stamp, held: bool) -> Blob | None:
    """Return a file's blob; None while it is being written, or may be and that cannot be told."""
    size = stamp.size_bytes
    with opened_file(place, stamp) as fd, leased(fd) as writers:
        if writers is Writers.SOME:
            return None
        if writers is Writers.UNKNOWN and (held or was_just_written(stamp)):
            return None
        if _is_lazy(path, stamp):
            whole, pieces = partial(read_file, place, stamp), partial(stream_file, place, stamp)
            return Blob(path, _stamp_id(stamp), size, whole, pieces)
        content = read_all(fd, size)
        return Blob(path, _digest(content), size, lambda: content)


def _is_lazy(path: str, stamp: Stamp) -> bool:
    """Tell whether a file is read only when it is asked for, and known by its stamp until then."""
    return not is_manifest(path) or stamp.size_bytes > KEPT_BYTES


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def _stamp_id(stamp: Stamp) -> str:
    return "stamp-" + "-".join(f"{part:x}" for part in stamp)


def _is_still_at(path: Path, root: Root) -> bool:
    try:
        return identity_of(path.stat()) == identity_of(os.fstat(root.fd))
    except OSError:
        return False


def _snapshot_of(blobs: Mapping[str, Blob]) -> Snapshot:
    digest = hashlib.blake2b(digest_size=6)
    for blob in blobs.values():
        digest.update(f"{blob.path}\0{blob.id}\0".encode())
    return Snapshot(f"directory@{digest.hexdigest()}", blobs)

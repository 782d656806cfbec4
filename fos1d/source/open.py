"""The source that the settings ask for, and reading one without following it."""

from __future__ import annotations

import time

from fos1d.errors import SnapshotChanged
from fos1d.model.snapshot import Snapshot
from fos1d.settings import Settings
from fos1d.source.directory import DirectorySource
from fos1d.source.git import GitSource

_PAUSE_S = 0.05


def open_source(settings: Settings) -> DirectorySource | GitSource:
    """Return the source of manifests; raise SourceError where its settings make no sense.

    Nothing is read yet.
    """
    source = settings.source
    match source.type:
        case "directory":
            return DirectorySource(source.path, source.subpath)
        case "git":
            return GitSource(source.path, source.branch, source.subpath)


def read_once(source: DirectorySource | GitSource, patience_s: float = 5.0) -> Snapshot:
    """Return a snapshot of `source`; while it changes, or files are open for writing, wait.

    Raises SnapshotChanged when patience ends, SourceError where the source cannot be read.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return source.snapshot()
        except SnapshotChanged:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_S)

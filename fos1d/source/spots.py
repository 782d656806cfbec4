"""Which folders to watch: those of a tree, and those above it in which it can be swapped.

For `/etc/fos1d/policy -> /srv/current/policy` and `/srv/current -> releases/42` these are
/etc/fos1d (the name policy), /srv (current) and /srv/releases/42 (policy). Where a part is missing,
the deepest folder that is there and the name that it lacks.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from fos1d.errors import SourceError
from fos1d.source.links import Root, follow
from fos1d.source.names import joined
from fos1d.source.tree import Listing
from fos1d.source.watch import Spot


def spots_above(path: Path) -> list[Spot]:
    """Return where to watch for another file or folder to take the place of `path`."""
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        trail = follow(Root(fd, "/"), str(path))
    except SourceError:
        return []
    finally:
        os.close(fd)
    names: dict[str, set[str]] = defaultdict(set)
    for real in (*trail.links, trail.real):
        folder, _, name = real.rpartition("/")
        names[f"/{folder}"].add(name)
    return [Spot(folder, folder, frozenset(found)) for folder, found in sorted(names.items())]


def spots_in(base: str, listing: Listing) -> list[Spot]:
    """Return where to watch in a tree that was listed below `base`.

    These are its folders, and the hidden ones through which its symlinks lead.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for real in (*listing.links, *_files_elsewhere(listing)):
        folder, _, name = real.rpartition("/")
        names[folder].add(name)
    return [
        Spot(
            joined(base.rstrip("/"), folder) if folder else base,
            folder,
            frozenset(names.get(folder, ())),
            whole=folder in listing.folders,
            writes=True,
        )
        for folder in sorted(listing.folders.keys() | names.keys())
    ]


def _files_elsewhere(listing: Listing) -> list[str]:
    """Return the files that are seen only through a symlink."""
    return [found.real for shown, found in listing.files.items() if found.real != shown]


def names_in(spots: list[Spot]) -> set[str]:
    """Return the paths that `spots` single out, as they are reported."""
    return {joined(spot.shown, name) for spot in spots for name in spot.names}

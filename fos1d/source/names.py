"""Which names below the root count, in a directory and in a Git tree alike."""

from __future__ import annotations

import re

from fos1d.errors import SourceError

MANIFEST_ENDINGS = (".yaml", ".yml")

MAX_FILE_BYTES = 64 << 20
MAX_FILES = 100_000
MAX_DEPTH = 32

# backup~, #autosave#, and the all-digit names with which vim probes a folder (4913, 5036, ...)
_EDITORS = re.compile(r".*~|#.*#|\d{4,}")


def is_manifest(path: str) -> bool:
    """Tell whether the file at `path` holds manifests."""
    return path.endswith(MANIFEST_ENDINGS)


def is_ignored(name: str, folder: bool = False) -> bool:
    """Tell whether a name is hidden, or one that editors leave while they save."""
    return name.startswith(".") or (not folder and _EDITORS.fullmatch(name) is not None)


def joined(folder: str, name: str) -> str:
    """Return the path of `name` in `folder`, where "" is the root."""
    return f"{folder}/{name}" if folder else name


def normal_subpath(subpath: str) -> str:
    """Return `subpath` without empty parts and dots; raise SourceError where it leaves the root."""
    parts = [part for part in subpath.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SourceError(f"source.subpath {subpath!r} leaves the source: name a folder below it")
    return "/".join(parts)


def check_name(name: str, path: str) -> None:
    """Raise SourceError for a file name that cannot be printed in a message."""
    if not name.isprintable():
        raise SourceError(f"{path!r} has unprintable characters in its name: rename it")


def check_size(path: str, size_bytes: int) -> None:
    """Raise SourceError for a file that is too large to read."""
    if size_bytes > MAX_FILE_BYTES:
        raise SourceError(
            f"{path} has {size_bytes} bytes, more than the {MAX_FILE_BYTES} that are read: split it"
        )


def check_count(count: int) -> None:
    """Raise SourceError for a source with too many files."""
    if count > MAX_FILES:
        raise SourceError(
            f"the source has more than {MAX_FILES} files: narrow it with source.subpath"
        )

"""Files and folders named on a command line -> a snapshot, and how to show its paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fos1d.kinds.check.references import referenced_files
from fos1d.kinds.parse import ParsedFile
from fos1d.kinds.validate import parse_blob
from fos1d.model.diagnostic import Diagnostic
from fos1d.model.snapshot import Blob, Snapshot
from fos1d.source.names import is_ignored, is_manifest

_ORIGIN = re.compile(r"([^\s\"]+\.ya?ml)(?=:\d+:\d+)")


class Unusable(Exception):
    """A path on the command line cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Collected:
    """A snapshot, its paths as the command line gave them, and what was parsed on the way."""

    snapshot: Snapshot
    shown: Mapping[str, str]
    parsed: Mapping[str, ParsedFile]

    def as_given(self, finding: Diagnostic) -> Diagnostic:
        """Return the finding with its paths as the command line gave them."""
        path = self.shown.get(finding.origin.path, finding.origin.path)
        message = _ORIGIN.sub(lambda m: self.shown.get(m[1], m[1]), finding.message)
        return replace(finding, origin=replace(finding.origin, path=path), message=message)


def collect(paths: list[Path], root: Path | None = None) -> Collected:
    """Read the named files, and the folders with all below them, as one source.

    Paths in the snapshot count from `root`; without it from the one folder that is named, else
    from the repository or the working folder that the files are in. Raises Unusable.
    """
    for path in paths:
        if not path.exists():
            raise Unusable(f"{path}: no such file or folder")
    base = (root or _root_of(paths)).resolve()
    shown: dict[str, str] = {}
    for path in paths:
        for found in _found(path):
            shown.setdefault(_below(base, found), found.as_posix())
    blobs = {key: blob_of(base, key) for key in shown}
    parsed = {_below(base, path): parse_blob(blobs[_below(base, path)]) for path in _files(paths)}
    return Collected(Snapshot(str(base), blobs | _lists(base, parsed, blobs)), shown, parsed)


def _files(paths: list[Path]) -> list[Path]:
    return [path for path in paths if not path.is_dir()]


def _found(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from _walk(path)
    elif is_manifest(path.name):
        yield path
    else:
        raise Unusable(f"{path}: the name of a manifest file ends in .yaml or .yml")


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_symlink() or is_ignored(entry.name, entry.is_dir()):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name)
        elif entry.is_file():
            yield folder / entry.name


def _root_of(paths: list[Path]) -> Path:
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    folders = [path.resolve() if path.is_dir() else path.resolve().parent for path in paths]
    together = Path(os.path.commonpath(folders))
    repositories = (
        folder for folder in (together, *together.parents) if (folder / ".git").exists()
    )
    if (repository := next(repositories, None)) is not None:
        return repository
    return Path.cwd() if together.is_relative_to(Path.cwd()) else together


def _below(base: Path, path: Path) -> str:
    whole = path.parent.resolve() / path.name
    if not whole.is_relative_to(base):
        raise Unusable(f"{path}: not below the root of the source, {base}")
    return whole.relative_to(base).as_posix()


def blob_of(base: Path, key: str) -> Blob:
    """Return the file at `key` below `base`, to be read later."""
    path = base / key
    stat = path.stat()
    return Blob(key, f"{stat.st_mtime_ns}-{stat.st_size}", stat.st_size, path.read_bytes)


def _lists(
    base: Path, parsed: Mapping[str, ParsedFile], known: Mapping[str, Blob]
) -> dict[str, Blob]:
    """Return the files that single manifests refer to, as far as they exist."""
    wanted = {
        path
        for file in parsed.values()
        for declaration in file.declarations
        for _, path in referenced_files(declaration)
    }
    return {path: blob_of(base, path) for path in wanted - set(known) if (base / path).is_file()}

"""The resources in force, kept on disk, so that a restart or a bad revision does not lose them.

    <state>/inforce.json     who is in force, from which revision, and the digests of the contents
    <state>/contents/<sha>   manifests and the files that they refer to

The kernel is the truth about the kernel; this is only the truth about what was asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fos1d.kinds.admission import Accepted
from fos1d.kinds.parse import parse_file
from fos1d.model.identity import ResourceId
from fos1d.model.snapshot import Blob


@dataclass(slots=True)
class LastGood:
    """The store below one folder."""

    folder: Path
    _kept: dict[str, str] = field(default_factory=dict)

    def load(self) -> dict[ResourceId, Accepted]:
        """Return what was in force; nothing if nothing (readable) was kept."""
        try:
            rows = json.loads((self.folder / "inforce.json").read_text())["resources"]
            found = [self._accepted(row) for row in rows]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {accepted.id: accepted for accepted in found if accepted is not None}

    def save(self, in_force: Iterable[Accepted]) -> None:
        """Keep these and forget all others; a crash leaves either the old or the new state."""
        rows = [self._row(accepted) for accepted in in_force]
        text = json.dumps({"version": 1, "resources": rows}, indent=1)
        _write(self.folder / "inforce.json", text.encode())
        used = {row["manifest"] for row in rows}
        used |= {name for row in rows for name in row["files"].values()}
        folder = self.folder / "contents"
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in used:
                path.unlink()
        self._kept = {blob_id: name for blob_id, name in self._kept.items() if name in used}

    def _row(self, accepted: Accepted) -> dict[str, Any]:
        declaration = accepted.declaration
        manifest = self._keep(hashlib.sha256(declaration.source).hexdigest(), declaration.source)
        return {
            "id": str(declaration.id),
            "path": declaration.origin.path,
            "index": declaration.index,
            "manifest": manifest,
            "revision": accepted.revision,
            "generation": accepted.generation,
            "files": {path: self._keep_blob(blob) for path, blob in accepted.files.items()},
            "blobs": {path: blob.id for path, blob in accepted.files.items()},
        }

    def _keep_blob(self, blob: Blob) -> str:
        if blob.id not in self._kept:
            data = blob.read()
            self._kept[blob.id] = self._keep(hashlib.sha256(data).hexdigest(), data)
        return self._kept[blob.id]

    def _keep(self, name: str, data: bytes) -> str:
        path = self.folder / "contents" / name
        if not path.exists():
            _write(path, data)
        return name

    def _accepted(self, row: Mapping[str, Any]) -> Accepted | None:
        data = (self.folder / "contents" / row["manifest"]).read_bytes()
        parsed = parse_file(row["path"], data).declarations
        declaration = next((d for d in parsed if d.index == row["index"]), None)
        if declaration is None or str(declaration.id) != row["id"]:
            return None
        files = {
            path: self._blob(path, name, row["blobs"][path]) for path, name in row["files"].items()
        }
        return Accepted(declaration, files, row["revision"], row["generation"])

    def _blob(self, path: str, name: str, blob_id: str) -> Blob:
        place = self.folder / "contents" / name
        self._kept[blob_id] = name
        return Blob(path, blob_id, place.stat().st_size, _reader(place))


def _reader(place: Path) -> Callable[[], bytes]:
    return place.read_bytes


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(f".{path.name}.new")
    with staged.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

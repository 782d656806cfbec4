"""One whole state of the source: never a half-written one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's content by reference: equal `id` means equal bytes."""

    path: str
    id: str
    size_bytes: int
    read: Callable[[], bytes] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every file of one revision, by its path from the source's root.

    `revision` names it to people: a commit, or `directory@<digest>`.
    """

    revision: str
    blobs: Mapping[str, Blob]

    def manifests(self) -> list[Blob]:
        """Return the files that hold manifests (*.yaml, *.yml), sorted by path."""
        return [self.blobs[path] for path in sorted(self.blobs) if path.endswith((".yaml", ".yml"))]

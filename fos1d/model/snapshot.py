"""One whole state of the source: never a half-written one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

PIECE_BYTES = 1 << 17
"""What a CPU's cache can hold."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's content by reference: equal `id` means equal bytes.

    `stream`, where the source has one, gives them in pieces: less memory than `read`.
    """

    path: str
    id: str
    size_bytes: int
    read: Callable[[], bytes] = field(compare=False, repr=False)
    stream: Callable[[], Iterable[bytes]] | None = field(default=None, compare=False, repr=False)

    def pieces(self) -> Iterable[bytes]:
        """Return the bytes piece by piece."""
        if self.stream:
            return self.stream()
        data = self.read()
        return (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))


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

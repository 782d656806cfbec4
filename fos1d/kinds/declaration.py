"""A declaration: one valid resource, and where in the source it is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fos1d.kinds import Resource
from fos1d.manifest import Loc, load_documents
from fos1d.manifest.loader import places
from fos1d.model.identity import Origin, ResourceId


@dataclass(frozen=True, slots=True)
class Declaration:
    """One valid resource. `digest` stands for its spec as written; the file's bytes are kept."""

    id: ResourceId
    resource: Resource
    origin: Origin
    digest: str
    index: int = field(repr=False)
    source: bytes = field(repr=False)

    @property
    def document(self) -> dict[str, Any]:
        """The plain data as written, loaded again from the file's bytes."""
        documents, _ = load_documents(self.origin.path, self.source)
        return next(d.data for d in documents if d.index == self.index)

    def where(self, loc: Loc, key: bool = False) -> Origin:
        """Return the position of the value at `loc`, or of its key."""
        return places(self.origin.path, self.source)[self.index].where(loc, key)

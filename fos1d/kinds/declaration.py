"""A declaration: one valid resource, and where in the source it is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fos1d.kinds import Resource
from fos1d.manifest import Loc, load_documents
from fos1d.manifest.loader import Places, places
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
    _known: dict[Loc, Origin] = field(
        default_factory=dict, init=False, repr=False, compare=False, hash=False
    )

    @property
    def document(self) -> dict[str, Any]:
        """The plain data as written, loaded again from the file's bytes."""
        documents, _ = load_documents(self.origin.path, self.source)
        return next(d.data for d in documents if d.index == self.index)

    def where(self, loc: Loc, key: bool = False) -> Origin:
        """Return the position of the value at `loc`, or of its key.

        To compose a file takes a while, so the items of a list are looked up together and kept.
        """
        if key:
            return self._places().where(loc, key)
        if loc not in self._known:
            found = self._places()
            self._known.update({near: found.where(near) for near in (*found.beside(loc), loc)})
        return self._known[loc]

    def _places(self) -> Places:
        return places(self.origin.path, self.source)[self.index]

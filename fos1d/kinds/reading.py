"""A snapshot into resources that may be in force, reading again only what changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from fos1d.compile.lists import ListStore
from fos1d.kinds.admission import Accepted, InForce, accept
from fos1d.kinds.parse import ParsedFile
from fos1d.kinds.validate import Problems, parse_blob, validate
from fos1d.model.diagnostic import Diagnostic
from fos1d.model.snapshot import Blob, Snapshot

BlobKey = tuple[str, str]


@dataclass(slots=True)
class Reader:
    """What was parsed before, by path and content. One per daemon."""

    lists: ListStore = field(default_factory=ListStore)
    _parsed: dict[BlobKey, ParsedFile] = field(default_factory=dict)
    _seen: set[BlobKey] = field(default_factory=set)

    def read(
        self, snapshot: Snapshot, previous: InForce
    ) -> tuple[list[Accepted], tuple[Diagnostic, ...]]:
        """Return the snapshot's valid resources and everything that is wrong or odd in it.

        Raises SourceError if a file cannot be read now.
        """
        self._seen = set()
        found = validate(snapshot, parse=self._parse, problems=self._problems)
        self._parsed = {key: file for key, file in self._parsed.items() if key in self._seen}
        valid = [
            accept(declaration, snapshot.blobs, snapshot.revision, previous)
            for declaration in found.declarations
        ]
        return valid, found.findings

    def apart(self) -> Reader:
        """Return a reader that knows what this one knows, and learns for itself."""
        return Reader(self.lists.apart(), dict(self._parsed))

    def _parse(self, blob: Blob) -> ParsedFile:
        key = (blob.path, blob.id)
        self._seen.add(key)
        if key not in self._parsed:
            self._parsed[key] = parse_blob(blob)
        return self._parsed[key]

    def _problems(self, blob: Blob) -> Problems:
        return self.lists.problems_of(blob)

"""A snapshot into valid resources and findings, reading again only what changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fos1d.compile.lists import ListStore
from fos1d.kinds.admission import Accepted, InForce, accept
from fos1d.kinds.check import check
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.files import resolve
from fos1d.kinds.parse import ParsedFile, parse_file
from fos1d.kinds.program import EBPFProgram
from fos1d.model.diagnostic import Diagnostic, errors_of
from fos1d.model.identity import Origin
from fos1d.model.snapshot import Blob, Snapshot


@dataclass(slots=True)
class Reader:
    """What was parsed before, by path and content. One per daemon."""

    lists: ListStore = field(default_factory=ListStore)
    _parsed: dict[tuple[str, str], ParsedFile] = field(default_factory=dict)

    def read(
        self, snapshot: Snapshot, previous: InForce
    ) -> tuple[list[Accepted], list[Diagnostic]]:
        """Return the snapshot's valid resources and everything that is wrong or odd in it.

        Raises SourceError if a file cannot be read now.
        """
        files = self._parse(snapshot)
        declarations = [declaration for file in files for declaration in file.declarations]
        findings = [finding for file in files for finding in file.findings]
        invalid = {f.resource for f in errors_of(findings)}
        named = {identity for identity in invalid if identity is not None}
        findings += check(declarations, snapshot.blobs.keys(), named, None not in invalid)
        findings += self._list_findings(declarations, findings, snapshot)
        bad = {finding.resource for finding in errors_of(findings)}
        valid = [
            accept(declaration, snapshot.blobs, snapshot.revision, previous)
            for declaration in declarations
            if declaration.id not in bad
        ]
        return valid, sorted(findings)

    def _parse(self, snapshot: Snapshot) -> list[ParsedFile]:
        blobs = snapshot.manifests()
        parsed = {key: self._parse_one(blob) for blob in blobs if (key := (blob.path, blob.id))}
        self._parsed = parsed
        return list(parsed.values())

    def _parse_one(self, blob: Blob) -> ParsedFile:
        known = self._parsed.get((blob.path, blob.id))
        return known or parse_file(blob.path, blob.read())

    def _list_findings(
        self,
        declarations: Sequence[Declaration],
        findings: Sequence[Diagnostic],
        snapshot: Snapshot,
    ) -> Iterator[Diagnostic]:
        """Yield what is wrong in the address lists of resources that are right so far."""
        bad = {finding.resource for finding in errors_of(findings)}
        for declaration in declarations:
            if declaration.id in bad or not isinstance(declaration.resource, EBPFProgram):
                continue
            for file in declaration.resource.spec.settings.blacklist.files:
                path = resolve(declaration.origin.path, file)
                for line, message in self.lists.problems_of(snapshot.blobs[path]):
                    yield Diagnostic(Origin(path, line), "", message, resource=declaration.id)

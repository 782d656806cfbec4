"""A file's bytes -> declarations, and everything that is wrong in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from pydantic import ValidationError

from fos1d.kinds import BY_NAME, KINDS, Kind, Resource
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.fields import sort_of
from fos1d.kinds.messages import Finding, findings_of
from fos1d.kinds.names import namespace, resource_name
from fos1d.manifest import Document, Loc, did_you_mean, load_documents
from fos1d.manifest.loader import Places, field_path, places
from fos1d.model.diagnostic import Diagnostic, Severity
from fos1d.model.identity import API_VERSION, ResourceId
from fos1d.quantity import shown

MOST_FINDINGS = 100
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What a file declares, and what is wrong or odd in it."""

    declarations: tuple[Declaration, ...]
    findings: tuple[Diagnostic, ...]


class _Placer:
    """Finds positions; composes the file again only if it is asked, and only once."""

    def __init__(self, path: str, data: bytes) -> None:
        self._path, self._data = path, data
        self._composed: list[Places] = []

    def place(
        self,
        document: Document,
        findings: Iterable[Finding],
        resource: ResourceId | None,
        severity: Severity = Severity.ERROR,
    ) -> list[Diagnostic]:
        """Return the findings with their positions, in the order of the file."""
        self._composed = self._composed or places(self._path, self._data)
        where = self._composed[document.index].where
        placed = (
            Diagnostic(where(loc, at_key), field_path(loc), message, severity, resource)
            for loc, message, at_key in findings
        )
        return sorted(placed, key=lambda diagnostic: (diagnostic.origin, diagnostic.field))


def parse_file(path: str, data: bytes) -> ParsedFile:
    """Parse a manifest file. All its errors are found at once; no bytes make this raise.

    A finding carries the resource wherever kind, name space and name can be read.
    """
    documents, problems = load_documents(path, data)
    placer = _Placer(path, data)
    declarations: list[Declaration] = []
    findings: list[Diagnostic] = []
    for document in documents:
        declaration, found = _parse_document(document, placer)
        findings += found
        if declaration is not None:
            declarations.append(declaration)
    if problems:
        inside = {flaw for document in documents for flaw in document.flaws}
        findings += [problem for problem in problems if problem not in inside]
    return ParsedFile(tuple(declarations), tuple(findings))


def _parse_document(
    document: Document, placer: _Placer
) -> tuple[Declaration | None, list[Diagnostic]]:
    kind = _kind_of(document.data)
    if kind is None:
        found = placer.place(document, _kind_findings(document.data), None)
        return None, [*document.flaws, *found]
    content = document.data
    odd: list[Finding] = []
    if "status" in content:
        content = {key: value for key, value in content.items() if key != "status"}
        odd.append(IGNORED_STATUS)
    resource, faults = _validate(kind, content)
    if resource is not None and not document.flaws:
        odd += [Finding(*remark) for remark in resource.remarks()]
        remarks = placer.place(document, odd, resource.id, Severity.WARNING) if odd else []
        return _declaration(document, resource), remarks
    identity = _identity(kind, content)
    flaws = [replace(flaw, resource=identity) for flaw in document.flaws]
    flawed = {flaw.field for flaw in flaws}
    faults = [fault for fault in faults if field_path(fault.loc) not in flawed]
    return None, [*flaws, *placer.place(document, faults, identity)]


IGNORED_STATUS = Finding(("status",), "is ignored: status is what the daemon reports", True)


def _declaration(document: Document, resource: Resource) -> Declaration:
    spec = CANONICAL.encode(document.data["spec"])
    digest = hashlib.sha256(spec.encode()).hexdigest()
    return Declaration(
        resource.id, resource, document.origin, digest, document.index, document.source
    )


def _kind_of(data: dict[str, Any]) -> Kind | None:
    name = data.get("kind")
    return BY_NAME.get(name) if isinstance(name, str) else None


def _kind_findings(data: dict[str, Any]) -> Iterator[Finding]:
    version, kind = data.get("apiVersion"), data.get("kind")
    names = [known.name for known in KINDS]
    if "apiVersion" not in data:
        yield Finding(("apiVersion",), f"is required; write {API_VERSION}")
    elif version != API_VERSION:
        given = shown(version) if isinstance(version, str) else sort_of(version)
        yield Finding(("apiVersion",), f"{given} is not known; write {API_VERSION}")
    if "kind" not in data:
        yield Finding(("kind",), f"is required; kinds: {', '.join(names)}")
    elif not isinstance(kind, str):
        yield Finding(("kind",), f"must be text, not {sort_of(kind)}; kinds: {', '.join(names)}")
    elif kind.endswith("List") and "items" in data:
        yield Finding(("kind",), "lists are not read; write each item as a document after `---`")
    else:
        hint = did_you_mean(kind, names) or ";"
        yield Finding(("kind",), f"{shown(kind)} is not known{hint} kinds: {', '.join(names)}")


def _identity(kind: Kind, data: dict[str, Any]) -> ResourceId | None:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        return None
    name: Any = metadata.get("name")
    space: Any = metadata.get("namespace", "default")
    try:
        return ResourceId(kind.name, namespace(space), resource_name(name))
    except (TypeError, ValueError):
        return None


def _validate(kind: Kind, content: dict[str, Any]) -> tuple[Resource | None, list[Finding]]:
    try:
        return kind.model.model_validate(content), []
    except ValidationError as error:
        found = _findings(error, kind, content)
    return None, found + _behind(kind, content, {fault.loc[:2] for fault in found})


def _behind(kind: Kind, content: dict[str, Any], wrong: set[Loc]) -> list[Finding]:
    """Return what else is wrong: combinations are checked only once every field is right.

    So the wrong fields of the spec are left out, and what then is found about others counts.
    """
    spec = content.get("spec")
    out = {loc for loc in wrong if len(loc) == 2 and loc[0] == "spec"}
    if not isinstance(spec, dict) or not out & {("spec", name) for name in spec}:
        return []
    rest = {name: value for name, value in spec.items() if ("spec", name) not in out}
    try:
        kind.model.model_validate({**content, "spec": rest})
    except ValidationError as error:
        found = _findings(error, kind, content)
        known = {*wrong, ("spec",)}
        return [f for f in found if f.loc[:2] not in known and f.loc[0] == "spec"]
    return []


def _findings(error: ValidationError, kind: Kind, content: dict[str, Any]) -> list[Finding]:
    found = [
        *islice(
            (
                finding
                for details in error.errors(include_url=False)
                for finding in findings_of(details, kind.model, content)
            ),
            MOST_FINDINGS + 1,
        )
    ]
    if len(found) > MOST_FINDINGS:
        found[MOST_FINDINGS:] = [Finding((), "has more errors, which are not shown")]
    return found

"""Short ways to write manifests in tests, and to say what is found in them."""

from __future__ import annotations

import textwrap
from typing import TypeVar

from fos1d.kinds.declaration import Declaration
from fos1d.kinds.parse import parse_file
from fos1d.model.snapshot import Blob, Snapshot

R = TypeVar("R")


def manifest(kind: str, spec: str, name: str = "x", metadata: str = "") -> str:
    """Return a manifest whose spec is the given YAML."""
    head = f"apiVersion: networking.fos1.io/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\n"
    more = textwrap.indent(textwrap.dedent(metadata).strip(), "  ")
    body = textwrap.indent(textwrap.dedent(spec).strip("\n"), "  ")
    return f"{head}{more}{chr(10) if more else ''}spec:\n{body}\n"


def found(text: str, path: str = "a.yaml") -> list[str]:
    """Return what is said of a file, without the places."""
    findings = parse_file(path, text.encode()).findings
    return [str(finding).split(" ", 1)[1] for finding in findings]


def declared(*texts: str, path: str = "a.yaml") -> list[Declaration]:
    """Return the declarations of valid manifests, all in one file."""
    parsed = parse_file(path, "---\n".join(texts).encode())
    assert [str(finding) for finding in parsed.findings if finding.severity == "error"] == []
    return list(parsed.declarations)


def resource(model: type[R], spec: str) -> R:
    """Return the resource of a valid manifest."""
    (declaration,) = declared(manifest(model.__name__, spec))
    assert isinstance(declaration.resource, model)
    return declaration.resource


def snapshot(files: dict[str, str | bytes]) -> Snapshot:
    """Return a snapshot of the files."""
    blobs = {}
    for path, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        blobs[path] = Blob(path, str(hash(data)), len(data), lambda data=data: data)  # type: ignore[misc]
    return Snapshot("test", blobs)

"""What a check finds, before its position is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fos1d.kinds.declaration import Declaration
from fos1d.manifest import Loc
from fos1d.manifest.loader import field_path, places
from fos1d.model.diagnostic import Diagnostic, Severity


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong or odd with a field of a declaration.

    Where a reference leads nowhere, `hint` says what may have been meant; that takes a while.
    """

    declaration: Declaration
    loc: Loc
    message: str
    severity: Severity = Severity.ERROR
    hint: Callable[[], str] | None = None


def place(found: Iterable[Found]) -> list[Diagnostic]:
    """Look up the positions, composing each file once, and return diagnostics in their order."""
    by_file: defaultdict[tuple[str, bytes], list[Found]] = defaultdict(list)
    for item in found:
        by_file[item.declaration.origin.path, item.declaration.source].append(item)
    diagnostics = []
    for (path, source), items in by_file.items():
        documents = places(path, source)
        for item in items:
            origin = documents[item.declaration.index].where(item.loc)
            where = field_path(item.loc)
            resource = item.declaration.id
            diagnostics.append(Diagnostic(origin, where, item.message, item.severity, resource))
    return sorted(diagnostics, key=lambda d: (d.origin, d.field, d.message))

"""What is wrong, or odd, in a manifest: a value that says what, where and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from fos1d.model.identity import Origin, ResourceId


class Severity(StrEnum):
    """An error keeps the manifest out; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One finding. `field` is the path in the document, such as `spec.filters[0].classID`.

    `resource` is None where the document could not even be told which resource it is.
    """

    origin: Origin
    field: str
    message: str
    severity: Severity = Severity.ERROR
    resource: ResourceId | None = None

    def __str__(self) -> str:
        place = f"{self.origin} {self.field}".rstrip()
        mark = "warning: " if self.severity is Severity.WARNING else ""
        return f"{place} {mark}{self.message}"

    def to_json(self) -> dict[str, object]:
        """Return the stable JSON shape that `fos1ctl validate -o json` prints."""
        return {
            "file": self.origin.path,
            "line": self.origin.line,
            "column": self.origin.column,
            "path": self.field,
            "message": self.message,
            "severity": str(self.severity),
            "resource": str(self.resource) if self.resource else None,
        }


def errors_of(findings: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the errors among `findings`, in their order."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]

"""Who a resource is, and where in the source it was written."""

from __future__ import annotations

from dataclasses import dataclass

API_GROUP = "networking.fos1.io"
API_VERSION = f"{API_GROUP}/v1alpha1"


@dataclass(frozen=True, slots=True, order=True)
class ResourceId:
    """Kind, name space and name: what makes a resource the same one in the next revision."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A place in the source: path from its root, line and column counted from 1."""

    path: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"

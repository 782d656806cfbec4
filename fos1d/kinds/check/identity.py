"""One resource, one manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fos1d.kinds.check.found import Found
from fos1d.kinds.declaration import Declaration
from fos1d.model.identity import ResourceId


def duplicates(declarations: Iterable[Declaration]) -> Iterator[Found]:
    """Yield each declaration of a resource that an earlier one declares already."""
    first: dict[ResourceId, Declaration] = {}
    for declaration in declarations:
        earlier = first.setdefault(declaration.id, declaration)
        if earlier is not declaration:
            message = f"{declaration.id} is declared at {earlier.origin} already; rename one"
            yield Found(declaration, ("metadata", "name"), message)

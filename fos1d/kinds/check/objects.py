"""Objects of users' programs for cgroups: their hooks must be known before they are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fos1d.kinds.check.found import Found
from fos1d.kinds.check.references import referenced_files
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.program import Source
from fos1d.kinds.program_object import NotThere, cgroup_hooks, own_source
from fos1d.manifest import Loc
from fos1d.model.snapshot import Blob

OBJECT: Loc = ("spec", "source", "object")
PROGRAM: Loc = ("spec", "source", "program")


def object_problems(
    declarations: Iterable[Declaration], files: Mapping[str, Blob]
) -> Iterator[Found]:
    """Yield what keeps a program from running on a cgroup; the check of references tells of files
    that are missing."""
    for declaration in declarations:
        source = own_source(declaration.resource)
        for loc, path in referenced_files(declaration) if source else ():
            if source and loc == OBJECT and path in files:
                yield from _problems(declaration, source, files[path])


def _problems(declaration: Declaration, source: Source, blob: Blob) -> Iterator[Found]:
    try:
        cgroup_hooks(source, blob)
    except NotThere as error:
        yield Found(declaration, PROGRAM, str(error))
    except OSError as error:
        yield Found(declaration, OBJECT, f"cannot be read: {error.strerror or error}")
    except ValueError as error:
        yield Found(declaration, OBJECT, str(error))

"""Users' programs for cgroups: their hooks must be known before they are loaded, and nobody may
have one on the whole router by mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fos1d.kinds.admission import references
from fos1d.kinds.check.found import Found
from fos1d.kinds.check.references import referenced_files
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.program import EBPFProgram, Source
from fos1d.kinds.program_object import NotThere, cgroup_hooks, own_source
from fos1d.manifest import Loc
from fos1d.model.diagnostic import Severity
from fos1d.model.snapshot import Blob

OBJECT: Loc = ("spec", "source", "object")
PROGRAM: Loc = ("spec", "source", "program")
TYPE: Loc = ("spec", "type")


def unnamed_programs(declarations: Sequence[Declaration]) -> Iterator[Found]:
    """Yield the programs that run on all of the router without saying so."""
    named = {about for found in declarations for about in references(found.resource)}
    for declaration in declarations:
        resource = declaration.resource
        if own_source(resource) is None or declaration.id in named:
            continue
        if isinstance(resource, EBPFProgram) and resource.spec.cgroup is None:
            message = (
                "runs on all of the router, since no EBPFContainerPolicy names it; if that is"
                " meant, write `cgroup: /`"
            )
            yield Found(declaration, TYPE, message, Severity.WARNING)


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

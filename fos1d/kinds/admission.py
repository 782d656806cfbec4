"""Which resources are in force: the valid ones of a revision, and earlier versions of the rest.

A bad manifest harms neither the others nor its own previous version. Nothing is removed while a
file cannot be read to the names of its resources, and no more than a limit without a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fos1d.kinds import Resource
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.files import resolve
from fos1d.kinds.map import EBPFMap
from fos1d.kinds.program import EBPFProgram
from fos1d.model.diagnostic import Diagnostic, errors_of
from fos1d.model.identity import ResourceId
from fos1d.model.snapshot import Blob


@dataclass(frozen=True, slots=True)
class Accepted:
    """A resource that may be in force, with the files that it refers to and where it is from.

    `generation` counts the changes of its spec, from 1.
    """

    declaration: Declaration
    files: Mapping[str, Blob]
    revision: str
    generation: int = 1

    @property
    def id(self) -> ResourceId:
        """Who the resource is."""
        return self.declaration.id


InForce = Mapping[ResourceId, Accepted]


@dataclass(frozen=True, slots=True)
class Admission:
    """The resources in force, and why they are not just those of the revision.

    `kept` are earlier versions of resources that are invalid now. `held` are the resources that
    the revision removes, if they are too many: then all of it waits until a person confirms.
    `findings` is all that is wrong or odd.
    """

    in_force: dict[ResourceId, Accepted]
    findings: tuple[Diagnostic, ...] = ()
    kept: frozenset[ResourceId] = frozenset()
    held: frozenset[ResourceId] = frozenset()


def accept(
    declaration: Declaration, files: Mapping[str, Blob], revision: str, previous: InForce
) -> Accepted:
    """Return the accepted form of a valid declaration; its generation grows if the spec did."""
    paths = [resolve(declaration.origin.path, file) for file in files_of(declaration.resource)]
    used = {path: files[path] for path in paths}
    before = previous.get(declaration.id)
    if before is None:
        return Accepted(declaration, used, revision)
    same = before.declaration.digest == declaration.digest and before.files == used
    changed = before.declaration.digest != declaration.digest
    generation = before.generation + int(changed)
    return Accepted(declaration, used, before.revision if same else revision, generation)


def admit(
    valid: Iterable[Accepted],
    findings: Sequence[Diagnostic],
    previous: InForce,
    prune_limit_percent: int = 100,
    confirmed: bool = False,
) -> Admission:
    """Decide what is in force after a revision.

    `valid` are its valid resources, `findings` all that was found in it.
    """
    errors = errors_of(findings)
    bad = {finding.resource for finding in errors if finding.resource is not None}
    unread = any(finding.resource is None for finding in errors)
    chosen = {accepted.id: accepted for accepted in valid if accepted.id not in bad}
    kept = {identity for identity in bad if identity in previous}
    gone = previous.keys() - chosen.keys() - bad
    if unread:
        kept |= gone
        gone = set()
    needed = _needed_by(kept, previous) & gone
    gone = gone - needed
    if _is_too_much(len(gone), len(previous), prune_limit_percent, confirmed):
        return Admission(dict(previous), tuple(findings), frozenset(kept), frozenset(gone))
    in_force = chosen | {identity: previous[identity] for identity in kept | needed}
    return Admission(dict(sorted(in_force.items())), tuple(findings), frozenset(kept))


def _is_too_much(gone: int, before: int, limit_percent: int, confirmed: bool) -> bool:
    return not confirmed and before > 0 and gone * 100 > before * limit_percent


def _needed_by(kept: Iterable[ResourceId], previous: InForce) -> set[ResourceId]:
    """Return what the kept versions refer to, directly or not: it must not go before them."""
    needed: set[ResourceId] = set()
    pending = [previous[identity] for identity in kept]
    while pending:
        for identity in references(pending.pop().declaration.resource):
            if identity in previous and identity not in needed:
                needed.add(identity)
                pending.append(previous[identity])
    return needed


def references(resource: Resource) -> Iterator[ResourceId]:
    """Yield the resources that this one refers to by name."""
    namespace = resource.metadata.namespace
    match resource:
        case EBPFProgram(spec=spec):
            if spec.settings.blacklist.map_ref:
                yield ResourceId("EBPFMap", namespace, spec.settings.blacklist.map_ref)
        case EBPFMap():
            # accessedBy speaks of others; the map does without them.
            return
        case _:
            program = getattr(resource.spec, "ebpf_program", None)
            if program:
                yield ResourceId("EBPFProgram", namespace, program)


def files_of(resource: Resource) -> tuple[str, ...]:
    """Return the references to files that a resource makes, as written."""
    if not isinstance(resource, EBPFProgram):
        return ()
    source = resource.spec.source
    own = [source.object or source.bcc] if source else []
    return (*resource.spec.settings.blacklist.files, *(file for file in own if file))

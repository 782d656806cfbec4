"""References: whether they lead somewhere, and to a thing that can be used so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from fos1d.kinds.check.classes import class_ids
from fos1d.kinds.check.contest import disjoint
from fos1d.kinds.check.found import Found
from fos1d.kinds.check.maps import accessed_map, blacklist_map
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.files import resolve
from fos1d.kinds.map import EBPFMap
from fos1d.kinds.names import FileReference
from fos1d.kinds.nat_policy import EBPFNATPolicy
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.program import EBPFProgram
from fos1d.kinds.traffic_control import EBPFTrafficControl
from fos1d.manifest import Loc, did_you_mean, suggest
from fos1d.model.diagnostic import Severity
from fos1d.model.identity import ResourceId
from fos1d.quantity import shown

TC_TYPES = ("tc-ingress", "tc-egress")


@dataclass(frozen=True, slots=True)
class Scope:
    """What references can lead to. `fed` are the programs whose blacklist a map's owner extends."""

    declared: Mapping[ResourceId, Declaration]
    invalid: frozenset[ResourceId]
    names: Mapping[tuple[str, str], tuple[str, ...]]
    fed: frozenset[tuple[str, str]]
    files: frozenset[str]

    @staticmethod
    def of(
        declarations: Iterable[Declaration], files: Iterable[str], invalid: Iterable[ResourceId]
    ) -> Scope:
        """Index the declarations."""
        declared = {declaration.id: declaration for declaration in declarations}
        names: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        fed: set[tuple[str, str]] = set()
        for identity, declaration in declared.items():
            names[identity.kind, identity.namespace].append(identity.name)
            if isinstance(declaration.resource, EBPFMap):
                programs = declaration.resource.spec.accessed_by
                fed.update((identity.namespace, program) for program in programs)
        by_kind = {key: tuple(sorted(value)) for key, value in names.items()}
        return Scope(declared, frozenset(invalid), by_kind, frozenset(fed), frozenset(files))

    def hint(self, wanted: ResourceId) -> str:
        """Return what may have been meant by a reference that leads nowhere."""
        kind, space, name = wanted.kind, wanted.namespace, wanted.name
        if near := suggest(name, self.names.get((kind, space), ())):
            return f"; did you mean {shown(near)}?"
        for other in self.declared:
            if (other.kind, other.name) == (kind, name):
                return f"; one is in {other.namespace}, but references stay in their name space"
            if (other.namespace, other.name) == (space, name):
                return f"; {shown(name)} is an {other.kind}"
        return ""


def references(declarations: Sequence[Declaration], scope: Scope) -> Iterator[Found]:
    """Yield what is wrong with the references of each declaration."""
    for declaration in declarations:
        match declaration.resource:
            case EBPFProgram():
                yield from _program(declaration, declaration.resource, scope)
            case EBPFMap():
                yield from _accessed_by(declaration, declaration.resource, scope)
            case EBPFTrafficControl(spec=queue):
                types = (f"tc-{queue.direction}",)
                yield from _replacement(declaration, queue.ebpf_program, types, scope)
                yield from class_ids(declaration, queue)
            case EBPFNATPolicy(spec=nat):
                yield from _replacement(declaration, nat.ebpf_program, TC_TYPES, scope)
            case EBPFContainerPolicy(spec=policy):
                yield from _replacement(declaration, policy.ebpf_program, ("cgroup",), scope)
            case EBPFNetworkPolicy():
                pass


def _program(declaration: Declaration, program: EBPFProgram, scope: Scope) -> Iterator[Found]:
    blacklist, source = program.spec.settings.blacklist, program.spec.source
    at = ("spec", "settings", "blacklist")
    for index, file in enumerate(blacklist.files):
        yield from _file(declaration, (*at, "files", index), file, scope)
    if source is not None and source.object is not None:
        yield from _file(declaration, ("spec", "source", "object"), source.object, scope)
    if source is not None and source.bcc is not None:
        yield from _file(declaration, ("spec", "source", "bcc"), source.bcc, scope)
    if blacklist.map_ref is not None:
        loc = (*at, "mapRef")
        target = yield from _target(declaration, loc, "EBPFMap", blacklist.map_ref, scope)
        if target is not None and isinstance(target.resource, EBPFMap):
            yield from blacklist_map(declaration, loc, target, target.resource.spec)
    listed = blacklist.ips or blacklist.files or blacklist.map_ref
    fed = (declaration.id.namespace, declaration.id.name) in scope.fed
    if blacklist.enabled and not listed and not fed:
        message = "drops nothing: no ips, files or mapRef, and no EBPFMap's accessedBy names it"
        yield Found(declaration, at, message, Severity.WARNING)


def _accessed_by(declaration: Declaration, source: EBPFMap, scope: Scope) -> Iterator[Found]:
    listed: set[str] = set()
    for index, name in enumerate(source.spec.accessed_by):
        loc = ("spec", "accessedBy", index)
        if name in listed:
            yield Found(declaration, loc, f"{shown(name)} is listed twice", Severity.WARNING)
            continue
        listed.add(name)
        target = yield from _target(
            declaration, loc, "EBPFProgram", name, scope, severity=Severity.WARNING
        )
        if target is not None and isinstance(target.resource, EBPFProgram):
            yield from accessed_map(declaration, loc, source, target.resource)


def _replacement(
    declaration: Declaration, name: str | None, types: tuple[str, ...], scope: Scope
) -> Iterator[Found]:
    """Check that `ebpfProgram` names a program of one of the types."""
    if name is None:
        return
    loc = ("spec", "ebpfProgram")
    target = yield from _target(declaration, loc, "EBPFProgram", name, scope)
    if target is None or not isinstance(target.resource, EBPFProgram):
        return
    found = target.resource.spec.type
    if found not in types:
        message = f"{shown(name)} is of type {found}; here it must be {' or '.join(types)}"
        yield Found(declaration, loc, f"{message} ({target.origin})")


def _target(
    declaration: Declaration,
    loc: Loc,
    kind: str,
    name: str,
    scope: Scope,
    severity: Severity = Severity.ERROR,
) -> Generator[Found, None, Declaration | None]:
    """Return what a reference leads to, or None after yielding why it leads nowhere."""
    wanted = ResourceId(kind, declaration.id.namespace, name)
    target = scope.declared.get(wanted)
    if target is None:
        if wanted not in scope.invalid:
            message = f"there is no {kind} {shown(name)} in name space {wanted.namespace}"
            yield Found(declaration, loc, message, severity, lambda: scope.hint(wanted))
        return None
    ours, theirs = declaration.resource.spec.node_selector, target.resource.spec.node_selector
    if disjoint(ours, theirs):
        message = f"{kind} {shown(name)} is never on the same router: the nodeSelectors of both"
        yield Found(declaration, loc, f"{message} exclude each other ({target.origin})", severity)
    return target


def _file(
    declaration: Declaration, loc: Loc, reference: FileReference, scope: Scope
) -> Iterator[Found]:
    manifest = declaration.origin.path
    try:
        path = resolve(manifest, reference)
    except ValueError as error:
        yield Found(declaration, loc, str(error))
        return
    if path.endswith((".yaml", ".yml")):
        yield Found(declaration, loc, f"{shown(path)} is a manifest; name another file")
    elif path not in scope.files:
        message = f"the source has no file {shown(path)}"
        hint = partial(_file_hint, manifest, reference, path, scope.files)
        yield Found(declaration, loc, message, hint=hint)


def _file_hint(manifest: str, reference: str, path: str, files: Collection[str]) -> str:
    if path == reference and resolve(manifest, f"./{reference}") in files:
        return f"; did you mean {shown(f'./{reference}')}, beside the manifest?"
    return did_you_mean(path, files)


def referenced_files(declaration: Declaration) -> Iterator[tuple[Loc, str]]:
    """Yield the path, from the source's root, of each file that a declaration refers to."""
    program = declaration.resource
    if not isinstance(program, EBPFProgram):
        return
    source = program.spec.source
    places: list[tuple[Loc, FileReference | None]] = [
        (("spec", "settings", "blacklist", "files", index), file)
        for index, file in enumerate(program.spec.settings.blacklist.files)
    ]
    if source is not None:
        places += [(("spec", "source", "object"), source.object)]
        places += [(("spec", "source", "bcc"), source.bcc)]
    for loc, reference in places:
        if reference is not None:
            with suppress(ValueError):
                yield loc, resolve(declaration.origin.path, reference)

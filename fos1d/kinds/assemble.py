"""All resources and the facts -> the desired state, with who wanted what and what is to be said."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fos1d import abi
from fos1d.kinds import Resource
from fos1d.kinds.admission import Accepted
from fos1d.kinds.container_lower import lower_limits
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.container_program import lower_cgroup_programs
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.lowered import Context, Lowered, Translating
from fos1d.kinds.map import EBPFMap
from fos1d.kinds.map_lower import lower_map, map_object
from fos1d.kinds.meta import LabelSelector
from fos1d.kinds.nat_lower import NatView, lower_translations
from fos1d.kinds.nat_policy import EBPFNATPolicy
from fos1d.kinds.network_policy import EBPFNetworkPolicy, NetworkPolicySpec
from fos1d.kinds.policy_lower import PolicyView, lower_policies
from fos1d.kinds.program import EBPFProgram
from fos1d.kinds.program_lists import is_list_of
from fos1d.kinds.program_lower import Declared, FastPath, chosen_fast_paths, lower_interface
from fos1d.kinds.program_object import own_source
from fos1d.model.facts import Facts, Interface
from fos1d.model.facts import FastPath as Want
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Map

MapsByName = Mapping[tuple[str, str], EBPFMap]


@dataclass(frozen=True, slots=True)
class Assembled:
    """The desired state, and the resources that this router does not select."""

    lowered: Lowered
    elsewhere: frozenset[ResourceId] = frozenset()
    policies: PolicyView = field(default_factory=PolicyView)
    nats: NatView = field(default_factory=NatView)


def assemble(in_force: Sequence[Accepted], context: Context) -> Assembled:
    """Lower all resources that select this node.

    Raises ListError or SourceError if a file that was accepted cannot be read any more.
    """
    here = [a for a in in_force if is_for_node(a.declaration, context.facts)]
    lowered = Lowered()
    resources = [accepted.declaration.resource for accepted in here]
    maps = [resource for resource in resources if isinstance(resource, EBPFMap)]
    for declared_map in maps:
        lower_map(declared_map, lowered)
    programs = list(_programs(here, maps))
    nats = lower_translations(here, context, lowered)
    on_interface = _on_interfaces(programs, context, lowered)
    context = replace(context, translating=translating(nats, on_interface, context.facts))
    policies = lower_policies(here, context, lowered)
    _lower_xdp(on_interface, policies.fast_paths, context, lowered)
    lower_limits(here, policies.places, context, lowered)
    own = [declared for declared in programs if own_source(declared.resource) is not None]
    lower_cgroup_programs(in_force, own, policies.places, lowered)
    for resource in resources:
        if not has_data_path(resource):
            lowered.note(resource.id, "NotSupportedYet", _not_yet(resource))
    elsewhere = frozenset(a.id for a in in_force) - {r.id for r in resources}
    return Assembled(lowered, elsewhere, policies, nats)


def translating(nats: NatView, programs: Collection[str], facts: Facts) -> Translating:
    """Return what the policies' programs have to know of translations; `programs` are the
    interfaces that have XDP programs anyway."""
    fast_path = facts.features.fast_path
    able = {
        name
        for name in nats.outsides.keys() | nats.insides
        if facts.interfaces[name].redirects and (fast_path is Want.XDP or name in programs)
    }
    claimants = sorted({rule.policy for rule in nats.rules.values()}) if able else ()
    fast = frozenset(able) if claimants else frozenset()
    return Translating(nats.maps, nats.outsides, fast, tuple(claimants))


def is_for_node(declaration: Declaration, facts: Facts) -> bool:
    """Whether the node's labels meet the declaration's nodeSelector."""
    return all(selector.selects(facts.node_labels) for selector in _node_selectors(declaration))


def _node_selectors(declaration: Declaration) -> Iterator[LabelSelector]:
    spec = declaration.resource.spec
    if spec.node_selector is not None:
        yield spec.node_selector
    if isinstance(spec, NetworkPolicySpec) and spec.selector and spec.selector.node_selector:
        yield spec.selector.node_selector


def has_data_path(resource: Resource) -> bool:
    """Whether this release programs such a resource, not only validates it."""
    match resource:
        case EBPFMap():
            return True
        case EBPFProgram(spec=spec):
            return spec.type == "xdp" or own_source(resource) is not None
        case EBPFNetworkPolicy() | EBPFNATPolicy() | EBPFContainerPolicy():
            return True
        case _:
            return False


def _not_yet(resource: Resource) -> str:
    what = resource.id.kind
    if isinstance(resource, EBPFProgram):
        source = " without a source" if resource.spec.type == "cgroup" else ""
        what = f"{what} of type {resource.spec.type}{source}"
    return f"{what} is validated, but this release does not program it yet"


def _programs(here: Sequence[Accepted], maps: Iterable[EBPFMap]) -> Iterator[Declared]:
    by_name: dict[tuple[str, str], EBPFMap] = {
        (m.metadata.namespace, m.metadata.name): m for m in maps
    }
    for accepted in here:
        resource = accepted.declaration.resource
        if isinstance(resource, EBPFProgram):
            origin, files = accepted.declaration.origin, accepted.files
            yield Declared(resource, origin, files, user_maps(resource, by_name))


def _on_interfaces(
    programs: Iterable[Declared], context: Context, lowered: Lowered
) -> dict[str, list[Declared]]:
    """Return the XDP programs of each interface."""
    found: dict[str, list[Declared]] = {}
    for declared in programs:
        if declared.resource.spec.type != "xdp" or _too_many_lists(declared, lowered):
            continue
        for interface in _interfaces(declared.resource, context, lowered):
            found.setdefault(interface.name, []).append(declared)
    return found


def _lower_xdp(
    on_interface: Mapping[str, Sequence[Declared]],
    fast_paths: Mapping[str, FastPath],
    context: Context,
    lowered: Lowered,
) -> None:
    chosen = chosen_fast_paths(fast_paths, on_interface, context.facts.features)
    for name in sorted(on_interface.keys() | chosen.keys()):
        interface, chained = context.facts.interfaces[name], on_interface.get(name, [])
        lower_interface(interface, chained, chosen.get(name), context, lowered)


def _interfaces(resource: EBPFProgram, context: Context, lowered: Lowered) -> list[Interface]:
    pattern = str(resource.spec.interface)
    found = context.facts.matching(pattern)
    if not found:
        message = f"no interface `{pattern}` now; the program is attached when it appears"
        lowered.note(resource.id, "InterfaceMissing", message)
    return found


def user_maps(program: EBPFProgram, maps: MapsByName) -> tuple[Map, ...]:
    """Return the EBPFMaps that a program reads: its mapRef, and those that say accessedBy."""
    namespace, name = program.metadata.namespace, program.metadata.name
    blacklist = program.spec.settings.blacklist
    refused = "enabled" in blacklist.model_fields_set and not blacklist.enabled
    names = {
        key
        for key, resource in maps.items()
        if key[0] == namespace and name in resource.spec.accessed_by
    }
    if blacklist.map_ref and blacklist.enabled:
        names.add((namespace, str(blacklist.map_ref)))
    if program.spec.source is None and refused:
        names.clear()
    return tuple(map_object(maps[key]) for key in sorted(names) if key in maps)


def _too_many_lists(declared: Declared, lowered: Lowered) -> bool:
    most = int(abi.Size.USER_LISTS)
    for version in (4, 6):
        count = sum(is_list_of(found, version) for found in declared.maps)
        if count > most:
            lowered.note(
                declared.resource.id,
                "TooManyLists",
                f"{count} IPv{version} maps are its blacklist; a program reads at most {most}",
            )
            return True
    return False

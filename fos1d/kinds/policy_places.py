"""Whose traffic the policies judge: interfaces and workloads, grouped by the policies they have.

Places with the same policies are one subject of the classifier, so that a workload that comes or
goes among its like changes a map's entry and not the rules. What a policy says of a cgroup holds
for all below it, also for those that other policies select: nobody escapes from a slice by a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from fos1d.abi import PlaceKind
from fos1d.kinds.admission import Accepted
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.meta import LabelSelector
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.model.facts import Facts, Interface
from fos1d.model.identity import ResourceId
from fos1d.model.workload import Workload

LOOPBACK = 772
MOST_SHOWN = 5
CGROUP = PlaceKind.PLACE_CGROUP

Policy: TypeAlias = EBPFNetworkPolicy | EBPFContainerPolicy
# The policies of a place; True where they may grant it something.
Signature: TypeAlias = tuple[tuple[ResourceId, bool], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """An interface, or a workload's cgroup by its path below the root."""

    kind: PlaceKind
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Places:
    """The places, the number of each one's subject, and what each policy selects.

    `subjects` are the signatures by number, with the policies of the cgroups above, those of
    workloads that are yet to come among them; `own` are those without. `workloads` are those whose
    cgroups are places. `awaiting` are the policies that workloads can come to be selected by.
    """

    numbers: Mapping[Place, int] = field(default_factory=dict)
    workloads: Mapping[Place, Workload] = field(default_factory=dict)
    subjects: tuple[Signature, ...] = ()
    selected: Mapping[ResourceId, tuple[Place, ...]] = field(default_factory=dict)
    own: Mapping[Place, Signature] = field(default_factory=dict)
    awaiting: frozenset[ResourceId] = frozenset()

    def answers_for_router(self, place: Place) -> bool:
        """Whether a place is a workload without addresses of its own."""
        return place in self.workloads and not self.workloads[place].addresses

    def with_policy(self, policy: ResourceId, grants: bool) -> frozenset[int]:
        """Return the subjects that a policy selects and may grant something, or may not."""
        numbered = enumerate(self.subjects)
        return frozenset(n for n, signature in numbered if (policy, grants) in signature)


def places_of(policies: Sequence[Accepted], facts: Facts) -> Places:
    """Find the places of all policies on this router."""
    chosen: dict[Place, dict[ResourceId, bool]] = {}
    selected: dict[ResourceId, tuple[Place, ...]] = {}
    for accepted in policies:
        found = dict(_selected(accepted, facts))
        selected[accepted.id] = tuple(found)
        for place, grants in found.items():
            chosen.setdefault(place, {})[accepted.id] = grants
    own = {place: tuple(sorted(by.items())) for place, by in chosen.items()}
    signatures = _with_those_above(chosen)
    awaiting = frozenset(accepted.id for accepted in policies if _awaits_workloads(accepted))
    # A workload that comes is then an entry of a map, and not other rules and programs.
    subjects = tuple(sorted({*signatures.values(), *(((who, True),) for who in awaiting)}))
    numbers = {place: subjects.index(signature) for place, signature in signatures.items()}
    workloads = {place: found for found in facts.workloads if (place := _place(found)) in numbers}
    return Places(numbers, workloads, subjects, selected, own, awaiting)


def _with_those_above(chosen: Mapping[Place, Mapping[ResourceId, bool]]) -> dict[Place, Signature]:
    """Return the policies of each place and of the cgroups that it is in."""
    cgroups = {place.name: by for place, by in chosen.items() if place.kind is CGROUP}
    found: dict[Place, Signature] = {}
    for place, by in chosen.items():
        merged = dict(by)
        for path in cgroups_above(place.name) if place.kind is CGROUP else ():
            for policy, grants in cgroups.get(path, {}).items():
                merged[policy] = merged.get(policy, False) or grants
        found[place] = tuple(sorted(merged.items()))
    return found


def cgroups_above(path: str) -> Iterator[str]:
    """Yield the paths above a cgroup, the nearest first; `.` is the root."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
    if path != ".":
        yield "."


def _place(workload: Workload) -> Place:
    return Place(PlaceKind.PLACE_CGROUP, workload.cgroup_id, workload.cgroup)


def _awaits_workloads(accepted: Accepted) -> bool:
    match accepted.declaration.resource:
        case EBPFContainerPolicy():
            return True
        case EBPFNetworkPolicy(spec=spec):
            selector = spec.selector
            selectors = selector and (selector.pod_selector, selector.namespace_selector)
            return any(part is not None for part in selectors or ())
        case _:
            return False


def _selected(accepted: Accepted, facts: Facts) -> Iterator[tuple[Place, bool]]:
    resource = accepted.declaration.resource
    namespace = resource.metadata.namespace
    match resource:
        case EBPFContainerPolicy(spec=container):
            chosen = container.selector
            pods, namespaces = chosen.pod_selector, chosen.namespace_selector
            yield from _workloads(pods, namespaces, namespace, facts)
        case EBPFNetworkPolicy(spec=spec):
            selector = spec.selector
            pods = selector.pod_selector if selector else None
            namespaces = selector.namespace_selector if selector else None
            globs = selector.interfaces if selector else ()
            if pods is not None or namespaces is not None:
                yield from _workloads(pods, namespaces, namespace, facts)
            for interface in _interfaces(globs, pods is None and namespaces is None, facts):
                yield Place(PlaceKind.PLACE_INTERFACE, interface.index, interface.name), True
        case _:
            return


def _interfaces(globs: Iterable[str], all_else: bool, facts: Facts) -> Iterator[Interface]:
    """Yield the interfaces that match; without globs, all but loopback if `all_else`."""
    patterns = tuple(globs)
    if patterns:
        for name in sorted({i.name for glob in patterns for i in facts.matching(glob)}):
            yield facts.interfaces[name]
    elif all_else:
        yield from (i for i in facts.matching("*") if i.link_type != LOOPBACK)


def _workloads(
    pods: LabelSelector | None, namespaces: LabelSelector | None, namespace: str, facts: Facts
) -> Iterator[tuple[Place, bool]]:
    for workload in facts.workloads:
        if not selects(pods, namespaces, namespace, workload, workload.labels):
            continue
        grants = selects(pods, namespaces, namespace, workload, workload.trusted_labels)
        yield _place(workload), grants


def selects(
    pods: LabelSelector | None,
    namespaces: LabelSelector | None,
    namespace: str,
    workload: Workload,
    labels: Mapping[str, str],
) -> bool:
    """Whether selectors that stand in a name space select a workload by the given labels."""
    if namespaces is None:
        if workload.namespace != namespace:
            return False
    elif not namespaces.selects(workload.namespace_labels):
        return False
    return pods is None or pods.selects(labels)


def shown_selection(places: Sequence[Place]) -> str:
    """Return the places that a policy selects, for people."""
    shown = ", ".join(place.name for place in places[:MOST_SHOWN])
    more = len(places) - MOST_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def nothing_selected(accepted: Accepted) -> tuple[str, str]:
    """Return the reason and message where a policy selects nothing."""
    resource = accepted.declaration.resource
    selector = resource.spec.selector if isinstance(resource, EBPFNetworkPolicy) else None
    if selector and selector.interfaces:
        globs = "`, `".join(selector.interfaces)
        message = f"no interface `{globs}` now; it is in force when one appears"
        return "NoMatchingInterfaces", message
    return "NoMatchingWorkloads", "no local workload has such labels now"

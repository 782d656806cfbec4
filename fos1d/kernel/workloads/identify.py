"""Cgroups, and what each provider says of them, into workloads. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from fos1d.kernel.workloads.tree import Cgroup
from fos1d.kernel.workloads.units import SLICE_LABEL, UNIT_LABEL, LabelsOf, unit_at
from fos1d.kinds.workload_file import StaticWorkload, WorkloadFile
from fos1d.model.workload import DEFAULT_NAMESPACE, NAMESPACE_LABEL, Provider, Workload

_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class Container:
    """What an engine says of a container; `owner` is the engine's user id."""

    id: str
    name: str
    provider: Provider
    owner: int = 0
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    macs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one provider says of one cgroup."""

    provider: Provider
    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    built_in: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    macs: tuple[str, ...] = ()
    trusted: bool = True


def identify(
    cgroups: Mapping[str, Cgroup],
    labels_of: LabelsOf,
    containers: Sequence[Container],
    files: Sequence[WorkloadFile],
) -> tuple[Workload, ...]:
    """Return the workloads, by cgroup: one for each that some provider knows."""
    places = container_places(cgroups.values())
    claims: dict[str, list[_Claim]] = defaultdict(list)
    for path, claim in (
        *_static(cgroups.values(), [entry for file in files for entry in file.workloads]),
        *_contained(places, containers),
        *_units(cgroups.values(), labels_of),
    ):
        delegated = cgroups[path].delegated
        claims[path].append(replace(claim, trusted=False) if delegated else claim)
    spaces = {name: labels for file in files for name, labels in file.namespaces.items()}
    return tuple(_workload(cgroups[path], said, spaces) for path, said in sorted(claims.items()))


def container_places(cgroups: Iterable[Cgroup]) -> dict[str, list[Cgroup]]:
    """Return the cgroups that bear the id of a container; within a container there are none."""
    outside: str | None = None
    found: dict[str, list[Cgroup]] = defaultdict(list)
    for cgroup in sorted(cgroups, key=lambda cgroup: cgroup.path.split("/")):
        name = cgroup.path.rpartition("/")[2]
        match = _CONTAINER_ID.search(name)
        if match is None or "conmon" in name:
            continue
        if outside is not None and cgroup.path.startswith(outside):
            continue
        outside = f"{cgroup.path}/"
        found[match[0]].append(cgroup)
    return found


def _static(
    cgroups: Iterable[Cgroup], entries: Sequence[StaticWorkload]
) -> Iterator[tuple[str, _Claim]]:
    for cgroup in cgroups if entries else ():
        for entry in entries:
            if entry.names(cgroup.path):
                yield (
                    cgroup.path,
                    _Claim(
                        Provider.STATIC,
                        entry.name,
                        entry.namespace,
                        entry.labels,
                        addresses=entry.addresses,
                    ),
                )


def _contained(
    places: Mapping[str, Sequence[Cgroup]], containers: Sequence[Container]
) -> Iterator[tuple[str, _Claim]]:
    for container in containers:
        for cgroup in places.get(container.id, ()):
            if _may_speak(container, cgroup):
                yield (
                    cgroup.path,
                    _Claim(
                        container.provider,
                        container.name,
                        container.namespace,
                        container.labels,
                        addresses=container.addresses,
                        macs=container.macs,
                        trusted=container.owner == 0,
                    ),
                )


def _may_speak(container: Container, cgroup: Cgroup) -> bool:
    """Whether the engine may speak of the cgroup: root's of root's, a user's of his own."""
    return not cgroup.delegated if container.owner == 0 else cgroup.owner == container.owner


def _units(cgroups: Iterable[Cgroup], labels_of: LabelsOf) -> Iterator[tuple[str, _Claim]]:
    for cgroup in cgroups:
        unit = unit_at(cgroup.path)
        if unit is None:
            continue
        built_in = {UNIT_LABEL: unit.name, SLICE_LABEL: unit.slice}
        said = None if unit.of_user else labels_of(unit.name)
        labels, space = (said.labels, said.namespace) if said else ({}, "")
        trusted = not unit.of_user
        yield (
            cgroup.path,
            _Claim(Provider.SYSTEMD, unit.name, space, labels, built_in, trusted=trusted),
        )


def _workload(
    cgroup: Cgroup, claims: Sequence[_Claim], spaces: Mapping[str, Mapping[str, str]]
) -> Workload:
    """Join what is said: who is trusted first, then in the order of the providers."""
    trusted = [claim for claim in claims if claim.trusted]
    said = [*trusted, *(claim for claim in claims if not claim.trusted)]
    space = next((claim.namespace for claim in trusted if claim.namespace), DEFAULT_NAMESPACE)
    addresses = {address for claim in trusted for address in claim.addresses}
    return Workload(
        said[0].name,
        cgroup.path,
        cgroup.id,
        said[0].provider,
        space,
        {**_labels(said), **_labels(trusted)},
        _labels(trusted),
        {**spaces.get(space, {}), NAMESPACE_LABEL: space},
        tuple(sorted(addresses, key=lambda address: (address.version, address))),
        tuple(sorted({mac for claim in trusted for mac in claim.macs})),
    )


def _labels(claims: Sequence[_Claim]) -> dict[str, str]:
    """Join labels: the first word counts, but for what systemd itself knows."""
    labels: dict[str, str] = {}
    for claim in reversed(claims):
        labels |= claim.labels
    for claim in reversed(claims):
        labels |= claim.built_in
    return labels

"""The limits of EBPFContainerPolicies -> their maps, and programs on cgroups.

The packets' programs are those of policy_lower.py, which apply the limits after the rules; here are
connections, devices, and what all of them read. Only the topmost of the limited cgroups has
programs, since they see all below it and must not count twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fos1d import abi
from fos1d.abi import LimitsFlag, PlaceKind
from fos1d.kinds.admission import Accepted
from fos1d.kinds.container_limits import SECOND, Devices, Limits, Say, inherited, limits_of
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.lowered import Context, Lowered, digest_of
from fos1d.kinds.policy_lower import is_within, topmost
from fos1d.kinds.policy_places import Place, Places
from fos1d.kinds.program_lower import map_of_shape
from fos1d.model.identity import ResourceId
from fos1d.model.objects import BuiltIn, CgroupAttachment, CgroupHook, Entries, Map, Program
from fos1d.model.pins import SHARED_POLICY, program_family, state_family

CONNECTION_HOOKS = {
    CgroupHook.CONNECT4: BuiltIn("cgroup_connect", "fos1_cgroup_connect4"),
    CgroupHook.CONNECT6: BuiltIn("cgroup_connect", "fos1_cgroup_connect6"),
    CgroupHook.SOCK_RELEASE: BuiltIn("cgroup_release", "fos1_cgroup_release"),
    CgroupHook.SOCK_OPS: BuiltIn("sock_count", "fos1_sock_count"),
}
DEVICE_HOOKS = {CgroupHook.DEVICE: BuiltIn("cgroup_device", "fos1_cgroup_device")}
CODES = (*CONNECTION_HOOKS.values(), *DEVICE_HOOKS.values())

KEY, LIMITS, DEVICE_KEY = np.dtype("<u8"), np.dtype(abi.LIMITS), np.dtype(abi.DEVICE_KEY)
DEVICE_VALUE = (1).to_bytes(4, "little")
LIMITS_OF, DEVICES = "workload_limits_of", "workload_devices"


@dataclass(frozen=True, slots=True)
class _Limited:
    """A workload's cgroup, what it may use, and which policies say so."""

    place: Place
    limits: Limits
    policies: tuple[ResourceId, ...]


def lower_limits(
    here: Iterable[Accepted], places: Places, context: Context, lowered: Lowered
) -> None:
    """Add the objects of all limits; `places` are those of all policies (policy_lower.py)."""
    policies = _container_policies(here)
    limited = _limited(policies, places)
    alone = {who: limits_of([Say(policy.spec, True)]) for who, policy in policies.items()}
    limiting = {who for who, limits in alone.items() if limits != Limits()}
    controlling = {who for who in limiting if _allowed(alone[who].devices) is not None}
    controlled = [workload for workload in limited if _allowed(workload.limits.devices) is not None]
    for claimant in sorted(limiting.union(*(workload.policies for workload in limited))):
        lowered.add(claimant, *limit_maps().values())
        lowered.add(claimant, _limit_entries(limited), _device_entries(limited))
    _attach(CONNECTION_HOOKS, limiting, limited, context, lowered)
    _attach(DEVICE_HOOKS, controlling, controlled, context, lowered)


def _container_policies(here: Iterable[Accepted]) -> dict[ResourceId, EBPFContainerPolicy]:
    resources = (accepted.declaration.resource for accepted in here)
    return {found.id: found for found in resources if isinstance(found, EBPFContainerPolicy)}


def _limited(policies: Mapping[ResourceId, EBPFContainerPolicy], places: Places) -> list[_Limited]:
    """Return the workloads that are limited at all, by path."""
    cgroups = {p.name: p for p in places.numbers if p.kind is PlaceKind.PLACE_CGROUP}
    says = {path: _says(policies, places, place) for path, place in cgroups.items()}
    own = {path: limits_of(list(said.values())) for path, said in says.items() if said}
    untrusted = {path for path, said in says.items() if not any(s.grants for s in said.values())}
    return [
        _Limited(cgroups[path], limits, tuple(says[path]))
        for path, limits in sorted(inherited(own, untrusted).items())
        if limits != Limits()
    ]


def _says(
    policies: Mapping[ResourceId, EBPFContainerPolicy], places: Places, place: Place
) -> dict[ResourceId, Say]:
    chosen = [
        (policies[policy], grants) for policy, grants in places.own[place] if policy in policies
    ]
    chosen.sort(key=lambda pair: (pair[0].spec.priority, pair[0].id))
    return {resource.id: Say(resource.spec, grants) for resource, grants in chosen}


# Maps


def limit_maps() -> dict[str, Map]:
    """Return the maps, which outlive every policy, by their names in the programs."""
    shapes = {name: shape for code in CODES for name, shape in abi.MAPS[code.object].items()}
    return {
        name: map_of_shape(state_family(SHARED_POLICY, name), name, shape)
        for name, shape in shapes.items()
    }


def _limit_entries(limited: Sequence[_Limited]) -> Entries:
    records = (KEY.type(w.place.id).tobytes() + _record(w.limits) for w in limited)
    path = limit_maps()[LIMITS_OF].path
    return Entries(path, KEY.itemsize, LIMITS.itemsize, b"".join(sorted(records)), exclusive=True)


def _record(limits: Limits) -> bytes:
    record = np.zeros((), LIMITS)
    for way, bandwidth in (("in", limits.inward), ("out", limits.outward)):
        if bandwidth is not None:
            record[f"{way}_bits_per_s"], record[f"{way}_burst"] = (
                bandwidth.bits_per_s,
                bandwidth.burst,
            )
    if limits.connections_per_s is not None:
        cost = max(SECOND // limits.connections_per_s, 1)
        record["connection_cost"] = cost
        record["connection_depth"] = cost * (limits.connections_per_s - 1)
    record["max_connections"] = limits.most_connections or 0
    record["flags"] = _flags(limits)
    return record.tobytes()


def _flags(limits: Limits) -> int:
    flags = int(LimitsFlag.LIMITS_ACCOUNTED) if limits.accounted else 0
    if limits.devices is not None:
        flags |= LimitsFlag.LIMITS_DEVICES
        if limits.devices.allowed is None:
            flags |= LimitsFlag.LIMITS_DEVICES_ALLOWED
    return flags


def _allowed(devices: Devices | None) -> frozenset[tuple[int, int, int]] | None:
    return devices.allowed if devices else None


def _device_entries(limited: Sequence[_Limited]) -> Entries:
    records = [
        np.array((workload.place.id, *device, 0), DEVICE_KEY).tobytes() + DEVICE_VALUE
        for workload in limited
        for device in _allowed(workload.limits.devices) or ()
    ]
    path = limit_maps()[DEVICES].path
    packed = b"".join(sorted(records))
    return Entries(path, DEVICE_KEY.itemsize, len(DEVICE_VALUE), packed, exclusive=True)


# Programs


def _attach(
    hooks: Mapping[CgroupHook, BuiltIn],
    limiting: Iterable[ResourceId],
    limited: Sequence[_Limited],
    context: Context,
    lowered: Lowered,
) -> None:
    """Add the programs of the hooks, for policies that will need them before their first workload
    comes; and attach them to the topmost of the cgroups."""
    programs = {hook: _program(hook, code, context) for hook, code in hooks.items()}
    for claimant in sorted(limiting):
        lowered.add(claimant, *programs.values())
    for top in topmost(workload.place.name for workload in limited):
        within = [workload for workload in limited if is_within(workload.place.name, top)]
        for claimant in sorted({policy for workload in within for policy in workload.policies}):
            for hook, program in programs.items():
                lowered.add(claimant, program, CgroupAttachment(top, hook, program.path))


def _program(hook: CgroupHook, code: BuiltIn, context: Context) -> Program:
    maps = limit_maps()
    bound = tuple(sorted((name, maps[name].path) for name in abi.MAPS[code.object]))
    content = context.facts.objects[code.object]
    return Program(
        program_family(SHARED_POLICY),
        digest_of(code.object, code.function, content, bound),
        frozenset(path for _, path in bound),
        hook,
        code,
        maps=bound,
    )

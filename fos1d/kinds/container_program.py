"""EBPFProgram of type cgroup with a source -> the user's own program on cgroups, beside ours.

It runs on the workloads of the EBPFContainerPolicies that name it, and then nowhere else; without
such a policy on the cgroup of its spec. The kernel runs all programs of a hook, whatever the
others say, and all must let a packet, a connection or a device pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fos1d.abi import PlaceKind
from fos1d.kinds.admission import Accepted
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.lowered import Lowered, digest_of
from fos1d.kinds.policy_lower import is_within, topmost
from fos1d.kinds.policy_places import Places
from fos1d.kinds.program import EBPFProgram
from fos1d.kinds.program_lower import Declared, source_of, user_program
from fos1d.kinds.program_object import cgroup_hooks
from fos1d.model.identity import ResourceId
from fos1d.model.objects import CgroupAttachment, CgroupHook, Program

# Who wants a program on a cgroup, by the cgroup's path.
Cgroups = Mapping[str, Sequence[ResourceId]]

SLOT_DIGITS = 10


def lower_cgroup_programs(
    in_force: Iterable[Accepted], here: Sequence[Declared], places: Places, lowered: Lowered
) -> None:
    """Add the objects of the users' programs `here`, those of this router.

    A policy of another router names a program, too: it must not run on all of this one then.
    """
    resources = [accepted.declaration.resource for accepted in in_force]
    naming = _naming(resources)
    for declared in sorted(here, key=lambda declared: declared.rank):
        _lower(declared, naming.get(declared.resource.id), places, lowered)
    known = {declared.resource.id for declared in here}
    without = {r.id for r in resources if isinstance(r, EBPFProgram) and r.spec.source is None}
    for program in sorted(naming.keys() - known):
        for policy in naming[program]:
            if policy in places.selected:
                lowered.note(policy, *_missing(program, program in without))


def _naming(resources: Iterable[object]) -> dict[ResourceId, list[ResourceId]]:
    """Return the policies that name each program."""
    naming: dict[ResourceId, list[ResourceId]] = {}
    for resource in resources:
        if isinstance(resource, EBPFContainerPolicy) and resource.spec.ebpf_program is not None:
            named = ResourceId("EBPFProgram", resource.id.namespace, resource.spec.ebpf_program)
            naming.setdefault(named, []).append(resource.id)
    return {program: sorted(policies) for program, policies in naming.items()}


def _missing(program: ResourceId, without_source: bool) -> tuple[str, str]:
    if without_source:
        message = "has no source, and this release has no built-in program of type cgroup"
        return "NotSupportedYet", f"ebpfProgram: {program} {message}; it does not run"
    return "ProgramElsewhere", f"ebpfProgram: {program} is not for this router; it does not run"


def _lower(
    declared: Declared, policies: Sequence[ResourceId] | None, places: Places, lowered: Lowered
) -> None:
    about = declared.resource.id
    try:
        hooks = cgroup_hooks(*source_of(declared))
    except ValueError as error:
        lowered.note(about, "SourceProgramError", str(error))
        return
    program = user_program(declared, hooks[0], lowered)
    if policies is None:
        cgroups: Cgroups = {str(declared.resource.spec.cgroup or "."): ()}
    else:
        cgroups = _cgroups(policies, places)
        _tell(declared, policies, cgroups, lowered)
    # The policies have it in the kernel before their first workload comes.
    for claimant in (about, *(policy for policy in policies or () if policy in places.selected)):
        lowered.add(claimant, program)
    for claimant, attachment in _attachments(declared, program, hooks, cgroups):
        lowered.add(claimant, attachment)


def _cgroups(policies: Sequence[ResourceId], places: Places) -> Cgroups:
    found: dict[str, list[ResourceId]] = {}
    for policy in policies:
        for place in places.selected.get(policy, ()):
            if place.kind is PlaceKind.PLACE_CGROUP:
                found.setdefault(place.name, []).append(policy)
    return found


def _attachments(
    declared: Declared, program: Program, hooks: Iterable[CgroupHook], cgroups: Cgroups
) -> Iterator[tuple[ResourceId, CgroupAttachment]]:
    """Yield who wants which attachment: on the topmost cgroups, whose programs see all below."""
    slot = slot_of(declared.resource)
    for top in topmost(cgroups):
        below = {policy for path, by in cgroups.items() if is_within(path, top) for policy in by}
        for claimant in (declared.resource.id, *sorted(below)):
            for hook in hooks:
                yield claimant, CgroupAttachment(top, hook, program.path, slot)


def slot_of(resource: EBPFProgram) -> int:
    """Return the slot of a program, the same whatever others come and go: after our own, and of
    those that come at once in the order of priority."""
    digits = int(digest_of(resource.id), 16) % 10**SLOT_DIGITS
    return int(f"1{resource.spec.priority:0{SLOT_DIGITS}}{digits:0{SLOT_DIGITS}}")


def _tell(
    declared: Declared, policies: Sequence[ResourceId], cgroups: Cgroups, lowered: Lowered
) -> None:
    about, names = declared.resource.id, ", ".join(map(str, policies))
    if cgroups:
        lowered.selects(about, f"on the workloads of {names}: {', '.join(sorted(cgroups))}")
    else:
        message = f"it runs on the workloads of {names} only; there are none now"
        lowered.selects_nothing(about, "NoMatchingWorkloads", message)
    if declared.resource.spec.cgroup is not None:
        lowered.remark(about, f"spec.cgroup is not used: {names} says where it runs")

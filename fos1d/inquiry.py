"""Answers that take a look at the kernel but change nothing: plans, and details of a resource."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.counters import (
    RuleUse,
    map_entries,
    map_use,
    program_counts,
    program_id,
    rule_counts,
)
from fos1d.kernel.port import Kernel
from fos1d.kernel.usage import Usage, workload_usage
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.map import EBPFMap
from fos1d.kinds.map_lower import map_object
from fos1d.kinds.nat_lower import NatView
from fos1d.kinds.nat_policy import EBPFNATPolicy
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.policy_lower import PolicyView
from fos1d.kinds.program import EBPFProgram
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Key, Placement
from fos1d.model.pins import owner_name
from fos1d.model.snapshot import Blob, Snapshot
from fos1d.nat_inquiry import translated_by
from fos1d.plan.actions import Action, describe, target, verb
from fos1d.plan.diff import make_plan
from fos1d.reconcile import Memory, Options, lower, read
from fos1d.report.desk import (
    Attached,
    Details,
    MapEntries,
    PlannedAction,
    PlanView,
    RuleCount,
    WorkloadUse,
    attached_of,
)
from fos1d.report.packets import reason_name
from fos1d.report.status import ResourceStatus
from fos1d.source.objects import id_of

MOST_SAMPLED = 10
GIT_DIGITS = 40


def plan_view(snapshot: Snapshot, memory: Memory, kernel: Kernel, options: Options) -> PlanView:
    """Return what a pass would do for a snapshot.

    Raises SourceError and KernelError as a pass does.
    """
    apart = Memory(memory.reader.apart(), dict(memory.in_force))
    admission = read(snapshot, apart, replace(options), False)
    assembled = lower(admission, apart, kernel.facts(), options)
    desired = assembled.lowered.objects
    plan = make_plan(desired, kernel.observe(desired))
    claimants: dict[Key, list[ResourceId]] = {}
    for identity, keys in sorted(assembled.lowered.claims.items()):
        for key in keys:
            claimants.setdefault(key, []).append(identity)
    return PlanView(
        snapshot.revision,
        tuple(_planned(action, claimants) for action in plan.actions),
        tuple(f"{conflict.key}: {conflict.holder}" for conflict in plan.conflicts),
        admission.findings,
        tuple(sorted(admission.kept)),
        tuple(sorted(admission.held)),
        len(admission.in_force) - len(admission.kept) - len(admission.held),
    )


def _planned(action: Action, claimants: dict[Key, list[ResourceId]]) -> PlannedAction:
    key = target(action)
    wanted_by = tuple(claimants.get(key, ()))
    return PlannedAction(verb(action), key.kind, key.name, wanted_by, describe(action))


def details_of(status: ResourceStatus, bpffs: Bpffs, view: PolicyView, nats: NatView) -> Details:
    """Return what the kernel says of a resource."""
    if status.accepted is None:
        return Details()
    match status.accepted.declaration.resource:
        case EBPFMap() as resource:
            pin = resource.spec.pin_path
            return Details(map=_map(resource, bpffs), pin_path=str(pin) if pin else "")
        case EBPFProgram() as program:
            counts = program_counts(bpffs, owner_name(program.id))
            return Details(
                attached=tuple(_attached(found, bpffs) for found in status.attached),
                counts={reason_name(r): (c.packets, c.bytes) for r, c in counts.items()},
            )
        case EBPFNetworkPolicy() | EBPFContainerPolicy():
            rules = tuple(_rules(status.id, bpffs, view))
            workloads = tuple(_workloads(status.id, bpffs, view))
            translated = translated_by(status.id, bpffs, nats)
            return Details(rules=rules, workloads=workloads, translated=translated)
        case EBPFNATPolicy():
            return Details(translated=translated_by(status.id, bpffs, nats))
        case _:
            return Details()


def _rules(about: ResourceId, bpffs: Bpffs, view: PolicyView) -> Iterator[RuleCount]:
    counts = rule_counts(bpffs)
    for counter, source in view.sources.items():
        if source.policy != about:
            continue
        use = counts.get(counter, RuleUse())
        yield RuleCount(
            source.direction,
            source.index,
            source.description,
            source.action,
            str(source.origin),
            use.matched.packets,
            use.matched.bytes,
            use.exceeding.packets,
        )


def _workloads(about: ResourceId, bpffs: Bpffs, view: PolicyView) -> Iterator[WorkloadUse]:
    usage = workload_usage(bpffs)
    for place in view.places.selected.get(about, ()):
        workload = view.places.workloads.get(place)
        if workload is None:
            continue
        used = usage.get(place.id)
        counters = {} if used is None else _counters_of(used)
        yield WorkloadUse(
            workload.name, workload.namespace, workload.cgroup, workload.cgroup_id, counters
        )


def _counters_of(used: Usage) -> dict[str, int]:
    return {
        "bytesIn": used.received.bytes,
        "bytesOut": used.sent.bytes,
        "packetsIn": used.received.packets,
        "packetsOut": used.sent.packets,
        "connections": used.connections,
        "connectionsOpened": used.opened,
        "blocked": used.blocked,
        "marked": used.marked,
    }


def _attached(found: Placement, bpffs: Bpffs) -> Attached:
    number = program_id(bpffs, found.program)
    program = f"{number}" if number else found.program
    return attached_of(found, program)


def _map(resource: EBPFMap, bpffs: Bpffs) -> MapEntries | None:
    path = map_object(resource).path
    use = map_use(bpffs, path)
    if use is None:
        return None
    sample = map_entries(bpffs, path, MOST_SAMPLED)
    shown = tuple((key.hex(), value.hex()) for key, value in sample)
    return MapEntries(use.id, use.entries, use.max_entries, use.memory_bytes, shown)


def snapshot_of(files: Mapping[str, bytes]) -> Snapshot:
    """Return a snapshot of files that somebody proposes, by the ids that they have in Git: what
    is served from there already was read before."""

    def blob(path: str, data: bytes) -> Blob:
        return Blob(path, id_of("blob", data, GIT_DIGITS), len(data), lambda: data)

    return Snapshot("proposed", {path: blob(path, data) for path, data in files.items()})

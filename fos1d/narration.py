"""A pass as events: what was done, what was set right, what changed its condition."""

from __future__ import annotations

from collections.abc import Iterator

from fos1d.model.condition import ConditionType
from fos1d.model.diagnostic import errors_of
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Key
from fos1d.plan.actions import Done, describe, target
from fos1d.reconcile import PassReport
from fos1d.report.events import Event, EventType
from fos1d.report.status import ResourceStatus, World

MOST_ACTIONS = 20


def remarks_by_resource(report: PassReport) -> dict[ResourceId, list[str]]:
    """Return the executor's remarks for each resource that claims the object."""
    claimants = claimants_of(report)
    found: dict[ResourceId, list[str]] = {}
    for key, remark in sorted(report.remarks.items()):
        for identity in claimants.get(key, ()):
            found.setdefault(identity, []).append(f"{key}: {remark}")
    return found


def claimants_of(report: PassReport) -> dict[Key, list[ResourceId]]:
    """Return who wants each object."""
    claimants: dict[Key, list[ResourceId]] = {}
    for identity, keys in sorted(report.facts.claims.items()):
        for key in keys:
            claimants.setdefault(key, []).append(identity)
    return claimants


def narrate(report: PassReport, before: World, after: World) -> Iterator[Event]:
    """Yield the events of a pass. A pass that did nothing and changed nothing yields none."""
    yield from _findings(report, before)
    yield from _actions(report)
    yield from _transitions(before, after, report.revision)
    if after.held and before.held != after.held:
        message = (
            f"the revision removes {len(after.held)} of {len(report.admission.in_force)} resources,"
            " more than prune_limit_percent; it waits for: fos1ctl confirm"
        )
        yield Event(EventType.WARNING, "RevisionHeld", message, revision=report.revision)


def _findings(report: PassReport, before: World) -> Iterator[Event]:
    known = {(finding.origin, finding.message) for finding in before.findings}
    for finding in errors_of(report.admission.findings):
        if (finding.origin, finding.message) not in known:
            yield Event(
                EventType.WARNING,
                "InvalidManifest",
                str(finding),
                finding.resource,
                report.revision,
            )


def _actions(report: PassReport) -> Iterator[Event]:
    claimants = claimants_of(report)
    drifted = set(report.drifted)
    done = [outcome.action for outcome in report.outcomes if isinstance(outcome, Done)]
    for action in done[:MOST_ACTIONS]:
        key = target(action)
        healed = key in drifted
        reason = "DriftHealed" if healed else f"{type(action).__name__}d"
        kind = EventType.WARNING if healed else EventType.NORMAL
        wanted_by: list[ResourceId | None] = [*claimants.get(key, ())]
        for about in wanted_by or [None]:
            yield Event(kind, reason, describe(action), about, report.revision)
    if len(done) > MOST_ACTIONS:
        message = f"and {len(done) - MOST_ACTIONS} more actions"
        yield Event(EventType.NORMAL, "Reconciled", message, None, report.revision)


def _transitions(before: World, after: World, revision: str) -> Iterator[Event]:
    for identity, status in sorted(after.resources.items()):
        old = before.resources.get(identity)
        if old is status:
            continue
        if old is None or _ready(old) != _ready(status):
            yield _transition(status, revision)
    for identity in sorted(before.resources.keys() - after.resources.keys()):
        yield Event(EventType.NORMAL, "Removed", f"{identity} is gone", identity, revision)


def _ready(status: ResourceStatus) -> tuple[bool, str, str]:
    condition = status.conditions[ConditionType.READY].condition
    return condition.holds, condition.reason, "" if condition.holds else condition.message


def _transition(status: ResourceStatus, revision: str) -> Event:
    condition = status.ready.condition
    if condition.holds:
        return Event(EventType.NORMAL, "Ready", condition.message, status.id, revision)
    return Event(EventType.WARNING, condition.reason, condition.message, status.id, revision)

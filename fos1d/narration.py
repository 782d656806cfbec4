"""A pass as events: what was done, what was set right, what changed its condition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fos1d.errors import VerifierError
from fos1d.model.condition import ConditionType
from fos1d.model.diagnostic import errors_of
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Key
from fos1d.plan.actions import Action, Done, Failed, describe, target, verb
from fos1d.reconcile import PassReport
from fos1d.report.desk import Revision
from fos1d.report.events import Event, EventType
from fos1d.report.status import ResourceStatus, World

# Kinds of object that people know by name; the others are only counted.
NAMED = frozenset({"attachment", "alias"})
NOUNS = {"entries": "entry list", "slots": "program list"}


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
    yield from _refusals(report)
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
    """Yield what was done: drift object by object, the rest summed up per resource and verb."""
    claimants = claimants_of(report)
    drifted = set(report.drifted)
    done = [outcome.action for outcome in report.outcomes if isinstance(outcome, Done)]
    summed: dict[tuple[ResourceId | None, str], list[Action]] = {}
    for action in done:
        key = target(action)
        wanted_by: list[ResourceId | None] = [*claimants.get(key, ())]
        for about in wanted_by or [None]:
            if key in drifted:
                message = f"somebody had changed it: {describe(action)}"
                yield Event(EventType.WARNING, "DriftHealed", message, about, report.revision)
            else:
                summed.setdefault((about, verb(action)), []).append(action)
    for (about, did), actions in summed.items():
        message = f"{did}d {_summary(actions)}"
        yield Event(EventType.NORMAL, f"{did.capitalize()}d", message, about, report.revision)


def _refusals(report: PassReport) -> Iterator[Event]:
    """Yield what the kernel refused, with all that the verifier said."""
    claimants = claimants_of(report)
    for outcome in report.outcomes:
        if isinstance(outcome, Failed):
            key, error = target(outcome.action), outcome.error
            for about in claimants.get(key, ()):
                accepted = report.admission.in_force.get(about)
                yield Event(
                    EventType.WARNING,
                    error.reason,
                    str(error),
                    about,
                    report.revision,
                    origin=accepted.declaration.origin if accepted else None,
                    action=f"{verb(outcome.action)} {key}",
                    detail=error.log if isinstance(error, VerifierError) else "",
                )


def _summary(actions: Sequence[Action]) -> str:
    """Return `3 maps, 1 program, attachment v0 xdp`."""
    counts = Counter(target(action).kind for action in actions)
    places = [str(target(action)) for action in actions if target(action).kind in NAMED]
    parts = [
        f"{count} {NOUNS.get(kind, kind)}{'s' if count > 1 else ''}"
        for kind, count in sorted(counts.items())
        if kind not in NAMED
    ]
    return ", ".join([*parts, *places])


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


def world_after(report: PassReport, before: World, now: float) -> World:
    """Return what is known after a pass, but for its resources."""
    return replace(
        before,
        findings=report.admission.findings,
        passes=before.passes + 1,
        last_pass_s=now,
        suspended_until_s=None,
        held=tuple(sorted(report.admission.held)),
        error="",
    )


def is_news(report: PassReport, world: World, newest: Revision | None) -> bool:
    """Whether the history has yet to say what became of the revision."""
    return newest is None or (newest.revision, newest.result) != (report.revision, _result(world))


def revision_of(report: PassReport, world: World, author: str, subject: str) -> Revision:
    """Return what the history says of a pass."""
    ready = len(world.resources) - len(world.not_ready)
    return Revision(
        report.revision,
        world.last_pass_s,
        author,
        subject,
        _result(world),
        ready,
        len(world.resources),
        len(report.outcomes),
    )


def _result(world: World) -> str:
    return "held" if world.held else "ok" if not world.not_ready else "degraded"

"""Outcomes of a pass -> the conditions of each resource. Pure.

Ready is said only of what was read back: of a resource all of whose objects were found in the
kernel, as desired, after the last action.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fos1d.model.condition import Condition, ConditionType, Status
from fos1d.model.diagnostic import Diagnostic, errors_of
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Key, Placement
from fos1d.plan.actions import Conflict, Done, Failed, Outcome, Skipped, target

CT = ConditionType
MAY_PASS = ("InterfaceMissing", "NoAddress", "NotConverged", "Conflicted")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an object is not as desired; `passes` says whether another try may mend it."""

    reason: str
    message: str
    passes: bool


@dataclass(frozen=True, slots=True)
class PassFacts:
    """What a pass knows when it is over, by resource and by key.

    `remarks` and `warnings` are what was said when the resources were lowered;
    `refusals` and `conflicts` are from its actions, `late` is what a second look found different,
    `attached` what it found attached.
    """

    claims: Mapping[ResourceId, Collection[Key]] = field(default_factory=dict)
    notes: Mapping[ResourceId, Sequence[Condition]] = field(default_factory=dict)
    refusals: Mapping[Key, Refusal] = field(default_factory=dict)
    conflicts: Mapping[Key, Conflict] = field(default_factory=dict)
    late: frozenset[Key] = frozenset()
    contested: frozenset[Key] = frozenset()
    errors: Mapping[ResourceId, Sequence[Diagnostic]] = field(default_factory=dict)
    elsewhere: frozenset[ResourceId] = frozenset()
    selections: Mapping[ResourceId, Condition] = field(default_factory=dict)
    remarks: Mapping[ResourceId, Sequence[str]] = field(default_factory=dict)
    warnings: Mapping[ResourceId, Sequence[Condition]] = field(default_factory=dict)
    held: frozenset[ResourceId] = frozenset()
    attached: Mapping[Key, Placement] = field(default_factory=dict)

    def keys_of(self, identity: ResourceId) -> list[Key]:
        """Return the keys that a resource claims, sorted."""
        return sorted(self.claims.get(identity, ()))


def refusals_of(outcomes: Iterable[Outcome]) -> dict[Key, Refusal]:
    """Return why each object of the plan is not there."""
    refusals: dict[Key, Refusal] = {}
    for outcome in outcomes:
        match outcome:
            case Failed(action=action, error=error):
                refusals[target(action)] = Refusal(error.reason, str(error), error.retry)
            case Skipped(action=action, because=because):
                root = refusals.get(because)
                passes = root.passes if root else True
                message = root.message if root else f"it waits for {because}"
                reason = root.reason if root else "DependencyFailed"
                refusals[target(action)] = Refusal(reason, message, passes)
            case Done():
                pass
    return refusals


def errors_by_resource(findings: Iterable[Diagnostic]) -> dict[ResourceId, list[Diagnostic]]:
    """Return the errors of each resource that could be told."""
    errors: dict[ResourceId, list[Diagnostic]] = {}
    for finding in errors_of(findings):
        if finding.resource is not None:
            errors.setdefault(finding.resource, []).append(finding)
    return errors


def conditions_of(identity: ResourceId, facts: PassFacts, in_force: bool) -> list[Condition]:
    """Return the conditions of one resource. `in_force`: some version of it is programmed."""
    accepted = _accepted(identity, facts, in_force)
    programmed = _programmed(identity, facts, in_force)
    return [
        _ready(accepted, programmed),
        accepted,
        programmed,
        *_selected(identity, facts),
        *_progress(identity, facts, accepted, programmed),
        *_conflicted(identity, facts),
        *_contested(identity, facts),
    ]


def _accepted(identity: ResourceId, facts: PassFacts, in_force: bool) -> Condition:
    wrong = facts.errors.get(identity, ())
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        stays = "; its previous version stays in force" if in_force else ""
        message = f"{wrong[0]}{more}{stays}"
        return Condition(CT.ACCEPTED, Status.FALSE, "InvalidManifest", message)
    if identity in facts.held:
        message = "the revision removes it, and more than prune_limit_percent: fos1ctl confirm"
        return Condition(CT.ACCEPTED, Status.FALSE, "RemovalHeld", message)
    return Condition(CT.ACCEPTED, Status.TRUE, "Valid")


def _programmed(identity: ResourceId, facts: PassFacts, in_force: bool) -> Condition:
    if not in_force:
        message = "no valid version of it was ever in force"
        return Condition(CT.PROGRAMMED, Status.FALSE, "NotAccepted", message)
    if identity in facts.elsewhere:
        message = "its nodeSelector does not select this router"
        return Condition(CT.PROGRAMMED, Status.TRUE, "NotForThisNode", message)
    keys = facts.keys_of(identity)
    if refusal := next((facts.refusals[key] for key in keys if key in facts.refusals), None):
        return Condition(CT.PROGRAMMED, Status.FALSE, refusal.reason, refusal.message)
    if conflict := next((facts.conflicts[key] for key in keys if key in facts.conflicts), None):
        return Condition(CT.PROGRAMMED, Status.FALSE, "Conflicted", _in_the_way(conflict))
    selected = facts.selections.get(identity)
    if selected is not None and not selected.holds:
        return Condition(CT.PROGRAMMED, Status.TRUE, selected.reason, selected.message)
    if notes := facts.notes.get(identity):
        return notes[0]
    if late := [key for key in keys if key in facts.late]:
        message = f"{late[0]} is not as desired"
        return Condition(CT.PROGRAMMED, Status.FALSE, "NotConverged", message)
    count = "1 object" if len(keys) == 1 else f"{len(keys)} objects"
    return Condition(CT.PROGRAMMED, Status.TRUE, "ReadBack", f"{count} read back")


def _in_the_way(conflict: Conflict) -> str:
    return f"{conflict.holder} is not ours and stays untouched; remove it to make way"


def _ready(accepted: Condition, programmed: Condition) -> Condition:
    for condition in (accepted, programmed):
        if not condition.holds:
            return Condition(CT.READY, Status.FALSE, condition.reason, condition.message)
    return Condition(CT.READY, Status.TRUE, programmed.reason, programmed.message)


def _selected(identity: ResourceId, facts: PassFacts) -> list[Condition]:
    if identity in facts.selections:
        return [facts.selections[identity]]
    if identity not in facts.elsewhere:
        return []
    message = "its nodeSelector does not select this router"
    return [Condition(CT.SELECTED, Status.FALSE, "NotForThisNode", message)]


def _progress(
    identity: ResourceId, facts: PassFacts, accepted: Condition, programmed: Condition
) -> list[Condition]:
    """Say whether another pass may mend it (Reconciling) or only a person can (Stalled)."""
    if accepted.holds and programmed.holds:
        return []
    if accepted.holds and _may_pass(identity, facts, programmed):
        return [Condition(CT.RECONCILING, Status.TRUE, programmed.reason, programmed.message)]
    broken = programmed if accepted.holds else accepted
    return [Condition(CT.STALLED, Status.TRUE, broken.reason, broken.message)]


def _may_pass(identity: ResourceId, facts: PassFacts, programmed: Condition) -> bool:
    refused = [facts.refusals[key] for key in facts.keys_of(identity) if key in facts.refusals]
    if refused:
        return any(refusal.passes for refusal in refused)
    return programmed.reason in MAY_PASS


def _conflicted(identity: ResourceId, facts: PassFacts) -> list[Condition]:
    keys = facts.keys_of(identity)
    held = [_in_the_way(facts.conflicts[key]) for key in keys if key in facts.conflicts]
    refused = (facts.refusals[key] for key in keys if key in facts.refusals)
    held += [refusal.message for refusal in refused if refusal.reason == "ForeignObject"]
    if not held:
        return list(facts.warnings.get(identity, ()))
    return [Condition(CT.CONFLICTED, Status.TRUE, "ForeignObject", held[0])]


def _contested(identity: ResourceId, facts: PassFacts) -> list[Condition]:
    keys = [key for key in facts.keys_of(identity) if key in facts.contested]
    if not keys:
        return []
    message = f"something keeps changing {', '.join(map(str, keys))}; it is set right each time"
    return [Condition(CT.CONTESTED, Status.TRUE, "KeepsComingBack", message)]

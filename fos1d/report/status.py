"""What is known of every resource and of the daemon, as one value that a pass replaces.

Readers (the API) take the current value without locks; writers make a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fos1d.kinds.admission import Accepted
from fos1d.model.condition import ConditionType, Stamped, stamp
from fos1d.model.diagnostic import Diagnostic, errors_of
from fos1d.model.identity import Origin, ResourceId
from fos1d.model.objects import Placement
from fos1d.report.conditions import PassFacts, conditions_of
from fos1d.report.short import short


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """One resource as people see it.

    `accepted` is the version in force, None where none ever was; `origin` is where the newest
    version is written; `objects` are the keys in the kernel that it claims, `attached` those of
    them that are attachments, as read back; `remarks` are words of the executor, such as why XDP
    runs in generic mode, and `gaps` what the resource asks for in vain; times are Unix seconds.
    """

    id: ResourceId
    accepted: Accepted | None
    origin: Origin
    conditions: Mapping[ConditionType, Stamped]
    objects: tuple[str, ...] = ()
    attached: tuple[Placement, ...] = ()
    remarks: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    updated_s: float = 0.0
    created_s: float = 0.0

    @property
    def generation(self) -> int:
        """How often the spec changed, from 1; 0 where no version was ever in force."""
        return self.accepted.generation if self.accepted else 0

    @property
    def ready(self) -> Stamped:
        """The Ready condition."""
        return self.conditions[ConditionType.READY]

    @property
    def state(self) -> str:
        """Pending, Failed, or Active (Created for a map), as resources.md has it."""
        if self.ready.condition.holds:
            return "Created" if self.id.kind == "EBPFMap" else "Active"
        stalled = self.conditions.get(ConditionType.STALLED)
        return "Failed" if stalled and stalled.condition.holds else "Pending"


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The source: the newest revision read, and what is wrong with reading it now.

    `place` says what is read: `directory /etc/fos1d/policy`, `git /srv/policy.git main`.
    """

    revision: str = ""
    error: str = ""
    read_s: float = 0.0
    place: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is known, at one moment. `version` grows with every change."""

    version: int = 0
    node: str = ""
    started_s: float = 0.0
    source: SourceStatus = field(default_factory=SourceStatus)
    resources: Mapping[ResourceId, ResourceStatus] = field(default_factory=dict)
    findings: tuple[Diagnostic, ...] = ()
    passes: int = 0
    last_pass_s: float = 0.0
    last_pass_took_s: float = 0.0
    drift_total: int = 0
    suspended_until_s: float | None = None
    held: tuple[ResourceId, ...] = ()
    error: str = ""

    @property
    def not_ready(self) -> list[ResourceStatus]:
        """The resources that are not Ready, sorted."""
        found = (status for _, status in sorted(self.resources.items()))
        return [status for status in found if not status.ready.condition.holds]

    def summary(self) -> str:
        """Return the one line that `systemctl status` shows."""
        total, late = len(self.resources), self.not_ready
        line = (
            f"{short(self.source.revision) or 'no revision'}: {total - len(late)} of {total} Ready"
        )
        real = [status for status in late if status.ready.condition.reason != "NotSupportedYet"]
        if real or late:
            first = (real or late)[0]
            line += f"; {first.id}: {first.ready.condition.message}"
        if self.source.error:
            line += f"; source: {self.source.error}"
        if self.held:
            line += f"; a revision that removes {len(self.held)} resources waits: fos1ctl confirm"
        return line if self.suspended_until_s is None else f"suspended; {line}"


def statuses(
    facts: PassFacts,
    in_force: Mapping[ResourceId, Accepted],
    remarks: Mapping[ResourceId, Sequence[str]],
    before: Mapping[ResourceId, ResourceStatus],
    now_s: float,
) -> dict[ResourceId, ResourceStatus]:
    """Return the status of every resource in force, and of those that were never accepted."""
    identities = sorted(in_force.keys() | facts.errors.keys())
    return {
        identity: _status(identity, facts, in_force.get(identity), remarks, before, now_s)
        for identity in identities
    }


def _status(
    identity: ResourceId,
    facts: PassFacts,
    accepted: Accepted | None,
    remarks: Mapping[ResourceId, Sequence[str]],
    before: Mapping[ResourceId, ResourceStatus],
    now_s: float,
) -> ResourceStatus:
    old = before.get(identity)
    conditions = conditions_of(identity, facts, accepted is not None)
    generation = accepted.generation if accepted else 0
    stamped = stamp(now_s, generation, conditions, old.conditions if old else {})
    fresh = ResourceStatus(
        identity,
        accepted,
        _origin(identity, facts, accepted),
        stamped,
        tuple(str(key) for key in facts.keys_of(identity)),
        tuple(facts.attached[k] for k in facts.keys_of(identity) if k in facts.attached),
        tuple(remarks.get(identity, old.remarks if old else ())),
        tuple(facts.remarks.get(identity, ())),
        now_s,
        old.created_s if old else now_s,
    )
    if old and _same_but_time(old, fresh):
        return old
    return fresh


def _same_but_time(old: ResourceStatus, fresh: ResourceStatus) -> bool:
    return replace(old, updated_s=fresh.updated_s) == fresh


def _origin(identity: ResourceId, facts: PassFacts, accepted: Accepted | None) -> Origin:
    wrong: Iterable[Diagnostic] = errors_of(facts.errors.get(identity, ()))
    for finding in wrong:
        return finding.origin
    return accepted.declaration.origin if accepted else Origin("")

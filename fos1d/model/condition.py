"""Conditions: what is said of a resource, in Kubernetes' own shape.

Ready, Accepted and Programmed are always present; Reconciling, Stalled, Conflicted, Contested and
Selected only where they have something to say (kstatus: absence is fine).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class ConditionType(StrEnum):
    """The condition types that fos1d uses."""

    READY = "Ready"
    ACCEPTED = "Accepted"
    PROGRAMMED = "Programmed"
    SELECTED = "Selected"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    CONFLICTED = "Conflicted"
    CONTESTED = "Contested"


class Status(StrEnum):
    """A condition's truth."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about a resource at one generation of it."""

    type: ConditionType
    status: Status
    reason: str
    message: str = ""

    @property
    def holds(self) -> bool:
        """Whether the status is True."""
        return self.status is Status.TRUE


@dataclass(frozen=True, slots=True)
class Stamped:
    """A condition with the second (Unix time) since which its status has been this one."""

    condition: Condition
    since: float
    observed_generation: int

    def to_json(self, iso_time: str) -> dict[str, object]:
        """Return the Kubernetes shape, with `iso_time` for `lastTransitionTime`."""
        return {
            "type": str(self.condition.type),
            "status": str(self.condition.status),
            "reason": self.condition.reason,
            "message": self.condition.message,
            "lastTransitionTime": iso_time,
            "observedGeneration": self.observed_generation,
        }


def stamp(
    now: float,
    generation: int,
    conditions: Iterable[Condition],
    before: Mapping[ConditionType, Stamped],
) -> dict[ConditionType, Stamped]:
    """Give each condition its time of transition: `now` only where its status changed."""
    stamped = {}
    for condition in conditions:
        old = before.get(condition.type)
        since = old.since if old and old.condition.status is condition.status else now
        stamped[condition.type] = Stamped(condition, since, generation)
    return stamped

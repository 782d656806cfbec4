"""One row of a table: a resource, what the kernel says of it, and how a cell says it shortly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fos1d.kinds import Resource
from fos1d.report.desk import Attached, attached_of
from fos1d.report.short import short
from fos1d.report.status import ResourceStatus
from fos1d.report.times import age
from fos1d.report.views import DROP, Answer, metrics_of

UNKNOWN = "<unknown>"
NONE = "<none>"
SAMPLE = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A resource at a moment (Unix seconds)."""

    status: ResourceStatus
    answer: Answer
    now_s: float

    @property
    def resource(self) -> Resource | None:
        """The version in force, None if there never was one."""
        return self.status.accepted.declaration.resource if self.status.accepted else None

    def spec(self, *path: str) -> Any:
        """Return a field of the spec, None where there is none."""
        value: Any = self.resource.spec if self.resource else None
        for step in path:
            value = getattr(value, step, None)
        return value

    def field(self, *path: str) -> str:
        """Return a field of the spec as text."""
        value = self.spec(*path)
        if self.resource is None:
            return UNKNOWN
        return NONE if value is None or value == "" else str(value)

    @property
    def attached(self) -> tuple[Attached, ...]:
        """Where a program runs."""
        details = self.answer.details
        return details.attached if details else tuple(map(attached_of, self.status.attached))

    @property
    def age(self) -> str:
        """How long the daemon has known the resource."""
        created = self.status.created_s
        return age(self.now_s - created) if created else UNKNOWN

    @property
    def ready(self) -> str:
        """The Ready condition's status."""
        return str(self.status.ready.condition.status)

    @property
    def reason(self) -> str:
        """The Ready condition's reason."""
        return self.status.ready.condition.reason

    @property
    def revision(self) -> str:
        """The revision that brought the version in force."""
        return short(self.status.accepted.revision) if self.status.accepted else NONE


def places(row: Row) -> str:
    """Return where a program is attached, or else where it should be."""
    names = sorted({place.interface or place.cgroup for place in row.attached})
    if names:
        return ",".join(names)
    return row.field("cgroup") if row.spec("interface") is None else row.field("interface")


def modes(row: Row) -> str:
    """Return how a program is attached to its own hook: native, generic, …"""
    named = {place.mode for place in row.attached if place.mode and _is_own(row, place.hook)}
    return ",".join(sorted(named)) or NONE


def program_ids(row: Row) -> str:
    """Return the kernel's ids of what is attached to the program's own hook."""
    details = row.answer.details
    if details is None:
        return UNKNOWN
    ids = {place.program for place in row.attached if _is_own(row, place.hook)}
    return ",".join(sorted(ids)) or NONE


def _is_own(row: Row, hook: str) -> bool:
    """Whether a hook is the one that the spec names, and not that of a companion."""
    return row.spec("type") in (hook, "cgroup")


def packets(row: Row) -> str:
    """Return how many packets a program has judged."""
    return str(_metrics(row)["packets"]) if row.answer.details else UNKNOWN


def drops(row: Row) -> str:
    """Return how many packets a program has dropped, and why."""
    details = row.answer.details
    if details is None:
        return UNKNOWN
    total = _metrics(row)["drops"]
    return f"{total}({reasons(details.counts)})" if total else "0"


def _metrics(row: Row) -> Mapping[str, Any]:
    return metrics_of(row.answer.details.counts) if row.answer.details else {}


def reasons(counts: Mapping[str, tuple[int, int]]) -> str:
    """Return the drops by reason, most frequent first."""
    dropped = [
        (packets, reason.removeprefix(DROP))
        for reason, (packets, _) in counts.items()
        if reason.startswith(DROP) and packets
    ]
    return ",".join(f"{reason}={n}" for n, reason in sorted(dropped, key=lambda d: (-d[0], d[1])))


def fill(row: Row) -> str:
    """Return a map's entries of the most that fit: `3/1024`."""
    use = row.answer.details.map if row.answer.details else None
    most = use.max_entries if use else row.spec("max_entries")
    entries = "?" if use is None else "-" if use.entries is None else str(use.entries)
    return UNKNOWN if most is None else f"{entries}/{most}"


def memory(row: Row) -> str:
    """Return the bytes that the kernel charges for a map."""
    use = row.answer.details.map if row.answer.details else None
    return str(use.memory_bytes) if use else UNKNOWN


def pin_path(row: Row) -> str:
    """Return the user's own pin of a map."""
    return row.field("pin_path")

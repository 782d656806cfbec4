"""The columns of each kind. Those of priority 1 are shown only by `-o wide`, as kubectl does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fos1d.model.condition import ConditionType
from fos1d.report import row as rows
from fos1d.report.contents import shown_entry
from fos1d.report.row import NONE, SAMPLE, UNKNOWN, Row


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `asks_kernel`: its cells need the kernel's answer."""

    name: str
    description: str
    cell: Callable[[Row], object]
    priority: int = 0
    asks_kernel: bool = False
    type: str = "string"


def _contents(row: Row) -> str:
    use = row.answer.details.map if row.answer.details else None
    if use is None:
        return UNKNOWN
    shown = [shown_entry(str(row.spec("type")), key, value) for key, value in use.sample[:SAMPLE]]
    more = (use.entries or 0) - len(shown)
    parts = [f"{key}={value}" for key, value in shown] + ([f"(+{more})"] if more > 0 else [])
    return ",".join(parts) or NONE


def _selected(row: Row) -> str:
    stamped = row.status.conditions.get(ConditionType.SELECTED)
    return str(stamped.condition.status) if stamped else UNKNOWN


def _count(*path: str) -> Callable[[Row], object]:
    return lambda row: len(row.spec(*path) or ())


def _field(*path: str) -> Callable[[Row], object]:
    return lambda row: row.field(*path)


def _defaults(row: Row) -> str:
    controls = row.spec("network_controls")
    if controls is None:
        return UNKNOWN
    return f"{controls.default_ingress_action}/{controls.default_egress_action}"


NAME = Column("Name", "unique per kind and name space", lambda row: row.status.id.name)
TYPE = Column("Type", "spec.type", _field("type"))
READY = Column("Ready", "whether all of it was read back from the kernel", lambda row: row.ready)
STATUS = Column("Status", "Active (a map: Created), Pending or Failed", lambda r: r.status.state)
AGE = Column("Age", "how long the daemon has known it", lambda row: row.age)
REASON = Column("Reason", "why it is Ready or not", lambda row: row.reason)
INTERFACE = Column("Interface", "spec.interface", _field("interface"))
WIDE = (
    Column("Reason", "why it is Ready or not", lambda row: row.reason, 1),
    Column("Revision", "the revision that it is from", lambda row: row.revision, 1),
    Column("Origin", "where it is written", lambda row: _origin(row), 1),
)


def _origin(row: Row) -> str:
    origin = row.status.origin
    return f"{origin.path}:{origin.line}"


COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "EBPFProgram": (
        NAME,
        TYPE,
        Column("Interface", "where it runs, or would run", rows.places),
        READY,
        STATUS,
        AGE,
        Column("Mode", "native, generic, tcx or clsact", rows.modes, 1),
        Column("Program-Id", "the kernel's numbers of it", rows.program_ids, 1, True),
        Column("Packets", "packets that it judged", rows.packets, 1, True),
        Column("Drops", "packets that it dropped, by reason", rows.drops, 1, True),
        *WIDE,
    ),
    "EBPFMap": (
        NAME,
        TYPE,
        Column("Entries/Max", "entries of the most that fit", rows.fill, 0, True),
        Column("PinPath", "the user's own pin", rows.pin_path),
        READY,
        Column("Status", STATUS.description, STATUS.cell, 1),
        Column("Age", AGE.description, AGE.cell, 1),
        Column("Memory", "bytes that the kernel charges", rows.memory, 1, True),
        Column("Contents", "the first entries", _contents, 1, True),
        *WIDE,
    ),
    "EBPFNetworkPolicy": (
        NAME,
        Column("Type", "spec.policyType", _field("policy_type")),
        Column("Priority", "lower wins", _field("priority")),
        Column("Selected", "whether it applies to anything here", _selected),
        READY,
        REASON,
        Column("Status", STATUS.description, STATUS.cell, 1),
        Column("Age", AGE.description, AGE.cell, 1),
        *WIDE[1:],
    ),
    "EBPFTrafficControl": (
        NAME,
        INTERFACE,
        Column("Direction", "ingress or egress", _field("direction")),
        Column("Qdisc", "the queueing discipline", _field("queueing_discipline", "type")),
        Column("Classes", "how many", _count("classes"), type="integer"),
        READY,
        REASON,
        Column("Status", STATUS.description, STATUS.cell, 1),
        Column("Age", AGE.description, AGE.cell, 1),
        *WIDE[1:],
    ),
    "EBPFNATPolicy": (
        NAME,
        TYPE,
        INTERFACE,
        Column("External", "the outside address", _field("external_ip")),
        Column("Mappings", "how many ports", _count("port_mappings"), type="integer"),
        READY,
        REASON,
        Column("Status", STATUS.description, STATUS.cell, 1),
        Column("Age", AGE.description, AGE.cell, 1),
        *WIDE[1:],
    ),
    "EBPFContainerPolicy": (
        NAME,
        Column("Selected", "whether it applies to anything here", _selected),
        Column("Default", "what becomes of the rest, in/out", _defaults),
        READY,
        REASON,
        Column("Status", STATUS.description, STATUS.cell, 1),
        Column("Age", AGE.description, AGE.cell, 1),
        *WIDE[1:],
    ),
}

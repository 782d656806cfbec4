"""Filters of a traffic control and the classes that they name."""

from __future__ import annotations

from collections.abc import Iterator

from fos1d.kinds.check.found import Found
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.traffic_control import TrafficControlSpec
from fos1d.manifest import Loc

MOST_LISTED = 10


def class_ids(declaration: Declaration, spec: TrafficControlSpec) -> Iterator[Found]:
    """Yield each classID that no class has, or that has parts of its own."""
    known = {part.id for part in spec.classes}
    parents = spec.parents()
    for index, entry in enumerate(spec.filters):
        loc: Loc = ("spec", "filters", index, "classID")
        if entry.class_id is None:
            continue
        if entry.class_id not in known:
            listed = ", ".join(map(str, sorted(known)[:MOST_LISTED])) or "none"
            yield Found(
                declaration, loc, f"no class has the id {entry.class_id}; there is {listed}"
            )
        elif entry.class_id in parents:
            parts = sorted(part.id for part in spec.classes if part.parent == entry.class_id)
            listed = ", ".join(map(str, parts[:MOST_LISTED]))
            message = f"class {entry.class_id} has parts, and packets wait in one without"
            yield Found(declaration, loc, f"{message}; choose one of {listed}")

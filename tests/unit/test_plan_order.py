"""The order of a plan, where packets depend on it."""

from __future__ import annotations

from fos1d.model.objects import (
    Attachment,
    Entries,
    Hook,
    KernelObject,
    Key,
    Map,
    MapType,
    Mode,
    State,
    key_of,
)
from fos1d.plan.actions import Delete, target
from fos1d.plan.diff import make_plan

PAIR: tuple[KernelObject, ...] = (
    Attachment("wan0", Hook.XDP, "program/a", Mode.NATIVE),
    Attachment("wan0", Hook.TC_EGRESS, "program/b", Mode.TCX, 8),
)


def hooks(desired: tuple[KernelObject, ...], observed: tuple[KernelObject, ...]) -> list[str]:
    """Return the plan's verbs and hooks."""
    held: State = {key_of(obj): obj for obj in observed}
    plan = make_plan({key_of(obj): obj for obj in desired}, held)
    return [f"{type(action).__name__} {target(action)}" for action in plan.actions]


def test_flows_are_tracked_before_segments_are_dropped() -> None:
    assert hooks(PAIR, ()) == [
        "Create attachment wan0 tc-egress 8",
        "Create attachment wan0 xdp",
    ]


def test_segments_are_dropped_no_more_before_tracking_ends() -> None:
    assert hooks((), PAIR) == [
        "Delete attachment wan0 xdp",
        "Delete attachment wan0 tc-egress 8",
    ]


def test_what_others_wrote_is_not_carried_into_an_exclusive_map() -> None:
    old, new = (Map("map/default:m", MapType.HASH, 4, 4, size) for size in (16, 8))
    desired: dict[Key, KernelObject] = {
        key_of(obj): obj for obj in (new, Entries(new.path, 4, 4, b"", exclusive=True))
    }
    assert make_plan(desired, {key_of(old): old}).actions[-1] == Delete(old)

"""The diff: two states in, one ordered plan out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from fos1d.model.objects import (
    Attachment,
    CgroupAttachment,
    Entries,
    Foreign,
    Hook,
    KernelObject,
    Key,
    Map,
    Mode,
    Observed,
    Program,
    State,
    Table,
    key_of,
    needs,
)
from fos1d.model.pins import STATE
from fos1d.plan.actions import Action, Conflict, Create, Delete, Plan, Replace, target
from fos1d.plan.contents import contents_delta

Desired = Mapping[Key, KernelObject]


def make_plan(desired: Desired, observed: State) -> Plan:
    """Return the actions that turn `observed` into `desired`, and the conflicts that stay.

    Only what is ours is replaced or deleted. The order is total, so equal states give equal plans.
    """
    conflicts = [
        Conflict(key, held.holder)
        for key in sorted(desired)
        if isinstance(held := observed.get(key), Foreign)
    ]
    blocked = {conflict.key for conflict in conflicts}
    makes = _makes({k: v for k, v in desired.items() if k not in blocked}, observed)
    deletes = [
        Delete(old, _carry_to(old, desired))
        for key, old in observed.items()
        if key not in desired and not isinstance(old, Foreign)
    ]
    deletes += _carried_leftovers(makes, desired, observed)
    ordered = (*sorted(makes, key=_make_order), *sorted(deletes, key=_delete_order))
    return Plan(ordered, tuple(conflicts))


def _makes(wanted: Desired, observed: State) -> list[Action]:
    makes: list[Action] = []
    renewed: set[Key] = set()
    for key, new in sorted(wanted.items(), key=lambda item: (_rank(item[1]), item[0])):
        old = observed.get(key)
        if old is None:
            makes.append(_create(new, wanted, observed))
        elif isinstance(old, Foreign):
            continue
        elif not satisfied(new, old) or renewed.intersection(needs(new)):
            makes.append(Replace(old, new))
        else:
            continue
        renewed.add(key)
    return makes


def satisfied(desired: KernelObject, observed: Observed | None) -> bool:
    """Whether `observed` is what `desired` asks for."""
    match desired, observed:
        case Entries(), Entries():
            return not contents_delta(desired, observed)
        case Attachment(), Attachment():
            same_program = desired.program == observed.program
            return same_program and _mode_fits(desired.mode, observed.mode)
        case _:
            return desired == observed


def _mode_fits(wanted: Mode, actual: Mode) -> bool:
    return wanted is actual or (wanted is Mode.AUTO and actual in (Mode.NATIVE, Mode.GENERIC))


def _create(new: KernelObject, wanted: Desired, observed: State) -> Create:
    old = _carry_from(new, observed)
    if old is None or not isinstance(new, Map):
        return Create(new)
    declared = wanted.get(Key("entries", new.path))
    return Create(new, old, declared if isinstance(declared, Entries) else None)


def _carry_from(new: KernelObject, observed: State) -> str | None:
    if not isinstance(new, Map):
        return None
    return next((path for path in _shapes(observed.values(), new) if path != new.path), None)


def _carry_to(old: Observed, desired: Desired) -> str | None:
    if not isinstance(old, Map):
        return None
    heirs = (path for path in _shapes(desired.values(), old) if path != old.path)
    return next((path for path in heirs if not _is_exclusive(path, desired)), None)


def _is_exclusive(path: str, desired: Desired) -> bool:
    declared = desired.get(Key("entries", path))
    return isinstance(declared, Entries) and declared.exclusive


def _carried_leftovers(
    makes: Iterable[Action], desired: Desired, observed: State
) -> Iterator[Delete]:
    """Yield the removal of declared entries that a new shape takes over, if none are declared."""
    for make in makes:
        if isinstance(make, Create) and isinstance(make.new, Map) and make.carry_from:
            old = observed.get(Key("entries", make.carry_from))
            declared = Key("entries", make.new.path) in desired
            if isinstance(old, Entries) and old.ledger and not declared:
                yield Delete(replace(old, map=make.new.path))


def _shapes(objects: Iterable[Observed], like: Map) -> list[str]:
    """Return the paths of the family of `like` whose records mean the same: of the same sizes, or
    what a program of ours remembers, whose records only ever grow at their end."""
    return sorted(
        obj.path
        for obj in objects
        if isinstance(obj, Map)
        and obj.family == like.family
        and obj.key_bytes == like.key_bytes
        and (obj.value_bytes == like.value_bytes or obj.family.startswith(f"{STATE}/"))
    )


def _rank(obj: KernelObject) -> int:
    """Return the object's place in the order of making: what others need comes first. XDP comes
    last and goes first: it drops what its companion on TC has not seen begin."""
    match obj:
        case Map() | Table():
            return 0
        case Entries():
            return 1
        case Program():
            return 2
        case Attachment(hook=Hook.XDP):
            return 5
        case Attachment() | CgroupAttachment():
            return 4
        case _:
            return 3


def _make_order(action: Action) -> tuple[int, Key]:
    match action:
        case Create(new=obj) | Replace(new=obj):
            return _rank(obj), key_of(obj)
        case Delete():
            raise AssertionError("a delete is not a make")


def _delete_order(action: Delete) -> tuple[int, Key]:
    return -_rank(action.old), target(action)

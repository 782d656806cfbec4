"""Walking a plan: what a failure means for the actions after it.

A failed make skips what needs the object, and holds whatever the old object needs, so that the
last good state stays in force. Everything else goes on. There is no undo: the next pass tries
again, from what it then sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fos1d.errors import Fos1Error
from fos1d.model.objects import (
    BuiltIn,
    CgroupAttachment,
    Foreign,
    Key,
    Map,
    Observed,
    Program,
    State,
    key_of,
    needs,
)
from fos1d.plan.actions import Action, Create, Delete, Done, Failed, Outcome, Plan, Replace, Skipped
from fos1d.plan.actions import target as target_of


def run_plan(plan: Plan, observed: State, execute: Callable[[Action], None]) -> Iterator[Outcome]:
    """Execute the actions in order and yield what became of each.

    `execute` raises a Fos1Error where the kernel refuses.
    """
    absent: set[Key] = set()
    held: dict[Key, Key] = {}
    for action in plan.actions:
        outcome = _attempt(action, absent, held, execute)
        if not isinstance(outcome, Done) and not isinstance(action, Delete):
            key = target_of(action)
            absent.add(key)
            for kept in _in_force(action, observed):
                held.setdefault(kept, key)
        yield outcome


def _attempt(
    action: Action, absent: set[Key], held: dict[Key, Key], execute: Callable[[Action], None]
) -> Outcome:
    match action:
        case Create(new=obj) | Replace(new=obj):
            missing = [key for key in needs(obj) if key in absent]
            if missing:
                return Skipped(action, missing[0])
        case Delete(old=obj):
            if (needed_by := held.get(key_of(obj))) is not None:
                return Skipped(action, needed_by)
    try:
        execute(action)
    except Fos1Error as error:
        return Failed(action, error)
    return Done(action)


def _in_force(action: Create | Replace, observed: State) -> set[Key]:
    """Return what must stay because the new object did not come: the old one, with its needs."""
    roots = [action.old] if isinstance(action, Replace) else _relatives(action.new, observed)
    kept: set[Key] = set()
    pending: list[Observed] = list(roots)
    while pending:
        obj = pending.pop()
        if isinstance(obj, Foreign) or key_of(obj) in kept:
            continue
        kept.add(key_of(obj))
        kept.add(Key("entries", obj.path if isinstance(obj, Map) else ""))
        pending.extend(observed[key] for key in needs(obj) if key in observed)
    return kept


def _relatives(new: Observed, observed: State) -> list[Observed]:
    """Return the observed objects that `new` was to succeed: other members of its family."""
    match new:
        case Map() | Program():
            old = [
                found
                for found in observed.values()
                if isinstance(found, type(new)) and found.family == new.family
            ]
            return [*old, *(_running(old, observed) if _is_users(new) else ())]
        case _:
            return []


def _is_users(new: Map | Program) -> bool:
    return isinstance(new, Program) and not isinstance(new.code, BuiltIn)


def _running(programs: Iterable[Map | Program], observed: State) -> list[CgroupAttachment]:
    """Return where programs run on cgroups: a new one for another hook leaves these alone."""
    paths = {program.path for program in programs}
    return [
        found
        for found in observed.values()
        if isinstance(found, CgroupAttachment) and found.program in paths
    ]

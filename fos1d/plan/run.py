"""Walking a plan: what a failure means for the actions after it.

A failed make skips what needs the object, and holds whatever the old object needs, so that the
last good state stays in force. Everything else goes on. There is no undo: the next pass tries
again, from what it then sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fos1d.errors import Fos1Error
from fos1d.model.objects import Foreign, Key, Map, Observed, Program, State, key_of, needs
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
            return [
                old
                for old in observed.values()
                if isinstance(old, type(new)) and old.family == new.family
            ]
        case _:
            return []

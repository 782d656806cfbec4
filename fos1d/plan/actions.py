"""Actions and what became of them."""

from __future__ import annotations

from dataclasses import dataclass

from fos1d.errors import Fos1Error
from fos1d.model.objects import Entries, KernelObject, Key, Map, key_of
from fos1d.plan.contents import contents_delta


@dataclass(frozen=True, slots=True)
class Create:
    """Make what is not there. A map takes its entries over from `carry_from`, an older shape,
    as far as they fit beside the `declared` ones."""

    new: KernelObject
    carry_from: str | None = None
    declared: Entries | None = None


@dataclass(frozen=True, slots=True)
class Replace:
    """Put `new` where `old` is, without a moment with neither."""

    old: KernelObject
    new: KernelObject


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove what is ours and no longer wanted. A map first hands late entries to `carry_to`."""

    old: KernelObject
    carry_to: str | None = None


Action = Create | Replace | Delete


@dataclass(frozen=True, slots=True)
class Conflict:
    """A wish that is not carried out, because somebody else's object is in its place."""

    key: Key
    holder: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass would do, in order, and what it leaves alone."""

    actions: tuple[Action, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The kernel accepted the action."""

    action: Action


@dataclass(frozen=True, slots=True)
class Failed:
    """The kernel refused the action."""

    action: Action
    error: Fos1Error


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not tried, because `because` failed or still needs it."""

    action: Action
    because: Key


Outcome = Done | Failed | Skipped


def target(action: Action) -> Key:
    """Return the key of the object that `action` is about."""
    match action:
        case Create(new=obj) | Replace(new=obj) | Delete(old=obj):
            return key_of(obj)


def verb(action: Action) -> str:
    """Return `create`, `replace` or `delete`."""
    return type(action).__name__.lower()


def describe(action: Action) -> str:
    """Return one line for people, the same for the same action."""
    line = f"{verb(action)} {target(action)}"
    match action:
        case Create(new=Map(), carry_from=str(old)):
            return f"{line} (entries carried over from {old})"
        case Create(new=Entries() as new):
            return f"{line} ({contents_delta(new, None)})"
        case Replace(old=Entries() as old_entries, new=Entries() as new):
            return f"{line} ({contents_delta(new, old_entries)})"
        case _:
            return line

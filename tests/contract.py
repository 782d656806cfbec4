"""The promise, as one body for every kernel: one pass converges, and a second does nothing."""

from __future__ import annotations

from typing import Protocol

from fos1d.kernel.port import Kernel
from fos1d.model.objects import Entries, Foreign, KernelObject, Key, Map, MapType, State
from fos1d.plan.actions import Action, Done, Plan
from fos1d.plan.contents import unpack
from fos1d.plan.diff import Desired, make_plan
from fos1d.plan.run import run_plan
from tests.worlds import WITH_ENTRIES, Meddling


class Stranger(Protocol):
    """Somebody else at work in the same kernel."""

    def lose(self, obj: KernelObject) -> None:
        """Make an object vanish behind our back."""

    def write(self, shape: Map, key: bytes, value: bytes) -> None:
        """Write an entry into one of our maps, if it has room."""


def reconcile_once(kernel: Kernel, desired: Desired) -> Plan:
    """Make a pass and return what a second look would still do."""

    def execute(action: Action) -> None:
        kernel.execute(action)

    observed = kernel.observe(desired)
    outcomes = list(run_plan(make_plan(desired, observed), observed, execute))
    assert all(isinstance(outcome, Done) for outcome in outcomes), outcomes
    return make_plan(desired, kernel.observe(desired))


def meddle(kernel: Kernel, stranger: Stranger, desired: Desired, what: Meddling) -> None:
    """Let a stranger change what is there."""
    there = sorted(kernel.observe(desired).items())
    ours = [obj for _, obj in there if not isinstance(obj, Foreign | Entries)]
    for index in what.lost:
        if ours:
            stranger.lose(ours[index % len(ours)])
    maps = [obj for obj in ours if isinstance(obj, Map) and obj.type in WITH_ENTRIES]
    for index, key, value in what.entries:
        if maps:
            shape = maps[index % len(maps)]
            stranger.write(shape, entry_key(shape, key), bytes([value]) * shape.value_bytes)


def entry_key(shape: Map, number: int) -> bytes:
    """Return a key that the map accepts."""
    if shape.type is MapType.LPM_TRIE:
        return b"\x18\0\0\0" + bytes([10, 0, number, 0])
    return number.to_bytes(shape.key_bytes, "little")


def foreign_entries(state: State, before: Desired) -> dict[tuple[str, bytes], bytes]:
    """Return the entries that no earlier desired state declared, by map and key."""
    found: dict[tuple[str, bytes], bytes] = {}
    for obj in state.values():
        if isinstance(obj, Entries):
            wanted = before.get(Key("entries", obj.map))
            declared = unpack(wanted) if isinstance(wanted, Entries) else {}
            found |= {(obj.map, k): v for k, v in unpack(obj).items() if k not in declared}
    return found


def check_promise(
    kernel: Kernel,
    stranger: Stranger,
    first: Desired,
    second: Desired,
    what: Meddling,
) -> None:
    """From nothing to a first state; a stranger meddles; on to a second state."""
    assert reconcile_once(kernel, first) == Plan()
    meddle(kernel, stranger, first, what)
    assert reconcile_once(kernel, first) == Plan()
    meddle(kernel, stranger, first, what)
    strangers = foreign_entries(kernel.observe({**first, **second}), first)
    assert reconcile_once(kernel, second) == Plan()
    _strangers_entries_stay(kernel, strangers, first, second)


def _strangers_entries_stay(
    kernel: Kernel,
    strangers: dict[tuple[str, bytes], bytes],
    first: Desired,
    second: Desired,
) -> None:
    after = kernel.observe({**first, **second})
    for (path, key), value in strangers.items():
        held, wanted = after.get(Key("entries", path)), second.get(Key("entries", path))
        if not isinstance(held, Entries) or Key("map", path) not in second:
            continue
        if isinstance(wanted, Entries) and (wanted.exclusive or key in unpack(wanted)):
            continue
        assert unpack(held).get(key) == value, f"a stranger's entry {key.hex()} of {path} changed"

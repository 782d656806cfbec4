"""The promise on the simulated kernel: thousands of random states."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fos1d.kernel.simulated import SimulatedKernel
from fos1d.model.objects import Entries, Foreign, KernelObject, Key, Map, key_of
from fos1d.plan.actions import Plan
from fos1d.plan.contents import pack, unpack
from fos1d.plan.diff import Desired, make_plan
from tests.contract import check_promise, reconcile_once
from tests.worlds import Meddling, desired_states, meddlings

ALIASES = Path("/sys/fs/bpf")
STATES = desired_states(ALIASES)


class SimulatedStranger:
    """Meddles with a simulated kernel."""

    def __init__(self, kernel: SimulatedKernel) -> None:
        self.kernel = kernel

    def lose(self, obj: KernelObject) -> None:
        """Drop the object; a map takes its contents along."""
        self.kernel.objects.pop(key_of(obj), None)
        if isinstance(obj, Map):
            self.kernel.objects.pop(Key("entries", obj.path), None)

    def write(self, shape: Map, key: bytes, value: bytes) -> None:
        """Write an entry if there is room."""
        held = self.kernel.objects.get(Key("entries", shape.path))
        if isinstance(held, Entries):
            records = unpack(held) | {key: value}
            if len(records) <= shape.max_entries:
                changed = Entries(
                    shape.path,
                    shape.key_bytes,
                    shape.value_bytes,
                    pack(records),
                    ledger=held.ledger,
                )
                self.kernel.objects[key_of(changed)] = changed


@given(STATES, STATES, meddlings())
@settings(max_examples=500, deadline=None)
def test_one_pass_converges_and_a_second_does_nothing(
    first: Desired, second: Desired, what: Meddling
) -> None:
    kernel = SimulatedKernel()
    check_promise(kernel, SimulatedStranger(kernel), first, second, what)


@given(STATES, st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_foreign_is_never_touched_and_always_told(
    desired: Desired, data: st.DataObject
) -> None:
    places = [key for key in sorted(desired) if key.kind in ("attachment", "alias")]
    chosen = data.draw(st.lists(st.sampled_from(places), unique=True)) if places else []
    kernel = SimulatedKernel({key: Foreign(key, "somebody") for key in chosen})
    left = reconcile_once(kernel, desired)
    assert left.actions == ()
    assert [conflict.key for conflict in left.conflicts] == sorted(chosen)
    assert all(kernel.objects[key] == Foreign(key, "somebody") for key in chosen)


@given(STATES)
@settings(max_examples=200, deadline=None)
def test_the_same_states_give_the_same_plan_whatever_their_order(desired: Desired) -> None:
    backwards = dict(reversed(list(desired.items())))
    assert make_plan(desired, {}) == make_plan(backwards, {})
    assert reconcile_once(SimulatedKernel(), backwards) == Plan()

"""A kernel that only exists in memory. It behaves as the real one was seen to behave:

- the property tests run the same body against both (tests/kernel/test_contract.py);
- `make demo` plans against an empty one where the real one refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fos1d.errors import HeldByOther, KernelError, Waiting
from fos1d.model.facts import Facts
from fos1d.model.objects import (
    Attachment,
    Entries,
    Foreign,
    KernelObject,
    Key,
    Map,
    Mode,
    Observed,
    PinAlias,
    Program,
    State,
    key_of,
    needs,
)
from fos1d.plan.actions import Action, Create, Delete, Replace
from fos1d.plan.contents import contents_delta, keys_of, ledger_keys, pack, unpack


@dataclass(slots=True)
class SimulatedKernel:
    """Objects by key. `interfaces` limits where attachments can go; empty: anywhere."""

    objects: dict[Key, Observed] = field(default_factory=dict)
    machine: Facts = field(default_factory=Facts)

    def facts(self) -> Facts:
        """Return the machine's facts as they were given."""
        return self.machine

    def observe(self, desired: Mapping[Key, KernelObject]) -> State:
        """Return what is there; contents only of maps that `desired` or a ledger names."""
        return {key: held for key, held in self.objects.items() if self._shown(held, desired)}

    def _shown(self, held: Observed, desired: Mapping[Key, KernelObject]) -> bool:
        if isinstance(held, Foreign):
            return held.key in desired or held.key.kind == "attachment"
        if isinstance(held, Entries):
            return key_of(held) in desired or bool(held.ledger)
        return True

    def execute(self, action: Action) -> str:
        """Carry out one action, or refuse it as the real kernel would."""
        match action:
            case Create(new=new, carry_from=carry_from, declared=declared):
                self._make(new)
                if carry_from and isinstance(new, Map):
                    self._carry(carry_from, new, declared)
            case Replace(new=new):
                self._make(new)
            case Delete(old=old):
                self._delete(old)
        return ""

    def _make(self, new: KernelObject) -> None:
        key = key_of(new)
        if isinstance(self.objects.get(key), Foreign):
            raise HeldByOther(f"{key} is held by somebody else")
        for needed in needs(new):
            if needed not in self.objects:
                raise KernelError(f"{key} needs {needed}, which is not there")
        match new:
            case Entries():
                self._write(new)
            case Map():
                self._fresh_map(new)
            case Attachment():
                self._attach(new)
            case _:
                self.objects[key] = new

    def _attach(self, new: Attachment) -> None:
        if self.machine.interfaces and new.interface not in self.machine.interfaces:
            raise Waiting(f"interface {new.interface} is not there (any more)")
        mode = Mode.NATIVE if new.mode is Mode.AUTO else new.mode
        self.objects[key_of(new)] = replace(new, mode=mode)

    def _fresh_map(self, new: Map) -> None:
        """A new map is empty, and what was bound to the one before is bound to it no more."""
        if key_of(new) in self.objects:
            for key, held in list(self.objects.items()):
                if isinstance(held, Program) and new.path in held.bound:
                    self.objects[key] = replace(held, bound=held.bound - {new.path})
                elif isinstance(held, PinAlias) and held.map == new.path:
                    self.objects[key] = replace(held, map="")
        self.objects[key_of(new)] = new
        self._set_contents(new.path, new.key_bytes, new.value_bytes, {}, b"")

    def _carry(self, source: str, target: Map, declared: Entries | None) -> None:
        old = self._contents(source, target.key_bytes, target.value_bytes)
        first = unpack(declared) if declared else {}
        carried = {} if declared and declared.exclusive else unpack(old)
        left = first.keys() | (ledger_keys(old) if declared else set())
        size = target.value_bytes
        others = sorted(
            (key, value[:size].ljust(size, b"\0"))
            for key, value in carried.items()
            if key not in left
        )
        kept = {**first, **dict(others[: max(target.max_entries - len(first), 0)])}
        ledger = b"".join(sorted(first)) if declared else old.ledger
        self._set_contents(target.path, target.key_bytes, target.value_bytes, kept, ledger)

    def _contents(self, path: str, key_bytes: int, value_bytes: int) -> Entries:
        held = self.objects.get(Key("entries", path))
        empty = Entries(path, key_bytes, value_bytes, b"")
        return held if isinstance(held, Entries) else empty

    def _set_contents(
        self,
        path: str,
        key_bytes: int,
        value_bytes: int,
        records: dict[bytes, bytes],
        ledger: bytes,
    ) -> None:
        self.objects[Key("entries", path)] = Entries(
            path, key_bytes, value_bytes, pack(records), ledger=ledger
        )

    def _write(self, new: Entries) -> None:
        held = self._contents(new.map, new.key_bytes, new.value_bytes)
        delta = contents_delta(new, held)
        records = {**unpack(held), **delta.added, **delta.corrected}
        for key in delta.removed:
            records.pop(key, None)
        ledger = b"".join(sorted(keys_of(new)))
        self._set_contents(new.map, new.key_bytes, new.value_bytes, records, ledger)

    def _delete(self, old: KernelObject) -> None:
        match old:
            case Entries():
                held = self._contents(old.map, old.key_bytes, old.value_bytes)
                size = held.key_bytes
                ours = {held.ledger[i : i + size] for i in range(0, len(held.ledger), size)}
                records = {k: v for k, v in unpack(held).items() if k not in ours}
                self._set_contents(old.map, held.key_bytes, held.value_bytes, records, b"")
            case Map():
                self.objects.pop(key_of(old), None)
                self.objects.pop(Key("entries", old.path), None)
                self.objects.pop(Key("slots", old.path), None)
            case _:
                self.objects.pop(key_of(old), None)

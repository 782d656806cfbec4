"""What lowering works with and what comes of it: objects, who claims them, what is to be said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from fos1d.compile.lists import ListStore
from fos1d.kinds.nat_tables import NatStore
from fos1d.kinds.policy_compiled import PolicyStore
from fos1d.model.condition import Condition, ConditionType, Status
from fos1d.model.facts import Facts
from fos1d.model.failsafe import FailsafePort
from fos1d.model.identity import ResourceId
from fos1d.model.objects import KernelObject, Key, Map, key_of


@dataclass(frozen=True, slots=True)
class Translating:
    """What the policies' programs have to know of translations: their maps, by name; the IP
    versions that are translated at each outside interface; the interfaces that shall have a fast
    path for what is translated; and whose that is."""

    maps: Mapping[str, Map] = field(default_factory=dict)
    outsides: Mapping[str, frozenset[int]] = field(default_factory=dict)
    fast: frozenset[str] = frozenset()
    claimants: tuple[ResourceId, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What lowering may look at besides the resources: facts, lists, settings."""

    facts: Facts
    lists: ListStore
    policies: PolicyStore = field(default_factory=PolicyStore)
    nats: NatStore = field(default_factory=NatStore)
    failsafe_ports: tuple[FailsafePort, ...] = ()
    most_flows: int = 65536
    translating: Translating = field(default_factory=Translating)


@dataclass(slots=True)
class Lowered:
    """The desired state in the making.

    Two resources that want different things under one key do not get here: check.py and the
    naming of pins see to that; equal wishes share the object and both claim it.
    """

    objects: dict[Key, KernelObject] = field(default_factory=dict)
    claims: dict[ResourceId, set[Key]] = field(default_factory=dict)
    notes: dict[ResourceId, list[Condition]] = field(default_factory=dict)
    selections: dict[ResourceId, Condition] = field(default_factory=dict)
    remarks: dict[ResourceId, list[str]] = field(default_factory=dict)
    warnings: dict[ResourceId, list[Condition]] = field(default_factory=dict)

    def add(self, claimant: ResourceId, *objects: KernelObject) -> None:
        """Want the objects on behalf of a resource."""
        claimed = self.claims.setdefault(claimant, set())
        for obj in objects:
            key = key_of(obj)
            self.objects.setdefault(key, obj)
            claimed.add(key)

    def note(self, about: ResourceId, reason: str, message: str) -> None:
        """Say why a resource, or a part of it, is not programmed."""
        condition = Condition(ConditionType.PROGRAMMED, Status.FALSE, reason, message)
        self.notes.setdefault(about, []).append(condition)

    def remark(self, about: ResourceId, message: str) -> None:
        """Say what people should know of a resource though it is programmed."""
        self.remarks.setdefault(about, []).append(message)

    def warn(self, about: ResourceId, condition: Condition) -> None:
        """Say what is wrong beside a resource that is programmed all the same."""
        self.warnings.setdefault(about, []).append(condition)

    def selects(self, about: ResourceId, message: str) -> None:
        """Say what a resource selects on this router."""
        condition = Condition(ConditionType.SELECTED, Status.TRUE, "Selected", message)
        self.selections[about] = condition

    def selects_nothing(self, about: ResourceId, reason: str, message: str) -> None:
        """Say that a resource is about nothing that this router has now, which is no error."""
        condition = Condition(ConditionType.SELECTED, Status.FALSE, reason, message)
        self.selections[about] = condition


def digest_of(*parts: object) -> str:
    """Return a short digest of plain values, for pin names."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

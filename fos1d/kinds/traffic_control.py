"""EBPFTrafficControl: queues, classes and filters of one interface and direction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fos1d.kinds.fields import Interface, Listed, Maybe, Name, RateBits, SizeBytes, TimeNs
from fos1d.kinds.filters import ClassId, Filter
from fos1d.kinds.meta import (
    DESCRIPTION,
    NODE_SELECTOR,
    ApiVersion,
    Fault,
    LabelSelector,
    Metadata,
    Model,
)
from fos1d.kinds.rules import small_burst, unreachable
from fos1d.model.identity import ResourceId
from fos1d.quantity import rate_text

QdiscType: TypeAlias = Literal[
    "htb", "tbf", "sfq", "fq_codel", "hfsc", "fq", "cake", "prio", "pfifo"
]

CLASSFUL = ("htb", "hfsc")
TAKES: Mapping[str, frozenset[str]] = {
    "htb": frozenset({"rate", "burst", "quantum"}),
    "hfsc": frozenset({"rate"}),
    "tbf": frozenset({"rate", "burst", "latency"}),
    "sfq": frozenset({"quantum"}),
    "fq_codel": frozenset({"quantum", "latency"}),
    "fq": frozenset({"rate", "quantum"}),
    "cake": frozenset({"rate", "latency"}),
    "prio": frozenset(),
    "pfifo": frozenset(),
}
NEEDS_RATE = frozenset({"htb", "hfsc", "tbf"})


class Qdisc(Model):
    """A queueing discipline of the kernel."""

    type: QdiscType = Field(description="The kernel's name for it.")
    rate: Maybe[RateBits] = Field(
        None, description="htb, hfsc, tbf: the rate of the whole, required; fq, cake: optional."
    )
    burst: Maybe[SizeBytes] = Field(None, description="htb, tbf: bytes that may go at once.")
    latency: Maybe[TimeNs] = Field(
        None, description="tbf: the longest wait; fq_codel, cake: the target."
    )
    quantum: Maybe[SizeBytes] = Field(
        None, description="htb, sfq, fq_codel, fq: bytes of one turn."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        for field in self.written():
            if field != "type" and field not in TAKES[self.type]:
                takes = ", ".join(sorted(TAKES[self.type])) or "nothing"
                yield Fault((field,), f"does not belong to type {self.type}, which takes {takes}")
        if self.type in NEEDS_RATE and self.rate is None:
            yield Fault(("rate",), f"is required for type {self.type}")


class TrafficClass(Model):
    """A share of the rate."""

    id: ClassId = Field(description="The class's number, unique in the manifest.")
    rate: RateBits = Field(description="The rate that is guaranteed.")
    ceiling: Maybe[RateBits] = Field(
        None, description="The rate that it may borrow up to; by default its own rate."
    )
    priority: Annotated[int, Field(ge=0, le=7)] = Field(
        0, description="Who borrows first; lower wins."
    )
    burst: Maybe[SizeBytes] = Field(None, description="Bytes that may go at once.")
    parent: Maybe[ClassId] = Field(None, description="The class that this one is a part of.")
    default: bool = Field(False, description="Takes what no filter classifies.")
    leaf: Maybe[Qdisc] = Field(None, description="The queueing discipline within the class.")

    @property
    def ceiling_bits_per_s(self) -> int:
        """The rate that the class may borrow up to."""
        return self.ceiling or self.rate

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.ceiling is not None and self.ceiling < self.rate:
            below = f"{rate_text(self.ceiling)} is below the class's rate"
            yield Fault(("ceiling",), f"{below} {rate_text(self.rate)}")
        if self.leaf and self.leaf.type in CLASSFUL:
            message = f"{self.leaf.type} has classes of its own; use parent for nested classes"
            yield Fault(("leaf", "type"), message)


class TrafficControlSpec(Model):
    """What an EBPFTrafficControl asks for."""

    description: str = Field("", description=DESCRIPTION)
    node_selector: Maybe[LabelSelector] = Field(None, description=NODE_SELECTOR)
    interface: Interface = Field(description="The interface.")
    direction: Literal["ingress", "egress"] = Field(
        description="Incoming or outgoing; incoming traffic is shaped through an IFB device."
    )
    queueing_discipline: Maybe[Qdisc] = Field(None, description="How packets wait.")
    classes: Listed[TrafficClass] = Field((), description="Shares of the rate; htb and hfsc only.")
    filters: Listed[Filter] = Field((), description="Which packets go where.")
    ebpf_program: Maybe[Name] = Field(
        None,
        description="An EBPFProgram (tc) in the same name space that classifies in place of the"
        " filters.",
    )

    def parents(self) -> frozenset[int]:
        """Return the ids of the classes that have parts."""
        return frozenset(part.parent for part in self.classes if part.parent is not None)

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        qdisc = self.queueing_discipline
        if self.classes and qdisc is None:
            message = "is required for classes; they are parts of an htb or hfsc"
            yield Fault(("queueingDiscipline",), message)
        elif self.classes and qdisc and qdisc.type not in CLASSFUL:
            message = f"do not belong to queueingDiscipline {qdisc.type}, only to htb and hfsc"
            yield Fault(("classes",), message)
        if self.ebpf_program is not None and self.filters:
            yield Fault(("filters",), "excludes ebpfProgram, which classifies in their place")
        yield from self._ids()
        yield from self._tree()
        for index, entry in enumerate(self.filters):
            if entry.action.redirect == self.interface:
                message = f"{self.interface} is the interface that the packet is on"
                yield Fault(("filters", index, "action", "redirect"), message)

    def _ids(self) -> Iterator[Fault]:
        first: dict[int, int] = {}
        for index, part in enumerate(self.classes):
            if (earlier := first.setdefault(part.id, index)) != index:
                yield Fault(("classes", index, "id"), f"{part.id} is the id of classes[{earlier}]")
        parents = self.parents()
        defaults = [index for index, part in enumerate(self.classes) if part.default]
        for index in defaults:
            loc = ("classes", index, "default")
            if index != defaults[0]:
                yield Fault(loc, f"classes[{defaults[0]}] is the default already")
            elif self.classes[index].id in parents:
                message = f"class {self.classes[index].id} has parts; packets wait in one without"
                yield Fault(loc, message)

    def _tree(self) -> Iterator[Fault]:
        parent_of = {part.id: part.parent for part in self.classes}
        circular = _circular(parent_of)
        for index, part in enumerate(self.classes):
            loc = ("classes", index, "parent")
            if part.parent is not None and part.parent not in parent_of:
                yield Fault(loc, f"no class has the id {part.parent}")
            elif part.id in circular:
                yield Fault(loc, f"class {part.id} is below itself; its parents never end")

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        if not (self.queueing_discipline or self.filters or self.ebpf_program):
            yield Fault((), "does nothing: it has no queueingDiscipline, filters or ebpfProgram")
        for index, part in enumerate(self.classes):
            if message := small_burst(part.burst):
                yield Fault(("classes", index, "burst"), message)
        for index, entry in enumerate(self.filters):
            for fault in entry.remarks():
                yield Fault(("filters", index, *fault.loc), fault.message)
        yield from self._guarantees()
        yield from self._unreachable()

    def _guarantees(self) -> Iterator[Fault]:
        qdisc = self.queueing_discipline
        whole = {part.id: part.rate for part in self.classes}
        sums: defaultdict[int | None, int] = defaultdict(int)
        for index, part in enumerate(self.classes):
            limit = whole.get(part.parent or 0) or (qdisc.rate if qdisc else None)
            sums[part.parent] += part.rate
            if limit is not None and sums[part.parent] > limit >= sums[part.parent] - part.rate:
                owner = f"class {part.parent}" if part.parent else "queueingDiscipline"
                message = f"guarantees up to here add up to {rate_text(sums[part.parent])}"
                yield Fault(
                    ("classes", index, "rate"), f"{message}; {owner} has {rate_text(limit)}"
                )

    def _unreachable(self) -> Iterator[Fault]:
        order = sorted(enumerate(self.filters), key=lambda item: (item[1].priority, item[0]))
        decides = ("pass", "drop", "redirect")
        found = unreachable((f.matches_all, f.action.type in decides) for _, f in order)
        if found is not None:
            index, earlier = order[found[0]][0], order[found[1]][0]
            message = f"is never reached, nor what follows: filters[{earlier}] takes every packet"
            yield Fault(("filters", index), message)


def _circular(parent_of: Mapping[int, int | None]) -> set[int]:
    """Return the classes that are among their own parents' parents."""
    seen: set[int] = set()
    circular: set[int] = set()
    for start in parent_of:
        chain: list[int] = []
        current: int | None = start
        while current is not None and current not in seen:
            seen.add(current)
            chain.append(current)
            current = parent_of.get(current)
        if current in chain:
            circular.update(chain[chain.index(current) :])
    return circular


class EBPFTrafficControl(Model):
    """Queues, classes and filters of one interface and direction."""

    api_version: ApiVersion = Field(description="The version of the schema.")
    kind: Literal["EBPFTrafficControl"] = Field(description="The kind.")
    metadata: Metadata = Field(description="Who the resource is.")
    spec: TrafficControlSpec = Field(description="What is asked for.")

    @property
    def id(self) -> ResourceId:
        """Who the resource is."""
        return self.metadata.id_of(self.kind)

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        for fault in self.spec.remarks():
            yield Fault(("spec", *fault.loc), fault.message)

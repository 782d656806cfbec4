"""What the loaded programs do to a packet, and which rule of which manifest decides.

Twins of the programs (kernel/twin.py) are run on it, in the order of the hooks; the originals, and
what they count and remember, stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from fos1d import abi
from fos1d.abi import PlaceKind, PolicyChain
from fos1d.kernel.bpf import Fd
from fos1d.kernel.nat_twin import changed_ends, counted, show_state
from fos1d.kernel.port import RealKernel
from fos1d.kernel.twin import PLACE_KEY, Counts, Scratch, own_cgroup, run
from fos1d.kinds.container_policy import EBPFContainerPolicy, Way
from fos1d.kinds.nat_lower import FORWARD
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.policy_lower import is_within
from fos1d.kinds.policy_places import Place
from fos1d.model.frame import answered, frame_of
from fos1d.model.identity import ResourceId
from fos1d.model.objects import (
    Attachment,
    BuiltIn,
    CgroupAttachment,
    CgroupHook,
    Hook,
    Key,
    Program,
    Slots,
)
from fos1d.model.packet import Address, Tuple
from fos1d.model.pins import SHARED_FLOW, SHARED_NAT, SHARED_POLICY, decode, program_family
from fos1d.nat_inquiry import translation_said
from fos1d.reconcile import Memory
from fos1d.report.explanation import (
    DROP,
    NOT_RUN,
    PASS,
    Explanation,
    Question,
    RuleSaid,
    Step,
)
from fos1d.report.packets import reason_name

DROPS = {Hook.XDP: (0, 1), Hook.TC_INGRESS: (2,), Hook.TC_EGRESS: (2,), None: (0, 2)}
CHAINS: Mapping[Way, tuple[PolicyChain, PolicyChain]] = {
    "ingress": (PolicyChain.CHAIN_IN, PolicyChain.CHAIN_RECEIVE),
    "egress": (PolicyChain.CHAIN_OUT, PolicyChain.CHAIN_SEND),
}
CGROUP_HOOKS: Mapping[Way, CgroupHook] = {
    "ingress": CgroupHook.INGRESS,
    "egress": CgroupHook.EGRESS,
}
INTERFACE_HOOKS: Mapping[Way, tuple[Hook, ...]] = {
    "ingress": (Hook.XDP, Hook.TC_INGRESS),
    "egress": (Hook.TC_EGRESS,),
}
OPPOSITE: Mapping[Way, Way] = {"ingress": "egress", "egress": "ingress"}
SHARED = program_family(SHARED_POLICY)
TRANSLATING = program_family(SHARED_NAT)
WITHOUT_RULES = {
    abi.Reason.PASS_VITAL: "it keeps the router alive: neighbours, failsafe ports, the operator",
}


class UnknownPlace(ValueError):
    """There is no such interface or workload."""


@dataclass(frozen=True, slots=True)
class Station:
    """A program on the packet's way. `hook` None: a workload's; `came_in` is the index of the
    interface by which the packet came, 0 for the machine's own."""

    hook: Hook | None
    way: Way
    place: Place
    program: Program
    came_in: int = 0


def explain(question: Question, memory: Memory, kernel: RealKernel) -> Explanation:
    """Run the packet through the programs that are loaded.

    Raises UnknownPlace, and KernelError where a program cannot be run.
    """
    local = kernel.netlink.addresses()
    with Scratch(kernel.bpffs) as scratch:
        walk = _Walk(memory, kernel, scratch)
        remarks = tuple(walk.opened(question, local)) if question.established else ()
        steps = tuple(
            walk.steps(walk.stations(question, local), question.ends, not question.established)
        )
        remarks += tuple(walk.unasked(question))
    if not steps:
        remarks = (*remarks, "no program of fos1d judges this packet")
    return Explanation(question, steps, remarks)


@dataclass(slots=True)
class _Walk:
    memory: Memory
    kernel: RealKernel
    scratch: Scratch
    _twins: dict[str, Fd] = field(default_factory=dict)

    # The way

    def stations(self, question: Question, local: set[Address]) -> list[Station]:
        """Return the programs on the packet's way, in order."""
        if question.workload:
            return list(self._of_workload(question, local))
        came_in = self._place(question.comes_in).id if question.comes_in else 0
        found: list[Station] = []
        if question.comes_in:
            found += self._on(self._place(question.comes_in), "ingress", came_in)
        if question.goes_out:
            out = self._place(question.goes_out)
            own = question.ends.source in local
            found += self._on(out, "egress", 0 if own else came_in or out.id)
        return found

    def _place(self, name: str) -> Place:
        links = self.kernel.netlink.links()
        if name not in links:
            raise UnknownPlace(
                f"there is no interface {name}; there are: {', '.join(sorted(links))}"
            )
        return Place(PlaceKind.PLACE_INTERFACE, links[name].interface.index, name)

    def _on(self, place: Place, way: Way, came_in: int) -> Iterator[Station]:
        for hook in INTERFACE_HOOKS[way]:
            for program in self._programs(place.name, hook):
                yield Station(hook, way, place, program, came_in)

    def _programs(self, interface: str, hook: Hook) -> Iterator[Program]:
        attached = sorted(
            (
                found
                for found in self.memory.settled.values()
                if isinstance(found, Attachment)
                and (found.interface, found.hook) == (interface, hook)
            ),
            key=lambda attachment: attachment.order,
        )
        for attachment in attached:
            for program in self._chained(self._program(attachment.program)):
                # The fast path says the same as the policies' other programs, or nothing.
                if (program.family, hook) != (SHARED, Hook.XDP) and not _is_shortcut(program):
                    yield program

    def _chained(self, first: Program) -> list[Program]:
        chain = first.successor.chain if first.successor else ""
        slots = self.memory.settled.get(Key("slots", chain))
        if not isinstance(slots, Slots):
            return [first]
        return [self._program(path) for path in slots.programs]

    def _program(self, path: str) -> Program:
        program = self.memory.settled[Key("program", path)]
        assert isinstance(program, Program)
        return program

    def _of_workload(self, question: Question, local: set[Address]) -> Iterator[Station]:
        place, addresses = self._workload(question.workload)
        receives = question.ends.dest in (addresses or local)
        way: Way = "ingress" if receives else "egress"
        for found in self.memory.settled.values():
            if not isinstance(found, CgroupAttachment) or found.hook is not CGROUP_HOOKS[way]:
                continue
            program = self._program(found.program)
            if program.family == SHARED and is_within(place.name, found.cgroup):
                yield Station(None, way, place, program)

    def unasked(self, question: Question) -> Iterator[str]:
        """Yield which programs of users see the packet, too; they are not run."""
        if not question.workload:
            return
        place, _ = self._workload(question.workload)
        running = {
            self._program(found.program)
            for found in self.memory.settled.values()
            if isinstance(found, CgroupAttachment) and is_within(place.name, found.cgroup)
        }
        for owner in sorted({_owner(program) for program in running if program.family != SHARED}):
            yield f"{owner} runs on the workload, too, and is not asked here; both must let it pass"

    def _workload(self, name: str) -> tuple[Place, set[Address]]:
        known = self.memory.policy_view.places.workloads
        for place, workload in known.items():
            if name in (workload.name, f"{workload.namespace}/{workload.name}", workload.cgroup):
                return place, set(workload.addresses)
        there = ", ".join(sorted(f"{w.namespace}/{w.name}" for w in known.values())) or "none"
        raise UnknownPlace(f"no policy selects a workload {name}; selected are: {there}")

    # Walking

    def opened(self, question: Question, local: set[Address]) -> Iterator[str]:
        """Have the other end open the connection; yield what is to be said about that."""
        back = replace(
            question,
            ends=answered(question.ends),
            comes_in=question.goes_out,
            goes_out=question.comes_in,
        )
        for step in self.steps(self.stations(back, local), back.ends, True):
            if step.verdict == DROP:
                rules = "".join(f", by {r.policy} {r.direction}[{r.index}]" for r in step.rules)
                where = f"{step.hook} of {step.place}"
                yield f"its first packet, {back.ends}, would not pass {where}: {step.reason}{rules}"

    def steps(self, stations: list[Station], ends: Tuple, opens: bool) -> Iterator[Step]:
        """Run a packet through programs until one drops it."""
        frame = frame_of(ends, opens)
        for station in stations:
            step, frame = self._step(station, frame, ends)
            if station.program.family != program_family(SHARED_FLOW):
                yield step
            if step.verdict == DROP:
                return

    def _step(self, station: Station, frame: bytes, ends: Tuple) -> tuple[Step, bytes]:
        """Return what a program did, and the frame as it left it."""
        program = station.program
        about = (
            str(station.hook or CGROUP_HOOKS[station.way]),
            station.place.name,
            _owner(program),
        )
        if not isinstance(program.code, BuiltIn):
            return Step(*about, NOT_RUN, "a program of your own, which may keep state"), frame
        twin = self._twin(station, ends)
        if program.family == TRANSLATING:
            return self._translated(station, twin, frame, about)
        before = self.scratch.counts(program)
        ran = run(twin, station.hook, frame, station.place.id, station.came_in)
        said = self.scratch.counts(program).since(before)
        verdict = DROP if ran.verdict in DROPS[station.hook] else PASS
        reason = next(
            (reason for reason in said.reasons if reason < abi.Reason.NOTE_FLOWS_FULL), None
        )
        rules = tuple(self._rules(station.way, said))
        policed = self._policed_by(station, reason) if not any(map(_decides, rules)) else ()
        why = reason_name(reason) if reason is not None else ""
        return Step(*about, verdict, why, rules, policed), ran.frame

    def _translated(
        self, station: Station, twin: Fd, frame: bytes, about: tuple[str, str, str]
    ) -> tuple[Step, bytes]:
        """Return what a program did that translates addresses."""
        before = counted(self.scratch, station.program)
        ran = run(twin, station.hook, frame, station.place.id, station.came_in)
        after = counted(self.scratch, station.program)
        verdict = DROP if ran.verdict in DROPS[station.hook] else PASS
        said = translation_said(before, after, self.memory.nat_view)
        changes = [] if verdict == DROP else changed_ends(frame, ran.frame)
        reason = "; ".join(changes) or (said.reason if verdict == DROP else "unchanged")
        return Step(*about, verdict, reason, said.rules), ran.frame

    def _twin(self, station: Station, ends: Tuple) -> Fd:
        program = station.program
        if program.path not in self._twins:
            self._twins[program.path] = self.scratch.load(program)
            if program.family == TRANSLATING:
                show_state(self.scratch, program, self.kernel.bpffs, ends)
        if program.family == SHARED:
            real = PLACE_KEY.pack(station.place.kind, 0, station.place.id)
            number = station.place.id if station.hook else own_cgroup()
            self.scratch.place(program, real, PLACE_KEY.pack(station.place.kind, 0, number))
        return self._twins[program.path]

    # Who decided

    def _rules(self, way: Way, said: Counts) -> Iterator[RuleSaid]:
        view = self.memory.policy_view
        for chain in CHAINS[way]:
            for counter in view.chains[chain] if view.chains else ():
                if counter in said.rules and (source := view.sources.get(counter)):
                    yield RuleSaid(
                        source.policy,
                        source.direction,
                        source.index,
                        source.action,
                        source.description,
                        str(source.origin),
                    )

    def _policed_by(
        self, station: Station, reason: abi.Reason | None
    ) -> tuple[tuple[ResourceId, str], ...]:
        """Return the policies that deny by default what was denied."""
        if reason not in (abi.Reason.DROP_POLICY, abi.Reason.DROP_CONTAINER_POLICY):
            return ()
        places = self.memory.policy_view.places
        signature = places.subjects[places.numbers[station.place]]
        found = [self.memory.in_force[policy].declaration for policy, _ in signature]
        return tuple(
            (declaration.resource.id, str(declaration.origin))
            for declaration in found
            if _polices(declaration.resource, station.way, reason)
        )


def _is_shortcut(program: Program) -> bool:
    """Whether a program only sends on what the others let pass."""
    return isinstance(program.code, BuiltIn) and program.code.object == FORWARD.code.object


def _decides(rule: RuleSaid) -> bool:
    return rule.action == "deny"


def _polices(resource: object, way: Way, reason: abi.Reason) -> bool:
    match resource:
        case EBPFNetworkPolicy(spec=spec) if reason is abi.Reason.DROP_POLICY:
            named = {direction for direction, _ in spec.directions()}
            return spec.policy_type == "filtering" and way in named
        case EBPFContainerPolicy(spec=container) if reason is abi.Reason.DROP_CONTAINER_POLICY:
            controls = container.network_controls
            return controls.controls(way) and controls.default(way) == "deny"
        case _:
            return False


def _owner(program: Program) -> str:
    """Return whose program it is, for people."""
    name = program.family.removeprefix("program/")
    if name in (SHARED_POLICY, SHARED_NAT):
        return "policies" if name == SHARED_POLICY else "translation"
    return f"EBPFProgram/{decode(name).replace('.', '/', 1)}"

"""The pass: a snapshot, the facts and the kernel in; a kernel as desired, and a report, out.

    snapshot -> resources in force -> desired state --\\
                                                        plan -> actions -> outcomes -> report
    kernel ----------------------> observed state ----/        (observe again: nothing is left)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fos1d.kernel.port import Kernel
from fos1d.kinds.admission import Accepted, Admission, admit
from fos1d.kinds.assemble import Assembled, assemble
from fos1d.kinds.lowered import Context
from fos1d.kinds.nat_lower import NatView
from fos1d.kinds.nat_tables import NatStore
from fos1d.kinds.policy_compiled import PolicyStore
from fos1d.kinds.policy_lower import PolicyView
from fos1d.kinds.reading import Reader
from fos1d.model.facts import Facts
from fos1d.model.failsafe import FailsafePort
from fos1d.model.identity import ResourceId
from fos1d.model.objects import KernelObject, Key, Placement, State
from fos1d.model.snapshot import Snapshot
from fos1d.plan.actions import Action, Create, Delete, Done, Outcome, Plan, Replace, target
from fos1d.plan.diff import make_plan
from fos1d.plan.drift import Drift
from fos1d.plan.run import run_plan
from fos1d.report.conditions import PassFacts, errors_by_resource, refusals_of


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say to a pass."""

    node_name: str = ""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    failsafe_ports: tuple[FailsafePort, ...] = ()
    most_flows: int = 65536
    prune_limit_percent: int = 50


@dataclass(slots=True)
class Memory:
    """What is kept from pass to pass. None of it is a statement about the kernel, but `settled`:
    the objects that a pass reached, to tell drift from news."""

    reader: Reader = field(default_factory=Reader)
    in_force: dict[ResourceId, Accepted] = field(default_factory=dict)
    settled: dict[Key, KernelObject] = field(default_factory=dict)
    drift: Drift = field(default_factory=Drift)
    policies: PolicyStore = field(default_factory=PolicyStore)
    policy_view: PolicyView = field(default_factory=PolicyView)
    nats: NatStore = field(default_factory=NatStore)
    nat_view: NatView = field(default_factory=NatView)


@dataclass(frozen=True, slots=True)
class PassReport:
    """What a pass did and found. `drifted` are objects that somebody else had changed;
    `remarks` are the executor's words on actions that it carried out."""

    revision: str
    admission: Admission
    plan: Plan
    outcomes: tuple[Outcome, ...]
    facts: PassFacts
    drifted: tuple[Key, ...] = ()
    remarks: Mapping[Key, str] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether any action was carried out."""
        return any(isinstance(outcome, Done) for outcome in self.outcomes)


def reconcile(
    snapshot: Snapshot,
    memory: Memory,
    kernel: Kernel,
    options: Options,
    now: float,
    confirmed: bool,
) -> PassReport:
    """Make the kernel match a snapshot.

    Raises SourceError if a file cannot be read now, and KernelError if the kernel cannot even be
    observed; nothing was changed then.
    """
    admission = read(snapshot, memory, options, confirmed)
    return enforce(snapshot.revision, admission, memory, kernel, options, now)


def read(snapshot: Snapshot, memory: Memory, options: Options, confirmed: bool) -> Admission:
    """Decide which resources are in force after a snapshot."""
    valid, findings = memory.reader.read(snapshot, memory.in_force)
    limit = options.prune_limit_percent
    return admit(valid, findings, memory.in_force, limit, confirmed)


def enforce(
    revision: str,
    admission: Admission,
    memory: Memory,
    kernel: Kernel,
    options: Options,
    now: float,
) -> PassReport:
    """Make the kernel hold what the admitted resources ask for, and look again."""
    assembled = lower(admission, memory, kernel.facts(), options)
    desired = assembled.lowered.objects
    observed = kernel.observe(desired)
    plan = make_plan(desired, observed)
    drifted = _drifted(plan.actions, memory.settled, desired)
    remarks: dict[Key, str] = {}
    outcomes = tuple(run_plan(plan, observed, _executor(kernel, remarks)))
    if plan.actions:
        observed = kernel.observe(desired)
    left = make_plan(desired, observed)
    contested = memory.drift.record(drifted, now)
    memory.policy_view, memory.nat_view = assembled.policies, assembled.nats
    _remember(memory, admission, desired, outcomes, left)
    facts = _facts(admission, assembled, outcomes, left, contested, observed)
    return PassReport(revision, admission, plan, outcomes, facts, tuple(drifted), remarks)


def lower(admission: Admission, memory: Memory, facts: Facts, options: Options) -> Assembled:
    """Return the desired state of the admitted resources on this node."""
    here = replace(facts, node_name=options.node_name, node_labels=options.node_labels)
    context = Context(
        here,
        memory.reader.lists,
        memory.policies,
        memory.nats,
        options.failsafe_ports,
        options.most_flows,
    )
    return assemble(list(admission.in_force.values()), context)


def _executor(kernel: Kernel, remarks: dict[Key, str]) -> Callable[[Action], None]:
    def execute(action: Action) -> None:
        if remark := kernel.execute(action):
            remarks[target(action)] = remark

    return execute


def _drifted(
    actions: Iterable[Action],
    settled: Mapping[Key, KernelObject],
    desired: Mapping[Key, KernelObject],
) -> list[Key]:
    """Return the keys that were as desired after the last pass, still should be, and are not."""
    return [
        key
        for action in actions
        if isinstance(action, Create | Replace)
        and (key := target(action)) in settled
        and settled[key] == desired[key]
    ]


def _remember(
    memory: Memory,
    admission: Admission,
    desired: Mapping[Key, KernelObject],
    outcomes: Iterable[Outcome],
    left: Plan,
) -> None:
    """Note what was reached: what a second look then finds different, somebody else changed."""
    failed = {target(o.action) for o in outcomes if not isinstance(o, Done)}
    undone = failed | {conflict.key for conflict in left.conflicts}
    memory.in_force = admission.in_force
    memory.settled = {key: obj for key, obj in desired.items() if key not in undone}
    memory.reader.lists.end_pass()


def _facts(
    admission: Admission,
    assembled: Assembled,
    outcomes: Sequence[Outcome],
    left: Plan,
    contested: frozenset[Key],
    observed: State,
) -> PassFacts:
    return PassFacts(
        claims=assembled.lowered.claims,
        notes=assembled.lowered.notes,
        refusals=refusals_of(outcomes),
        conflicts={conflict.key: conflict for conflict in left.conflicts},
        late=frozenset(target(a) for a in left.actions if not isinstance(a, Delete)),
        contested=contested,
        errors=errors_by_resource(admission.findings),
        elsewhere=assembled.elsewhere,
        selections=assembled.lowered.selections,
        remarks=assembled.lowered.remarks,
        warnings=assembled.lowered.warnings,
        held=admission.held,
        attached={k: found for k, found in observed.items() if isinstance(found, Placement)},
    )

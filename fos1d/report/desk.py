"""What the API may ask of the daemon, and the values that it answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fos1d.model.diagnostic import Diagnostic
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Attachment, CgroupAttachment, Placement
from fos1d.model.translated import Choice, Chosen
from fos1d.report.events import Event
from fos1d.report.explanation import Explanation, Question
from fos1d.report.status import World


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """One line of a plan: `verb` create, replace or delete; kind and name of the object; the
    resources that want it (none for what nobody wants any more); one line for people."""

    verb: str
    kind: str
    name: str
    claimants: tuple[ResourceId, ...]
    text: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """What a pass would do, in order, and what it would leave alone or refuse.

    `findings` are those of the revision that was planned, `declared` counts its valid resources;
    `kept` and `held` are resources whose earlier version would stay, since theirs is invalid or
    too much would be removed.
    """

    revision: str
    actions: tuple[PlannedAction, ...] = ()
    conflicts: tuple[str, ...] = ()
    findings: tuple[Diagnostic, ...] = ()
    kept: tuple[ResourceId, ...] = ()
    held: tuple[ResourceId, ...] = ()
    declared: int = 0


@dataclass(frozen=True, slots=True)
class Attached:
    """Where a program of a resource runs: the interface with the mode, or the cgroup as its path
    from the root; the hook, and the kernel's program id where the kernel was asked."""

    interface: str
    hook: str
    mode: str
    program: str = ""
    cgroup: str = ""


def attached_of(found: Placement, program: str = "") -> Attached:
    """Return an attachment as people see it."""
    match found:
        case Attachment(interface=interface, hook=hook, mode=mode):
            return Attached(interface, str(hook), str(mode), program)
        case CgroupAttachment(cgroup=path, hook=hook):
            return Attached("", str(hook), "", program, f"/{path}".removesuffix("."))


@dataclass(frozen=True, slots=True)
class MapEntries:
    """A map's use and, in part, its contents as hex."""

    id: int
    entries: int | None
    max_entries: int
    memory_bytes: int
    sample: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RuleCount:
    """A rule of a policy, where it is written, and what it has matched. `exceeded` are those of
    the packets that its limit dropped."""

    direction: str
    index: int
    description: str
    action: str
    written_in: str
    packets: int = 0
    bytes: int = 0
    exceeded: int = 0


@dataclass(frozen=True, slots=True)
class WorkloadUse:
    """A workload that a policy selects; `usage` are its counters by name, where it is accounted."""

    name: str
    namespace: str
    cgroup: str
    cgroup_id: int
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Translated:
    """What a policy translates at an interface: living flows, ports in use by protocol, of how
    many, and counters by name."""

    interface: str
    addresses: tuple[str, ...]
    flows: int = 0
    ports: Mapping[str, int] = field(default_factory=dict)
    ports_available: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NatQuery:
    """Which sessions and bindings are meant: besides the choice a policy (`NAME` or
    `NAMESPACE/NAME`, "" any) and an interface; and how many to name at most."""

    choice: Choice = field(default_factory=Choice)
    policy: str = ""
    interface: str = ""
    most: int = 0


@dataclass(frozen=True, slots=True)
class NatAnswer:
    """The chosen ones, and the policy and interface behind each number."""

    chosen: Chosen
    policies: Mapping[int, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Details:
    """What the kernel says of one resource now.

    `counts` are packets and bytes by reason (`pass`, `drop-blacklist`, …), `pin_path` is the
    user's own pin of a map; `rules` and `workloads` are a policy's, `translated` what it
    translates.
    """

    attached: tuple[Attached, ...] = ()
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    map: MapEntries | None = None
    pin_path: str = ""
    rules: tuple[RuleCount, ...] = ()
    workloads: tuple[WorkloadUse, ...] = ()
    translated: tuple[Translated, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision that was put in force, or tried: a line of the history. Time in Unix seconds.

    `result` is `ok`, `degraded` (something is not Ready), `held` or `failed`.
    """

    revision: str
    time_s: float
    author: str = ""
    subject: str = ""
    result: str = ""
    ready: int = 0
    total: int = 0
    actions: int = 0
    message: str = ""


class Desk(Protocol):
    """The daemon, as the API sees it. Everything may be called from any thread."""

    def world(self) -> World:
        """Return what is known now."""

    def wait_for_change(self, version: int, timeout_s: float) -> World:
        """Return the world as soon as its version is above `version`, or after the timeout."""

    def events(self, about: ResourceId | None) -> Sequence[Event]:
        """Return the newest events, oldest first."""

    def details(self, identity: ResourceId) -> Details:
        """Ask the kernel about one resource."""

    def history(self) -> Sequence[Revision]:
        """Return the revisions, newest first."""

    def reconcile(self, wait: bool, timeout_s: float) -> World:
        """Ask for a pass; with `wait`, return after it."""

    def plan(self, files: Mapping[str, bytes] | None, timeout_s: float) -> PlanView:
        """Plan the given files (path to content), or the source as it is; change nothing."""

    def explain(self, question: Question, timeout_s: float) -> Explanation:
        """Say what the loaded programs do to a packet; change nothing.

        Raises ValueError for an interface or workload that is not there.
        """

    def translations(self, query: NatQuery) -> NatAnswer:
        """List sessions and bindings.

        Raises ValueError for a policy or interface that translates nothing.
        """

    def flush_translations(self, query: NatQuery) -> NatAnswer:
        """Forget sessions and bindings; return how many there were. Raises as `translations`."""

    def suspend(self, seconds: float | None) -> World:
        """Stop making passes, for a while or until resumed."""

    def resume(self) -> World:
        """Make passes again, beginning now."""

    def confirm(self) -> World:
        """Let the revision that waits for a person go on.

        Raises ValueError if none waits.
        """

"""A desk without a daemon: a router with some resources in every state, at a fixed time."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from fos1d.errors import KernelError
from fos1d.kinds.admission import Accepted
from fos1d.kinds.parse import parse_file
from fos1d.model.condition import Condition, ConditionType, Status
from fos1d.model.diagnostic import Diagnostic
from fos1d.model.identity import Origin, ResourceId
from fos1d.model.objects import Attachment, Hook, Key, Mode
from fos1d.model.snapshot import Blob
from fos1d.model.translated import Binding, Chosen, End, Session
from fos1d.report.conditions import PassFacts, Refusal
from fos1d.report.desk import (
    Attached,
    Details,
    MapEntries,
    NatAnswer,
    NatQuery,
    PlannedAction,
    PlanView,
    Revision,
)
from fos1d.report.events import Event, EventType
from fos1d.report.explanation import Explanation, Question, RuleSaid, Step
from fos1d.report.status import ResourceStatus, SourceStatus, World, statuses

POLICY = ResourceId("EBPFNetworkPolicy", "default", "api")
EXPLAINED = (
    Step("xdp", "eth0", "EBPFProgram/default/edge-filter", "pass", "pass"),
    Step(
        "tc-ingress",
        "eth0",
        "policies",
        "drop",
        "drop-policy",
        (RuleSaid(POLICY, "ingress", 0, "log", "knocks", "api.yaml:9:7"),),
        ((POLICY, "api.yaml:1:1"),),
    ),
)

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
OLDER = "99887766554433221100ffeeddccbbaa99887766"

EDGE = """\
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFProgram
metadata:
  name: edge-filter
  labels: {app: edge, tier: outer}
  annotations: {owner: noc@example.net}
spec:
  description: Drop what attacks us
  type: xdp
  interface: eth0
  settings:
    rateLimiting: {enabled: true, packetsPerSecond: 10000}
    blacklist:
      enabled: true
      ips: ["192.168.1.100", "10.10.10.0/24"]
---
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFProgram
metadata: {name: wan-filter, labels: {app: edge}}
spec: {type: xdp, interface: wan0, priority: 20}
---
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFMap
metadata: {name: blacklist-map}
spec:
  type: lpm_trie
  maxEntries: 1024
  keySize: 8
  valueSize: 4
  pinPath: /sys/fs/bpf/blacklist
  accessedBy: [edge-filter]
  initData:
  - {key: "0x0a0a0a00/24", value: "0x00000001"}
"""
LAB = """\
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFProgram
metadata: {name: own-code, namespace: lab}
spec:
  type: xdp
  interface: eth1
  source: {object: objects/own.o, program: own}
---
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFMap
metadata: {name: counters, namespace: lab}
spec: {type: array, maxEntries: 4, keySize: 4, valueSize: 8}
---
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFNetworkPolicy
metadata: {name: api-server}
spec:
  policyType: filtering
  priority: 100
  ingress:
  - ports: [{protocol: TCP, port: 6443}]
---
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFNATPolicy
metadata: {name: outbound}
spec: {type: masquerade, interface: eth0}
---
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFTrafficControl
metadata: {name: egress-qos}
spec:
  interface: eth0
  direction: egress
  queueingDiscipline: {type: htb, rate: 1Gbit}
  classes: [{id: 10, rate: 500Mbit}]
---
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFContainerPolicy
metadata: {name: database}
spec:
  selector: {podSelector: {matchLabels: {app: database}}}
"""

FILTER = ResourceId("EBPFProgram", "default", "edge-filter")
WAN = ResourceId("EBPFProgram", "default", "wan-filter")
OWN = ResourceId("EBPFProgram", "lab", "own-code")
TYPO = ResourceId("EBPFProgram", "default", "typo")
BLACKLIST = ResourceId("EBPFMap", "default", "blacklist-map")
COUNTERS = ResourceId("EBPFMap", "lab", "counters")

XDP = Key("attachment", "eth0 xdp")
BLACKLIST_PIN = "map/default:blacklist-map/lpm_trie-8-4-1024-1"
FILTER_PIN = "program/default:edge-filter/3f2a91c07be4d518"
VERIFIER_SAYS = "R1 invalid mem access 'scalar'"
BROKEN = Diagnostic(
    Origin("policy/typo.yaml", 7, 3), "spec.interfase", "is not known", resource=TYPO
)

DETAILS: Mapping[ResourceId, Details] = {
    FILTER: Details(
        attached=(Attached("eth0", "xdp", "native", "42"),),
        counts={
            "pass": (1000, 64000),
            "pass-established": (0, 0),
            "drop-blacklist": (120, 7680),
            "drop-rate-limit": (33, 2112),
            "note-flows-full": (5, 320),
        },
    ),
    BLACKLIST: Details(
        map=MapEntries(
            7,
            5,
            1024,
            20480,
            (
                ("180000000a0a0a00", "00000001"),
                ("20000000c0a80164", "00000001"),
                ("20000000cb007101", "00000001"),
            ),
        ),
        pin_path="/sys/fs/bpf/blacklist",
    ),
    COUNTERS: Details(map=MapEntries(8, 4, 4, 4096, (("01000000", "0700000000000000"),))),
}


def accepted_of(text: str, path: str, revision: str = COMMIT) -> dict[ResourceId, Accepted]:
    """Return what a file declares, in force."""
    parsed = parse_file(path, text.encode())
    assert not parsed.findings, parsed.findings
    files: dict[str, Blob] = {}
    return {d.id: Accepted(d, files, revision) for d in parsed.declarations}


def facts() -> PassFacts:
    """Return what a pass found: one program runs, one waits, one was refused, four kinds wait."""
    missing = "no interface `wan0` now; the program is attached when it appears"
    refused = f"eth1: the verifier refused {OWN}: {VERIFIER_SAYS}"
    program = Key("program", "program/lab:own-code/77aa")
    return PassFacts(
        claims={
            FILTER: {XDP, Key("program", FILTER_PIN)},
            BLACKLIST: {Key("map", BLACKLIST_PIN), Key("entries", BLACKLIST_PIN)},
            OWN: {program},
            COUNTERS: {Key("map", "map/lab:counters/array-4-8-4-0")},
        },
        notes={
            WAN: [_unprogrammed("InterfaceMissing", missing)],
            **{
                ResourceId(kind, "default", name): [
                    _unprogrammed("NotSupportedYet", f"{kind} is validated, but not programmed yet")
                ]
                for kind, name in (
                    ("EBPFNetworkPolicy", "api-server"),
                    ("EBPFNATPolicy", "outbound"),
                    ("EBPFTrafficControl", "egress-qos"),
                    ("EBPFContainerPolicy", "database"),
                )
            },
        },
        refusals={program: Refusal("VerifierRefused", refused, False)},
        errors={TYPO: [BROKEN]},
        attached={XDP: Attachment("eth0", Hook.XDP, FILTER_PIN, Mode.NATIVE)},
    )


def _unprogrammed(reason: str, message: str) -> Condition:
    return Condition(ConditionType.PROGRAMMED, Status.FALSE, reason, message)


def router() -> World:
    """Return a router where not all is well."""
    in_force = accepted_of(EDGE, "policy/edge.yaml") | accepted_of(LAB, "policy/lab.yaml", OLDER)
    remarks = {FILTER: ["eth0: native"]}
    return World(
        version=3,
        node="edge-1",
        started_s=NOW - 90_000,
        source=SourceStatus(COMMIT, "", NOW - 12, "git /srv/policy.git main"),
        resources=statuses(facts(), in_force, remarks, {}, NOW - 3700),
        findings=(BROKEN,),
        passes=1502,
        last_pass_s=NOW - 8,
        last_pass_took_s=0.0452,
        drift_total=3,
    )


def healthy() -> World:
    """Return a router where all is well."""
    world = router()
    fine = {i: s for i, s in world.resources.items() if s.ready.condition.holds}
    return replace(world, resources=fine, findings=())


EVENTS = (
    Event(EventType.NORMAL, "Started", "fos1d 0.1.0 started", None, "", NOW - 90_000, NOW - 90_000),
    Event(
        EventType.NORMAL,
        "Programmed",
        "attached to eth0 (native)",
        FILTER,
        COMMIT,
        NOW - 3700,
        NOW - 3700,
        origin=Origin("policy/edge.yaml", 1),
        action="create attachment eth0 xdp",
    ),
    Event(
        EventType.WARNING,
        "DriftHealed",
        "attachment eth0 xdp was changed by another hand and is set right",
        FILTER,
        COMMIT,
        NOW - 600,
        NOW - 45,
        3,
    ),
    Event(
        EventType.WARNING,
        "VerifierRefused",
        f"the verifier refused {OWN}: {VERIFIER_SAYS}",
        OWN,
        OLDER,
        NOW - 3700,
        NOW - 30,
        60,
        detail=f"0: (b7) r0 = 2\n1: (61) r1 = *(u32 *)(r1 +0)\n{VERIFIER_SAYS}\n",
    ),
)
HISTORY = (
    Revision(COMMIT, NOW - 3700, "Ada <ada@example.net>", "Drop attackers", "degraded", 3, 10, 6),
    Revision(OLDER, NOW - 90_000, "Bob <bob@example.net>", "Begin", "ok", 2, 2, 9),
    Revision("directory@5f3ab0c9d8e7f6", NOW - 95_000, "", "", "failed", 0, 1, 0, "KernelRefused"),
)
PLAN = PlanView(
    COMMIT,
    (
        PlannedAction("create", "map", BLACKLIST_PIN, (BLACKLIST,), f"create map {BLACKLIST_PIN}"),
        PlannedAction(
            "create",
            "entries",
            BLACKLIST_PIN,
            (BLACKLIST,),
            f"create entries {BLACKLIST_PIN} (+1 ~0 -0 entries)",
        ),
        PlannedAction(
            "replace",
            "attachment",
            "eth0 xdp",
            (FILTER, WAN),
            "replace attachment eth0 xdp",
        ),
        PlannedAction(
            "delete",
            "program",
            "program/default:old/12ab",
            (),
            "delete program program/default:old/12ab",
        ),
    ),
    ("attachment eth1 xdp: program 99 (xdp_other)",),
    (),
    (),
    (COUNTERS,),
)

INSIDE = End(ip_address("10.0.0.7"), 5001)
OUTSIDE = End(ip_address("203.0.113.1"), 5001)
FAR = End(ip_address("198.51.100.9"), 443)
TRANSLATIONS = NatAnswer(
    Chosen(
        (Session(7, 6, INSIDE, OUTSIDE, FAR, "established", False, False, 7300),),
        (
            Binding(7, 6, INSIDE, OUTSIDE, False, 7300),
            Binding(7, 17, OUTSIDE, OUTSIDE, True, 40),
        ),
        1,
        3,
    ),
    {7: ("EBPFNATPolicy/default/home", "eth0")},
)


@dataclass
class FakeDesk:
    """A daemon that does as it is told. `asked` notes what it was asked for."""

    now: World = field(default_factory=router)
    asked: list[tuple[str, object]] = field(default_factory=list)
    planned: PlanView = PLAN
    happened: Sequence[Event] = EVENTS
    changed: threading.Condition = field(default_factory=threading.Condition)

    def publish(self, world: World) -> None:
        """Put another world in place."""
        with self.changed:
            self.now = replace(world, version=self.now.version + 1)
            self.changed.notify_all()

    def set_status(self, *found: ResourceStatus) -> None:
        """Change some resources."""
        self.publish(
            replace(self.now, resources={**self.now.resources, **{s.id: s for s in found}})
        )

    def remove(self, identity: ResourceId) -> None:
        """Take a resource away."""
        left = {i: s for i, s in self.now.resources.items() if i != identity}
        self.publish(replace(self.now, resources=left))

    def world(self) -> World:
        """Return what is known now."""
        return self.now

    def wait_for_change(self, version: int, timeout_s: float) -> World:
        """Return the world as soon as its version is above `version`, or after the timeout."""
        with self.changed:
            self.changed.wait_for(lambda: self.now.version > version, timeout_s)
            return self.now

    def events(self, about: ResourceId | None) -> Sequence[Event]:
        """Return the newest events, oldest first."""
        return [event for event in self.happened if about in (None, event.about)]

    def details(self, identity: ResourceId) -> Details:
        """Return what the kernel would say."""
        self.asked.append(("details", identity))
        if identity == OWN:
            raise KernelError("program/lab:own-code: no such pin")
        return DETAILS.get(identity, Details())

    def history(self) -> Sequence[Revision]:
        """Return the revisions, newest first."""
        return HISTORY

    def reconcile(self, wait: bool, timeout_s: float) -> World:
        """Pretend to make a pass."""
        self.asked.append(("reconcile", wait))
        if timeout_s < 1:
            raise TimeoutError
        self.publish(replace(self.now, passes=self.now.passes + 1))
        return self.now

    def plan(self, files: Mapping[str, bytes] | None, timeout_s: float) -> PlanView:
        """Return the plan that was prepared."""
        self.asked.append(("plan", files))
        return self.planned

    def explain(self, question: Question, timeout_s: float) -> Explanation:
        if "eth0" not in (question.comes_in, question.goes_out):
            raise ValueError("there is no interface of that name; there are: eth0")
        return Explanation(question, EXPLAINED)

    def translations(self, query: NatQuery) -> NatAnswer:
        """Return the sessions and bindings that were prepared."""
        self.asked.append(("translations", query))
        if query.interface not in ("", "eth0"):
            raise ValueError("no such translation; there are: default/home at eth0")
        return TRANSLATIONS

    def flush_translations(self, query: NatQuery) -> NatAnswer:
        """Pretend to forget."""
        self.asked.append(("flush", query))
        return NatAnswer(Chosen(session_count=2, binding_count=1))

    def suspend(self, seconds: float | None) -> World:
        """Pretend to make no passes."""
        self.asked.append(("suspend", seconds))
        until = float("inf") if seconds is None else NOW + seconds
        self.publish(replace(self.now, suspended_until_s=until))
        return self.now

    def resume(self) -> World:
        """Pretend to make passes again."""
        self.asked.append(("resume", None))
        self.publish(replace(self.now, suspended_until_s=None))
        return self.now

    def confirm(self) -> World:
        """Pretend that the held revision goes on."""
        if not self.now.held:
            raise ValueError("no revision waits for a confirmation")
        self.publish(replace(self.now, held=()))
        return self.now

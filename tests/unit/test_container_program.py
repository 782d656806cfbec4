"""Where a user's own program for cgroups runs, and what keeps it from running."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fos1d.compile.lists import ListStore
from fos1d.errors import VerifierError
from fos1d.kernel.loader import object_digests
from fos1d.kinds.admission import Accepted, accept
from fos1d.kinds.assemble import assemble
from fos1d.kinds.lowered import Context, Lowered
from fos1d.kinds.validate import validate
from fos1d.model.diagnostic import errors_of
from fos1d.model.facts import Facts
from fos1d.model.identity import ResourceId
from fos1d.model.objects import CgroupAttachment, CgroupHook, Key, Program, key_of
from fos1d.model.snapshot import Snapshot
from fos1d.model.workload import Provider, Workload
from fos1d.plan.actions import Action, Create, Delete, Replace, Skipped
from fos1d.plan.diff import make_plan
from fos1d.plan.run import run_plan
from tests.manifests import manifest, snapshot
from tests.own_cgroup import own_object

OWN = ResourceId("EBPFProgram", "default", "own")
POLICY = ResourceId("EBPFContainerPolicy", "default", "web")
WAYS = {CgroupHook.INGRESS, CgroupHook.EGRESS}


def own(function: str = "both", more: str = "", name: str = "own", file: str = "own.o") -> str:
    source = f"type: cgroup\nsource: {{object: {file}, program: {function}}}\n"
    return manifest("EBPFProgram", source + more, name)


def policy(name: str = "web", app: str = "web", program: str = "own", more: str = "") -> str:
    selector = f"selector: {{podSelector: {{matchLabels: {{app: {app}}}}}}}\n"
    return manifest("EBPFContainerPolicy", f"{selector}ebpfProgram: {program}\n{more}", name)


def workload(path: str, app: str = "web", number: int = 7) -> Workload:
    labels = {"app": app}
    return Workload(path, path, number, Provider.STATIC, labels=labels, trusted_labels=labels)


def source_of(*manifests: str, **objects: bytes) -> Snapshot:
    files: dict[str, str | bytes] = {f"{i}.yaml": text for i, text in enumerate(manifests)}
    return snapshot({**files, "own.o": own_object(), **objects})


def accepted(made: Snapshot) -> list[Accepted]:
    return [accept(found, made.blobs, "r1", {}) for found in validate(made).declarations]


def lowered(workloads: Iterable[Workload], *manifests: str, **objects: bytes) -> Lowered:
    made = source_of(*manifests, **objects)
    assert not errors_of(validate(made).findings)
    facts = Facts(objects=object_digests(), workloads=tuple(workloads))
    return assemble(accepted(made), Context(facts, ListStore())).lowered


def attachments(made: Lowered, owner: str = "own") -> list[CgroupAttachment]:
    return [
        obj
        for _, obj in sorted(made.objects.items())
        if isinstance(obj, CgroupAttachment) and obj.program.startswith(f"program/default:{owner}/")
    ]


def places(made: Lowered, owner: str = "own") -> set[tuple[str, CgroupHook]]:
    return {(found.cgroup, found.hook) for found in attachments(made, owner)}


@pytest.mark.parametrize(
    ("function", "hooks"),
    [
        ("receives", {CgroupHook.INGRESS}),
        ("sends", {CgroupHook.EGRESS}),
        ("both", WAYS),
        ("connects", {CgroupHook.CONNECT4}),
        ("opens", {CgroupHook.DEVICE}),
        ("creates", {CgroupHook.SOCK_CREATE}),
        ("hears", {CgroupHook.SOCK_OPS}),
    ],
)
def test_its_section_says_the_hook(function: str, hooks: set[CgroupHook]) -> None:
    made = lowered([workload("web")], own(function), policy())
    assert places(made) == {("web", hook) for hook in hooks}
    assert not made.notes


@pytest.mark.parametrize(("more", "place"), [("", "."), ("cgroup: /system.slice", "system.slice")])
def test_without_a_policy_it_runs_on_its_cgroup(more: str, place: str) -> None:
    made = lowered([workload("web")], own(more=more))
    assert places(made) == {(place, way) for way in WAYS}
    assert not made.notes


def test_policies_say_where_it_runs() -> None:
    made = lowered(
        [workload("web/a"), workload("web", number=8), workload("db", "db", 9), workload("x", "x")],
        own(more="cgroup: /x"),
        policy(),
        policy("db", "db"),
    )
    assert places(made) == {(place, way) for place in ("web", "db") for way in WAYS}
    said = made.selections[OWN]
    assert said.holds
    assert "EBPFContainerPolicy/default/web: db, web, web/a" in said.message
    assert "spec.cgroup is not used" in made.remarks[OWN][0]
    mine = {key for key in made.claims[POLICY] if key in map(key_of, attachments(made))}
    assert {key.name.split()[0] for key in mine} == {"web"}


def test_a_workload_that_comes_finds_it_loaded() -> None:
    before, after = (lowered(known, own(), policy()) for known in ([], [workload("web")]))
    assert not attachments(before)
    program = next(obj for key, obj in before.objects.items() if "default:own" in key.name)
    assert isinstance(program, Program)
    assert key_of(program) in before.claims[POLICY]
    assert before.selections[OWN].reason == "NoMatchingWorkloads"
    new = after.objects.keys() - before.objects.keys()
    assert {key.kind for key in new} == {"attachment"}


def test_a_new_program_takes_the_place_of_the_old_one() -> None:
    before = lowered([workload("web")], own(), policy())
    again = lowered([workload("web")], own(), policy())
    assert not make_plan(again.objects, before.objects).actions
    after = lowered([workload("web")], own(), policy(), **{"own.o": own_object(9)})
    plan = make_plan(after.objects, before.objects)
    assert [type(action) for action in plan.actions] == [Create, Replace, Replace, Delete]


def test_another_program_moves_none() -> None:
    before = lowered([workload("web")], own(), policy())
    first = own(more="priority: 1", name="first")
    after = lowered([workload("web")], own(), policy(), first, policy("one", program="first"))
    plan = make_plan(after.objects, before.objects)
    assert not {action.new for action in plan.actions if isinstance(action, Replace)} & {
        *attachments(before)
    }
    assert set(attachments(before)) == set(attachments(after))
    slots = [attachments(after, name)[0].slot for name in ("first", "own")]
    assert slots == sorted(slots, key=str)
    assert all(str(slot) > "0" for slot in slots)


def test_it_goes_with_its_policy_and_with_itself() -> None:
    named = lowered([workload("web")], own(), policy())
    alone = lowered([workload("web")], own())
    assert places(alone) == {(".", way) for way in WAYS}
    gone = lowered(
        [workload("web")], manifest("EBPFContainerPolicy", "selector: {podSelector: {}}")
    )
    deleted = {a.old for a in make_plan(gone.objects, named.objects).actions if hasattr(a, "old")}
    assert set(attachments(named)) <= deleted


def test_a_refused_one_for_another_hook_leaves_the_old_one() -> None:
    before, after = (
        lowered([workload("web")], own(function), policy()) for function in ("receives", "sends")
    )

    def execute(action: Action) -> None:
        if isinstance(action, Create) and isinstance(action.new, Program):
            raise VerifierError("no", "")

    plan = make_plan(after.objects, before.objects)
    deletes = [o for o in run_plan(plan, before.objects, execute) if isinstance(o.action, Delete)]
    assert len(deletes) == 2
    assert all(isinstance(outcome, Skipped) for outcome in deletes)


ELSEWHERE = "nodeSelector: {matchLabels: {site: far}}"


def test_a_policy_of_another_router_lets_it_run_nowhere() -> None:
    made = lowered([workload("web")], own(), policy(more=ELSEWHERE))
    assert not attachments(made)
    assert made.selections[OWN].reason == "NoMatchingWorkloads"


def test_a_program_of_another_router_is_missed() -> None:
    made = lowered([workload("web")], own(more=ELSEWHERE), policy())
    assert [note.reason for note in made.notes[POLICY]] == ["ProgramElsewhere"]


def test_the_built_in_one_is_said_to_be_missing() -> None:
    built_in = manifest("EBPFProgram", "type: cgroup\n", "own")
    made = lowered([workload("web")], built_in, policy())
    assert [note.reason for note in made.notes[POLICY]] == ["NotSupportedYet"]
    assert "without a source" in made.notes[OWN][0].message
    assert any(isinstance(obj, CgroupAttachment) for obj in made.objects.values())


def test_maps_are_bound_by_name() -> None:
    spec = "type: array\nmaxEntries: 4\nkeySize: 4\nvalueSize: 8\naccessedBy: [own]\n"
    made = lowered([workload("web")], own(), policy(), manifest("EBPFMap", spec, "seen"))
    (program,) = (o for o in made.objects.values() if isinstance(o, Program) and "own" in o.path)
    assert [name for name, _ in program.maps] == ["seen"]
    assert Key("map", program.maps[0][1]) in made.objects


# What is wrong with it


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("bth", '0.yaml:7:36 spec.source.program "own.o" has no program "bth"; it has: both, '),
        ("elsewhere", '0.yaml:7:36 spec.source.program "elsewhere" stands in section "xdp", '),
    ],
)
def test_a_program_that_is_none_for_cgroups(function: str, says: str) -> None:
    (finding,) = validate(source_of(own(function), policy())).findings
    assert str(finding).startswith(says)
    assert ("did you mean" in str(finding)) == (function == "bth")
    assert finding.resource == OWN


def test_one_for_all_of_the_router_says_so() -> None:
    (finding,) = validate(source_of(own())).findings
    assert str(finding).startswith("0.yaml:6:9 spec.type warning: runs on all of the router")
    assert not validate(source_of(own(more="cgroup: /"))).findings
    assert not validate(source_of(own(), policy())).findings


@pytest.mark.parametrize("size", [0, 3, 40, 63, 64, 500])
def test_a_file_that_is_no_object(size: int) -> None:
    content = own_object()[:size]
    (finding,) = errors_of(validate(source_of(own(), **{"own.o": content})).findings)
    assert "spec.source.object" in str(finding)
    assert '"own.o" is no BPF object file' in str(finding)

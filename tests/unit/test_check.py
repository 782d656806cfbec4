"""Checks over all manifests together. tests/golden/invalid has the messages."""

from __future__ import annotations

import pytest

from fos1d.kinds.check import MOST_FINDINGS, check
from fos1d.kinds.check.contest import disjoint
from fos1d.kinds.meta import LabelSelector
from fos1d.model.diagnostic import Diagnostic
from fos1d.model.identity import ResourceId
from tests.manifests import declared, manifest

XDP = "type: xdp\ninterface: eth0\n"
TRIE = "type: lpm_trie\nmaxEntries: 8\nkeySize: 8\nvalueSize: 4\n"
HASH = "type: hash\nmaxEntries: 8\nkeySize: 4\nvalueSize: 4\n"
WITH_MAP = XDP + "settings: {blacklist: {enabled: true, mapRef: table}}"


def judge(*texts: str, files: tuple[str, ...] = (), path: str = "a.yaml") -> list[Diagnostic]:
    return check(declared(*texts, path=path), files)


def said(findings: list[Diagnostic]) -> list[str]:
    return [str(finding) for finding in findings]


def test_nothing_is_said_of_what_is_right() -> None:
    assert (
        judge(
            manifest("EBPFProgram", WITH_MAP, "filter"),
            manifest("EBPFMap", TRIE + "accessedBy: [filter]", "table"),
        )
        == []
    )


def test_the_later_of_two_with_one_name_is_told() -> None:
    text = manifest("EBPFProgram", XDP)
    (finding,) = check([*declared(text, path="b.yaml"), *declared(text, path="a.yaml")], ())
    assert str(finding) == (
        "b.yaml:4:9 metadata.name EBPFProgram/default/x is declared at a.yaml:1:1 already;"
        " rename one"
    )


def test_the_same_name_elsewhere_is_another_resource() -> None:
    assert (
        judge(
            manifest("EBPFProgram", XDP),
            manifest("EBPFMap", HASH),
            manifest("EBPFProgram", XDP, metadata="namespace: prod"),
        )
        == []
    )


def test_what_is_declared_invalidly_is_declared() -> None:
    declarations = declared(manifest("EBPFProgram", WITH_MAP))
    assert len(check(declarations, ())) == 1
    assert check(declarations, (), invalid=[ResourceId("EBPFMap", "default", "table")]) == []
    (finding,) = check(declarations, (), complete=False)
    assert finding.message.endswith("(it may be in one of the documents that could not be read)")


def test_files() -> None:
    lists = "settings: {blacklist: {enabled: true, files: [./a.txt, lists/b.txt]}}"
    text = manifest("EBPFProgram", XDP + lists)
    assert judge(text, files=("policy/a.txt", "lists/b.txt"), path="policy/p.yaml") == []
    assert said(judge(text, files=("policy/b.txt", "lists/b.txt"), path="policy/p.yaml")) == [
        "policy/p.yaml:8:49 spec.settings.blacklist.files[0] the source has no file"
        ' "policy/a.txt"; did you mean "policy/b.txt"?'
    ]


def queue(name: str, selector: str = "") -> str:
    more = f"\nnodeSelector: {selector}" if selector else ""
    return manifest(
        "EBPFTrafficControl",
        f"interface: eth0\ndirection: egress{more}\nfilters: []\n"
        "queueingDiscipline: {type: fq_codel}",
        name,
    )


@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        ("", "", "error"),
        ("", "{matchLabels: {site: fra}}", "error"),
        ("{matchLabels: {site: fra}}", "{matchLabels: {site: fra}}", "error"),
        ("{matchLabels: {site: fra}}", "{matchLabels: {site: ams}}", None),
        ("{matchLabels: {site: fra}}", "{matchLabels: {role: edge}}", "warning"),
    ],
)
def test_two_that_want_one_thing(one: str, other: str, outcome: str | None) -> None:
    findings = judge(queue("b", one), queue("a", other))
    assert [str(finding.severity) for finding in findings] == ([outcome] if outcome else [])
    assert [finding.resource for finding in findings] == [
        ResourceId("EBPFTrafficControl", "default", "b")
    ] * len(findings)


def expression(key: str, operator: str, *values: str) -> dict[str, object]:
    written: dict[str, object] = {"key": key, "operator": operator}
    return {"matchExpressions": [written | ({"values": list(values)} if values else {})]}


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ({}, {}, False),
        ({"matchLabels": {"a": "1"}}, {}, False),
        ({"matchLabels": {"a": "1"}}, {"matchLabels": {"a": "2"}}, True),
        ({"matchLabels": {"a": "1"}}, {"matchLabels": {"b": "2"}}, False),
        ({"matchLabels": {"a": "1"}}, expression("a", "In", "2", "3"), True),
        ({"matchLabels": {"a": "1"}}, expression("a", "In", "1", "3"), False),
        ({"matchLabels": {"a": "1"}}, expression("a", "NotIn", "1"), True),
        ({"matchLabels": {"a": "1"}}, expression("a", "DoesNotExist"), True),
        (expression("a", "Exists"), expression("a", "DoesNotExist"), True),
        (expression("a", "In", "1"), expression("a", "In", "2"), True),
        (expression("a", "In", "1", "2"), expression("a", "NotIn", "1", "2", "3"), True),
        (expression("a", "NotIn", "1"), expression("a", "NotIn", "2"), False),
        (expression("a", "NotIn", "1"), expression("a", "DoesNotExist"), False),
    ],
)
def test_selectors_apart(one: dict[str, object], other: dict[str, object], apart: bool) -> None:
    ours, theirs = LabelSelector.model_validate(one), LabelSelector.model_validate(other)
    assert disjoint(ours, theirs) is apart
    assert disjoint(theirs, ours) is apart
    assert not disjoint(ours, None)


def dnat(name: str, ports: str, priority: int = 100, more: str = "") -> str:
    return manifest(
        "EBPFNATPolicy",
        f"type: dnat\ninterface: eth0\nexternalIP: 192.0.2.1\npriority: {priority}\n{more}"
        f"portMappings: [{{protocol: tcp, externalPort: '{ports}', internalIP: 10.0.0.1}}]",
        name,
    )


@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        (dnat("a", "80"), dnat("b", "80"), ["b error"]),
        (dnat("a", "80-90"), dnat("b", "85"), ["b error"]),
        (dnat("a", "80"), dnat("b", "81"), []),
        (dnat("a", "80", 200), dnat("b", "80", 100), ["a warning"]),
        (dnat("a", "1-65535"), dnat("b", "443"), ["b error"]),
        (dnat("a", "443"), dnat("b", "1-65535"), ["b error"]),
        (
            dnat("a", "80", more="nodeSelector: {matchLabels: {s: a}}\n"),
            dnat("b", "80", more="nodeSelector: {matchLabels: {s: b}}\n"),
            [],
        ),
    ],
)
def test_external_ports(one: str, other: str, outcome: list[str]) -> None:
    findings = judge(one, other)
    names = [finding.resource.name for finding in findings if finding.resource]
    assert [f"{n} {f.severity}" for n, f in zip(names, findings, strict=True)] == outcome


def test_a_policy_translates_in_place_too() -> None:
    inline = manifest(
        "EBPFNetworkPolicy",
        "policyType: nat\nnat: {type: dnat, interface: eth0, externalIP: 192.0.2.1,"
        " portMappings: [{protocol: tcp, externalPort: 80, internalIP: 10.0.0.1}]}",
    )
    (finding,) = judge(inline, dnat("a", "80"))
    assert finding.resource == ResourceId("EBPFNetworkPolicy", "default", "x")
    assert finding.field == "spec.nat.portMappings[0].externalPort"


def snat(name: str, sources: str, more: str = "") -> str:
    address = f"192.0.2.{ord(name)}"
    return manifest(
        "EBPFNATPolicy",
        f"type: snat\ninterface: eth0\nexternalIP: {address}\nsourceAddresses: [{sources}]\n{more}",
        name,
    )


@pytest.mark.parametrize(
    ("one", "other", "warned"),
    [
        (snat("a", "10.0.0.0/8"), snat("b", "10.1.0.0/16"), ["b"]),
        (snat("a", "10.1.0.0/16"), snat("b", "10.0.0.0/8"), []),
        (snat("a", "10.0.0.0/8"), snat("b", "11.0.0.0/8"), []),
        (snat("a", "10.0.0.0/8", "excludeAddresses: [10.1.0.0/16]"), snat("b", "10.1.0.0/16"), []),
        (snat("a", "10.0.0.0/8"), snat("b", "10.1.0.0/16", "priority: 5"), []),
    ],
)
def test_sources(one: str, other: str, warned: list[str]) -> None:
    findings = judge(one, other)
    assert [finding.resource.name for finding in findings if finding.resource] == warned


def pinned(name: str, path: str) -> str:
    return manifest("EBPFMap", f"{HASH}pinPath: /sys/fs/bpf/{path}", name)


@pytest.mark.parametrize(
    ("one", "other", "losers"),
    [
        ("shared", "shared", ["b"]),
        ("shared", "shared/below", ["b"]),
        ("shared/below", "shared", ["b"]),
        ("shared", "shared2", []),
        ("folder/a", "folder/b", []),
    ],
)
def test_pins(one: str, other: str, losers: list[str]) -> None:
    findings = judge(pinned("b", other), pinned("a", one))
    assert [finding.resource.name for finding in findings if finding.resource] == losers


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ("{}", False),
        ("{blacklist: {enabled: true}}", False),
        ("{blacklist: {enabled: false}}", True),
    ],
)
def test_a_map_of_a_program_whose_blacklist_is_off(settings: str, warned: bool) -> None:
    findings = judge(
        manifest("EBPFProgram", f"{XDP}settings: {settings}", "filter"),
        manifest("EBPFMap", TRIE + "accessedBy: [filter]"),
    )
    assert bool(findings) is warned


def test_a_users_own_program_may_use_any_map() -> None:
    own = f"{XDP}source: {{object: a.o, program: f}}"
    texts = (
        manifest("EBPFProgram", own, "own"),
        manifest("EBPFMap", HASH + "accessedBy: [own]"),
        manifest("EBPFMap", TRIE.replace("4", "16") + "accessedBy: [own]", "other"),
    )
    assert judge(*texts, files=("a.o",)) == []


def test_findings_of_a_declaration_are_limited() -> None:
    names = ", ".join(f"p{i}" for i in range(500))
    findings = judge(manifest("EBPFMap", f"{HASH}accessedBy: [{names}]"))
    assert len(findings) == MOST_FINDINGS + 1


def test_references_that_lead_nowhere_get_a_hint() -> None:
    other = manifest("EBPFMap", TRIE, "table", "namespace: prod")
    (finding,) = judge(manifest("EBPFProgram", WITH_MAP), other)
    assert finding.message == (
        'there is no EBPFMap "table" in name space default; one is in prod, but references stay in'
        " their name space"
    )
    (finding,) = judge(manifest("EBPFProgram", WITH_MAP), manifest("EBPFMap", TRIE, "tables"))
    assert finding.message.endswith('; did you mean "tables"?')


def rules(count: int, priority: int, extra: str = "") -> str:
    return f"policyType: filtering\npriority: {priority}\n{extra}ingress: [{'{}, ' * count}]"


def test_rules_without_room_are_told_by_their_policy() -> None:
    texts = [
        manifest("EBPFNetworkPolicy", rules(9000, 2), "late"),
        manifest("EBPFNetworkPolicy", rules(9000, 1), "early"),
    ]
    (finding,) = judge(*texts)
    assert finding.resource == ResourceId("EBPFNetworkPolicy", "default", "late")
    assert "from [7384] on" in finding.message and "16,384" in finding.message
    assert judge(texts[0], manifest("EBPFNetworkPolicy", rules(7384, 1), "early")) == []


def test_rules_of_different_routers_are_not_added_up() -> None:
    site = "nodeSelector: {{matchLabels: {{site: {}}}}}\n".format
    texts = [manifest("EBPFNetworkPolicy", rules(9000, 1, site(n)), n) for n in ("fra", "ams")]
    assert judge(*texts) == []
    everywhere = manifest("EBPFNetworkPolicy", rules(8000, 0), "all")
    assert [found.resource.name for found in judge(*texts, everywhere) if found.resource] == [
        "fra",
        "ams",
    ]

"""Metadata, selectors, and the tables of the kinds."""

from __future__ import annotations

import pytest

from fos1d.kinds import KINDS, find_kind, kind_words
from fos1d.kinds.files import resolve
from fos1d.kinds.meta import LabelSelector, camel
from fos1d.kinds.program import EBPFProgram
from fos1d.model.identity import ResourceId
from tests.manifests import declared, found, manifest

XDP = "type: xdp\ninterface: eth0"


def test_kinds_have_the_names_that_people_type() -> None:
    words = {
        "EBPFProgram": ("ebpfprogram", "ebpfprograms", "ebpf"),
        "EBPFMap": ("ebpfmap", "ebpfmaps", "ebpfmap"),
        "EBPFNetworkPolicy": ("ebpfnetworkpolicy", "ebpfnetworkpolicies", "enpol"),
        "EBPFTrafficControl": ("ebpftrafficcontrol", "ebpftrafficcontrols", "etcl"),
        "EBPFNATPolicy": ("ebpfnatpolicy", "ebpfnatpolicies", "enat"),
        "EBPFContainerPolicy": ("ebpfcontainerpolicy", "ebpfcontainerpolicies", "ecpol"),
    }
    assert {k.name: (k.singular, k.plural, k.short) for k in KINDS} == words
    for name, known in words.items():
        for word in (name, *known, known[1].upper()):
            kind = find_kind(word)
            assert kind is not None
            assert kind.name == name
    assert find_kind("pods") is None
    assert "enpol" in kind_words()


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("class_id", "classID"),
        ("external_ip", "externalIP"),
        ("connections_per_ip", "connectionsPerIP"),
        ("enable_qos", "enableQoS"),
        ("except_", "except"),
        ("id", "id"),
        ("icmp_type", "icmpType"),
        ("prefix64", "prefix64"),
    ],
)
def test_fields_are_written_in_camel_case(name: str, written: str) -> None:
    assert camel(name) == written


def test_metadata() -> None:
    metadata = """
        namespace: prod
        labels: {app.kubernetes.io/name: "web", tier: ""}
        annotations: {note: "free text: anything\\n"}
        """
    (declaration,) = declared(manifest("EBPFProgram", XDP, "a.b-c.0", metadata))
    assert declaration.id == ResourceId("EBPFProgram", "prod", "a.b-c.0")
    assert declaration.resource.metadata.labels == {"app.kubernetes.io/name": "web", "tier": ""}


def test_the_name_space_defaults() -> None:
    (declaration,) = declared(manifest("EBPFProgram", XDP))
    assert str(declaration.id) == "EBPFProgram/default/x"


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a..b", "ü", "a b", "a/b", '""'])
def test_bad_names(name: str) -> None:
    assert len(found(manifest("EBPFProgram", XDP, name))) == 1


@pytest.mark.parametrize(
    ("labels", "valid"),
    [
        ({"site": "fra"}, True),
        ({"site": "fra", "more": "x"}, True),
        ({"site": "ams"}, False),
        ({"site": "fra", "role": "lab"}, False),
        ({"site": "fra", "retired": ""}, False),
        ({}, False),
    ],
)
def test_selectors(labels: dict[str, str], valid: bool) -> None:
    selector = LabelSelector.model_validate(
        {
            "matchLabels": {"site": "fra"},
            "matchExpressions": [
                {"key": "role", "operator": "NotIn", "values": ["lab", "spare"]},
                {"key": "retired", "operator": "DoesNotExist"},
                {"key": "site", "operator": "In", "values": ["fra", "ams"]},
                {"key": "site", "operator": "Exists"},
            ],
        }
    )
    assert selector.selects(labels) is valid


def test_an_empty_selector_selects_everything() -> None:
    assert LabelSelector().selects({})


def test_every_kind_takes_a_node_selector() -> None:
    for kind in KINDS:
        spec = kind.model.model_fields["spec"].annotation
        assert isinstance(spec, type)
        assert "node_selector" in spec.model_fields


@pytest.mark.parametrize(
    ("manifest_path", "reference", "path"),
    [
        ("policy/a.yaml", "lists/x", "lists/x"),
        ("policy/a.yaml", "./x", "policy/x"),
        ("policy/eu/a.yaml", "../lists/x", "policy/lists/x"),
        ("policy/eu/a.yaml", "../../x", "x"),
        ("a.yaml", "./x", "x"),
        ("a.yaml", "lists/../x", "x"),
        ("a.yaml", "lists/./x", "lists/x"),
    ],
)
def test_files_are_found(manifest_path: str, reference: str, path: str) -> None:
    assert resolve(manifest_path, reference) == path


@pytest.mark.parametrize("reference", ["../x", "./../x", "a/../../x", "/etc/passwd", ".", "a/.."])
def test_files_stay_in_the_source(reference: str) -> None:
    with pytest.raises(ValueError, match="source"):
        resolve("a.yaml", reference)


def test_resources_are_frozen_values() -> None:
    (one,), (other,) = (declared(manifest("EBPFProgram", XDP)) for _ in range(2))
    assert one.resource == other.resource
    assert one.digest == other.digest
    assert isinstance(one.resource, EBPFProgram)
    with pytest.raises(ValueError, match="frozen"):
        setattr(one.resource.spec, "priority", 5)  # noqa: B010


def test_the_digest_is_about_the_spec_only() -> None:
    texts = [
        manifest("EBPFProgram", XDP),
        manifest("EBPFProgram", "interface: eth0\ntype: 'xdp'", "other", "labels: {a: b}"),
        manifest("EBPFProgram", "interface: eth1\ntype: xdp"),
    ]
    one, same, different = (declared(text)[0].digest for text in texts)
    assert one == same != different


def test_a_declaration_knows_what_was_written_and_where() -> None:
    first = manifest("EBPFProgram", "type: xdp\ninterface: eth0", "first")
    second = manifest("EBPFProgram", "type: xdp\ninterface: eth1", "second")
    _, declaration = declared(first, second)
    assert declaration.document["spec"] == {"type": "xdp", "interface": "eth1"}
    assert str(declaration.origin) == "a.yaml:9:1"
    assert str(declaration.where(("spec", "interface"))) == "a.yaml:15:14"
    assert str(declaration.where(("spec", "interface"), key=True)) == "a.yaml:15:3"

"""Files of manifests: everything wrong is found at once, in an operator's words."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fos1d.kinds import BY_NAME, KINDS, declaration
from fos1d.kinds.messages import HANDLED, model_at, paths_to
from fos1d.kinds.parse import MOST_FINDINGS, parse_file
from fos1d.manifest import loader
from fos1d.model.identity import ResourceId
from tests.manifests import found, manifest

ROOT = Path(__file__).parents[2]
SEEDS = sorted(
    [*(ROOT / "tests/golden/guide").glob("*.yaml"), *(ROOT / "examples/kinds").glob("*.yaml")]
)
DOCUMENTS: list[Any] = [
    document for path in SEEDS for document in yaml.safe_load_all(path.read_text())
]
WRONG: list[Any] = [None, True, -1, 0, 5, 10**19, "", "x", "0x1", "1Mbps", [], {}, [None], {"a": 1}]
JARGON = re.compile(
    r"[Ii]nput should|valid (string|integer|boolean|dictionary|tuple|list)|[Vv]alue error|pydantic"
    r"|NoneType|<class|dict_type|instance of|Extra inputs|Field required"
    r"|\bNone\b|\bTrue\b|\bFalse\b"
)


def places(value: Any, loc: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of everything in a document."""
    yield loc
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for step, inner in items:
            yield from places(inner, (*loc, step))


def changed(document: Any, loc: tuple[str | int, ...], value: Any) -> Any:
    """Return the document with another value at `loc`."""
    result = copy.deepcopy(document)
    inner = result
    for step in loc[:-1]:
        inner = inner[step]
    inner[loc[-1]] = value
    return result


def all_changes() -> Iterator[Any]:
    """Yield every document with a wrong value in every place, and with unknown fields."""
    for document in DOCUMENTS:
        for loc in places(document):
            for value in WRONG if loc else ():
                yield changed(document, loc, value)
            if isinstance(_at(document, loc), dict):
                yield changed(document, (*loc, "nonsense"), 1)


def _at(document: Any, loc: tuple[str | int, ...]) -> Any:
    for step in loc:
        document = document[step]
    return document


def test_no_change_makes_it_crash_or_speak_of_python() -> None:
    for document in islice(all_changes(), 0, None, 3):
        for finding in parse_file("a.yaml", json.dumps(document).encode()).findings:
            assert not JARGON.search(finding.message), finding
            assert finding.message
            assert finding.origin.line >= 1


def test_every_error_type_has_a_message() -> None:
    seen = set()
    for document in all_changes():
        kind = BY_NAME.get(document["kind"]) if isinstance(document.get("kind"), str) else None
        if kind is None:
            continue
        try:
            kind.model.model_validate(document)
        except ValidationError as error:
            seen |= {details["type"] for details in error.errors()}
    assert seen == HANDLED


def test_findings_carry_the_resource_where_it_can_be_read() -> None:
    broken = manifest("EBPFMap", "type: hash", "table", "namespace: prod")
    nameless = manifest("EBPFMap", "type: hash", "Bad Name")
    flawed = manifest("EBPFMap", "type: hash\nmaxEntries: 022\nkeySize: 4\nvalueSize: 4", "flawed")
    text = "---\n".join((broken, nameless, flawed))
    found_ids = {finding.resource for finding in parse_file("a.yaml", text.encode()).findings}
    assert found_ids == {
        ResourceId("EBPFMap", "prod", "table"),
        ResourceId("EBPFMap", "default", "flawed"),
        None,
    }


def test_good_documents_beside_bad_ones_are_declared() -> None:
    good = manifest("EBPFProgram", "type: xdp\ninterface: eth0", "good")
    bad = manifest("EBPFProgram", "type: xpd", "bad")
    parsed = parse_file("a.yaml", f"{bad}---\n{good}---\n{bad}".encode())
    assert [declaration.id.name for declaration in parsed.declarations] == ["good"]
    assert {finding.origin.line for finding in parsed.findings} == {6, 21}


def test_a_flawed_value_is_told_once() -> None:
    assert found(manifest("EBPFMap", "type: hash\nmaxEntries: 022\nkeySize: 4\nvalueSize: 4")) == [
        'spec.maxEntries unquoted "022" is octal (18) to some readers of YAML, decimal to others;'
        ' write 18 or 22 or "022" in quotes for text'
    ]


def test_findings_of_a_document_are_limited() -> None:
    entries = "\n".join(f"  - {{key: x{i}, value: 1}}" for i in range(1000))
    text = manifest(
        "EBPFMap", f"type: hash\nmaxEntries: 2000\nkeySize: 4\nvalueSize: 4\ninitData:\n{entries}"
    )
    findings = parse_file("a.yaml", text.encode()).findings
    assert len(findings) == MOST_FINDINGS + 1
    assert findings[0].message == "has more errors, which are not shown"


def test_status_is_ignored_with_a_warning() -> None:
    text = manifest("EBPFProgram", "type: xdp\ninterface: eth0") + "status: {state: Active}\n"
    parsed = parse_file("a.yaml", text.encode())
    assert len(parsed.declarations) == 1
    assert [str(finding) for finding in parsed.findings] == [
        "a.yaml:8:1 status warning: is ignored: status is what the daemon reports"
    ]


def test_unknown_fields_are_looked_for_elsewhere() -> None:
    said = found(manifest("EBPFProgram", "type: xdp\ninterface: eth0\nburst: 5\nfoo: 1"))
    assert said[0] == (
        "spec.burst unknown field here; did you mean spec.settings.rateLimiting.burst?"
    )
    assert said[1].startswith("spec.foo unknown field; fields here: description, nodeSelector, ")


def test_models_are_found_by_place() -> None:
    queue = BY_NAME["EBPFTrafficControl"].model
    police = model_at(queue, ("spec", "filters", 3, "action", "police"))
    assert police is not None
    assert police.__name__ == "Police"
    assert model_at(queue, ("spec", "interface")) is None
    assert model_at(queue, ("nonsense", 5)) is None
    assert ("spec", "filters", "action", "police", "exceed") in list(paths_to("exceed", queue))


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed(data: bytes) -> None:
    parse_file("a.yaml", data)


@given(
    st.sampled_from(KINDS),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "settings", "ips", "filters", "match", "initData", "key"])
                | st.text(max_size=8),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
)
def test_any_spec_is_parsed(kind: Any, spec: Any) -> None:
    document = {"apiVersion": "networking.fos1.io/v1alpha1", "kind": kind.name, "spec": spec}
    for text in (yaml.safe_dump(document), yaml.safe_dump(document, default_style='"')):
        for finding in parse_file("a.yaml", text.encode()).findings:
            assert not re.search("pydantic|Input should", finding.message)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_positions_are_those_of_the_right_document(size: int) -> None:
    good = manifest("EBPFProgram", "type: xdp\ninterface: eth0", "good")
    bad = manifest("EBPFProgram", "type: xdp\ninterface: [eth0]", "bad")
    text = "---\n".join([*(good.replace("good", f"good-{i}") for i in range(size)), bad])
    (finding,) = parse_file("a.yaml", text.encode()).findings
    assert (finding.origin.line, finding.origin.column) == (7 + 8 * size, 14)


def test_the_places_of_a_lists_items_are_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compose = mock.Mock(side_effect=loader.places)
    monkeypatch.setattr(declaration, "places", compose)
    rules = "".join(f"- {{ports: [{{port: {n}}}]}}\n" for n in range(1, 50))
    text = manifest("EBPFNetworkPolicy", f"policyType: filtering\ningress:\n{rules}")
    (made,) = parse_file("a.yaml", text.encode()).declarations
    lines = [made.where(("spec", "ingress", index)).line for index in range(49)]
    assert lines == list(range(8, 57))
    assert compose.call_count == 1
    assert made.where(("spec", "ingress", 60)).line == 7

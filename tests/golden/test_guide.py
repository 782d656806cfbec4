"""The manifests of the user's guide, as they stand there, and the examples: all are valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from fos1d.cli.collect import collect
from fos1d.kinds import KINDS, Kind, Resource
from fos1d.kinds.filters import FilterAction
from fos1d.kinds.traffic_control import EBPFTrafficControl
from fos1d.kinds.validate import validate

GUIDE = Path(__file__).parent / "guide"
EXAMPLES = Path(__file__).parents[2] / "examples" / "kinds"
FILES = sorted(GUIDE.glob("*.yaml"))


def test_the_whole_guide() -> None:
    result = validate(collect([GUIDE]).snapshot)
    assert [str(finding) for finding in result.findings] == []
    assert len(result.declarations) == 7
    assert {declaration.id.kind for declaration in result.declarations} == {k.name for k in KINDS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_manifest_alone(path: Path) -> None:
    result = validate(collect([path]).snapshot)
    assert result.valid
    assert [finding.field for finding in result.findings] == (
        ["spec.accessedBy[0]"] if path.stem == "blacklist-map" else []
    )


def resource_of(stem: str) -> Resource:
    (declaration,) = validate(collect([GUIDE / f"{stem}.yaml"]).snapshot).declarations
    return declaration.resource


def test_a_mark_is_a_dscp() -> None:
    queue = resource_of("egress-quality-of-service")
    assert isinstance(queue, EBPFTrafficControl)
    assert queue.spec.filters[0].action == FilterAction(type="mark", mark=46)
    assert queue.spec.filters[0].class_id == 10


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_each_kind_has_an_example(kind: Kind) -> None:
    result = validate(collect([EXAMPLES]).snapshot)
    assert [str(finding) for finding in result.findings] == []
    assert kind.name in {declaration.id.kind for declaration in result.declarations}

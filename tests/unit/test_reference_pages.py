"""docs/reference: the generated pages say what the schemas say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from fos1d.kinds import KINDS
from fos1d.kinds.messages import field_names
from fos1d.quantity import RATE, SIZE, TIME

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def generator() -> ModuleType:
    """Import docs/reference/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", REFERENCE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_up_to_date() -> None:
    pages = generator().pages()
    assert {f"{kind.slug}.md" for kind in KINDS} < set(pages)
    for name, text in pages.items():
        assert (REFERENCE / name).read_text() == text, "run docs/reference/generate.py"


def test_every_field_is_explained() -> None:
    for kind in KINDS:
        text = (REFERENCE / f"{kind.slug}.md").read_text()
        spec = kind.model.model_fields["spec"].annotation
        assert isinstance(spec, type)
        for name in field_names(spec):
            assert f"| `{name}` |" in text
        fields = text.partition("## Fields")[2].partition("##")[0]
        assert "|  |\n" not in fields


def test_every_unit_is_named() -> None:
    text = (REFERENCE / "quantities.md").read_text()
    for scale in (RATE, SIZE, TIME):
        for unit in scale.units:
            assert f"`{unit}`" in text

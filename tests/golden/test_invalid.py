"""Manifests that are wrong or odd, each with all that `fos1ctl validate` says of them.

`invalid/` has errors, `odd/` only warnings. With UPDATE=1 in the environment the expected.txt files
are written anew; read what changes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fos1d.cli.collect import collect
from fos1d.kinds.validate import Validated, validate

HERE = Path(__file__).parent


def cases(folder: str) -> list[Path]:
    return sorted(path for path in (HERE / folder).iterdir() if path.is_dir())


def judge(case: Path) -> Validated:
    result = validate(collect([case]).snapshot)
    said = "".join(f"{finding}\n" for finding in result.findings)
    expected = case / "expected.txt"
    if os.environ.get("UPDATE"):
        expected.write_text(said)
    assert said == expected.read_text()
    return result


@pytest.mark.parametrize("case", cases("invalid"), ids=lambda case: case.name)
def test_says_what_is_wrong(case: Path) -> None:
    assert not judge(case).valid


@pytest.mark.parametrize("case", cases("odd"), ids=lambda case: case.name)
def test_says_what_is_odd(case: Path) -> None:
    result = judge(case)
    assert result.valid
    assert result.findings


def test_there_are_many() -> None:
    assert len(cases("invalid")) >= 80

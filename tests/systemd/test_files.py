"""The files that an installation puts in place, without installing them."""

from __future__ import annotations

import re

from fos1d.settings import Settings, parse
from tests.running import ROOT


def test_the_settings_file_holds_the_defaults() -> None:
    text = (ROOT / "packaging/fos1d.toml").read_text()
    assert parse(text, "fos1d.toml") == Settings()
    kept = [
        line for line in text.splitlines() if not re.search(r'"git"|policy\.git|edge-1|fra', line)
    ]
    plain = "\n".join(re.sub(r"^#(?=\w+ = )", "", line) for line in kept)
    assert "\nresync = " in plain
    assert parse(plain, "fos1d.toml") == Settings()

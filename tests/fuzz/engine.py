"""One target under atheris, in a process of its own: engine.py TARGET [PIN...] -- OPTIONS."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fos1d", "tests.frames", "tests.fuzz"]):
    from tests.fuzz import manifests, netset, packets


def main() -> None:
    """Fuzz until the time is over; a failed check ends the process with its input written."""
    split = sys.argv.index("--")
    name, pins, options = sys.argv[1], sys.argv[2:split], sys.argv[split + 1 :]
    words = [sys.argv[0], *options]
    if name == "packets":
        with packets.opened([Path(pin) for pin in pins]) as target:
            _fuzz(words, target.check)
    else:
        _fuzz(words, {"manifests": manifests.check, "netset": netset.check}[name])


def _fuzz(words: list[str], check: object) -> None:
    atheris.Setup(words, check)
    atheris.Fuzz()


main()

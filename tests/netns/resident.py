"""A program in a cgroup and a network namespace of a test's choice, which does what it is told.

    with resident(cgroup, namespace) as one: one("serve", "::", 5432)

Orders and answers are lines of JSON: [name, arguments…] and a value.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Namespace
from tests.netns import orders
from tests.running import ROOT

PROGRAM = (sys.executable, "-m", orders.__name__)


@dataclass(frozen=True)
class Resident:
    """A program that obeys."""

    process: subprocess.Popen[bytes]

    def __call__(self, name: str, *words: str | int) -> Any:
        """Give an order and return the answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([name, *words]).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{name}{words}: it has ended"
        return json.loads(line)


@contextmanager
def resident(cgroup: Path, namespace: Namespace) -> Iterator[Resident]:
    """Start such a program, and end it."""
    procs = cgroup / "cgroup.procs"
    process = subprocess.Popen(
        [*namespace.prefix(), *PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        preexec_fn=lambda: (procs.write_text("0"), None)[1],
    )
    try:
        made = Resident(process)
        assert made("ready")
        yield made
    finally:
        process.kill()
        process.communicate()

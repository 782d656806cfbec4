"""Manifests: whatever the bytes, they are read or refused, in time, and at a place within them."""

from __future__ import annotations

from collections.abc import Sequence

from fos1d import abi
from fos1d.errors import Fos1Error
from fos1d.kernel.simulated import SimulatedKernel
from fos1d.kinds.parse import parse_file
from fos1d.model.diagnostic import Diagnostic
from fos1d.model.facts import Facts, Interface
from fos1d.reconcile import Memory, Options, reconcile
from tests.applied import snapshot

LISTS = {"lists/drop.netset": "192.0.2.0/24\n2001:db8::/32\n", "count.c": "int x;\n"}
MACHINE = Facts(
    {name: Interface(name, index) for index, name in enumerate(("eth0", "wan0"), 1)},
    objects=dict.fromkeys(abi.MAPS, "0" * 64),
)


def check(data: bytes) -> None:
    """Parse the file by itself, then have a pass made with it; both must not raise."""
    parsed = parse_file("a.yaml", data)
    check_places(data, parsed.findings)
    try:
        make_two_passes(data)
    except Fos1Error as error:
        assert str(error), "an error without a message"


def make_two_passes(data: bytes) -> None:
    """Make two passes on a simulated kernel; the second must find nothing to do."""
    memory, kernel = Memory(), SimulatedKernel(machine=MACHINE)
    options = Options(prune_limit_percent=100)
    read = snapshot({"a.yaml": data, **LISTS})
    first = reconcile(read, memory, kernel, options, 0.0, True)
    check_places(data, [f for f in first.admission.findings if f.origin.path == "a.yaml"])
    second = reconcile(read, memory, kernel, options, 1.0, True)
    again = [action for action in second.plan.actions if action not in first.plan.actions]
    assert not again, f"the second pass has news: {again}"


def check_places(data: bytes, findings: Sequence[Diagnostic]) -> None:
    """Every finding stands on a character of the text, or just behind a line."""
    lines = lines_of(data)
    for finding in findings:
        line, column = finding.origin.line, finding.origin.column
        assert 1 <= line <= len(lines), f"{finding}: the text has {len(lines)} lines"
        assert 1 <= column <= len(lines[line - 1]) + 1, f"{finding}: beyond its line"
        assert "\n" not in str(finding) and finding.message, repr(finding)


def lines_of(data: bytes) -> list[str]:
    """Split as YAML 1.1 does, which an editor may not: at NEL, LS and PS too."""
    text = data.decode(encoding_of(data), "replace").removeprefix("\ufeff")
    for end in ("\r\n", "\r", "\x85", "\u2028", "\u2029"):
        text = text.replace(end, "\n")
    return text.split("\n")


def encoding_of(data: bytes) -> str:
    """Guess as libyaml does: by the byte order mark."""
    marks = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
    return marks.get(data[:2], "utf-8")

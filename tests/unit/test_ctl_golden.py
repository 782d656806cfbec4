"""What fos1ctl prints, whole: tests/golden/ctl/*.txt, and the same text in docs/.

With UPDATE=1 in the environment the texts are written anew; read what changes.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fos1d.report.desk import PlanView
from tests.ctl_router import Router, Said, running_router
from tests.fake_desk import (
    BLACKLIST,
    BROKEN,
    COMMIT,
    COUNTERS,
    FILTER,
    NOW,
    WAN,
    FakeDesk,
    healthy,
    router,
)

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "ctl"


def _well(desk: FakeDesk) -> None:
    desk.publish(healthy())


def _beginning(desk: FakeDesk) -> None:
    desk.publish(replace(router(), passes=0, resources={}, findings=(), last_pass_s=0.0))


def _trouble(desk: FakeDesk) -> None:
    world = replace(healthy(), held=(WAN, COUNTERS), suspended_until_s=NOW + 3600)
    source = replace(world.source, error="/srv/policy.git: not a Git repository")
    desk.publish(replace(world, source=source))


def _in_step(desk: FakeDesk) -> None:
    desk.planned = PlanView(COMMIT)


def _invalid(desk: FakeDesk) -> None:
    desk.planned = PlanView(COMMIT, findings=(BROKEN,), kept=(BROKEN.resource or FILTER,))


def _held(desk: FakeDesk) -> None:
    desk.publish(replace(desk.now, held=(BLACKLIST,)))


def _silent(desk: FakeDesk) -> None:
    desk.happened = ()


Change = Callable[[FakeDesk], None]


@dataclass(frozen=True)
class Case:
    """A command line, and how the router is before it."""

    words: str
    before: Change = lambda desk: None


CASES = {
    "get-all": Case("get all"),
    "get-all-wide": Case("get all -A -o wide"),
    "get-programs": Case("get ebpfprograms"),
    "get-programs-wide": Case("get ebpf -o wide"),
    "get-maps-wide": Case("get ebpfmaps -o wide"),
    "get-selected": Case("get ebpf -l app=edge,tier!=inner"),
    "get-two-kinds": Case("get ebpf/edge-filter ebpfmap/blacklist-map"),
    "get-names": Case("get all -A -o name"),
    "get-yaml": Case("get ebpfmap blacklist-map -o yaml"),
    "get-json": Case("get ebpfmap -n lab -o json"),
    "get-missing": Case("get ebpfmap blacklist-map nope"),
    "get-elsewhere": Case("get ebpfprogram/own-code"),
    "get-nothing": Case("get ebpfmap -n nowhere"),
    "describe-program": Case("describe ebpfprogram/edge-filter"),
    "describe-map": Case("describe ebpfmap/blacklist-map"),
    "describe-waiting": Case("describe ebpfprogram/wan-filter"),
    "describe-refused": Case("describe ebpfprogram/own-code -n lab"),
    "describe-invalid": Case("describe ebpfprogram/typo"),
    "status": Case("status"),
    "status-well": Case("status", _well),
    "status-beginning": Case("status", _beginning),
    "status-trouble": Case("status", _trouble),
    "diff": Case("diff"),
    "diff-none": Case("diff", _in_step),
    "diff-invalid": Case("diff", _invalid),
    "diff-json": Case("diff -o json", _in_step),
    "events": Case("events"),
    "events-one": Case("events ebpfprogram/edge-filter"),
    "events-none": Case("events", _silent),
    "logs": Case("logs"),
    "logs-one": Case("logs ebpfprogram own-code -n lab"),
    "history": Case("history"),
    "reconcile": Case("reconcile"),
    "reconcile-wait": Case("reconcile --wait", _well),
    "suspend": Case("suspend --for 2h"),
    "suspend-no-end": Case("suspend"),
    "resume": Case("resume"),
    "confirm": Case("confirm", _held),
    "confirm-none": Case("confirm"),
    "wait": Case("wait --for=condition=Ready ebpfprogram/edge-filter"),
    "wait-late": Case("wait --for=condition=Ready ebpfprogram/wan-filter --timeout 100ms"),
    "wait-absent": Case("wait --for=condition=Ready ebpfmap/nope --timeout 100ms"),
    "wait-deleted": Case("wait --for=delete ebpfmap/nope"),
    "rollback": Case("rollback"),
    "explain": Case("explain --in eth0 --proto tcp --src 192.0.2.1:40000 --dst 192.0.2.2:22"),
    "explain-elsewhere": Case("explain --in eth9 --proto icmp --src 192.0.2.1 --dst 192.0.2.2"),
    "nat-list": Case("nat list --limit 2"),
    "nat-flush": Case("nat flush --inside 10.0.0.7"),
    "no-kind": Case("get"),
    "unknown-kind": Case("get ebpfprogam"),
}


@pytest.fixture
def live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Router]:
    with running_router(tmp_path, capsys, monkeypatch) as found:
        yield found


def as_text(words: str, said: Said) -> str:
    """Return a command and what it said, as on a terminal."""
    code = f"$ echo $?\n{said.code}\n" if said.code else ""
    return f"$ fos1ctl {words}\n{said.out}{said.err}{code}"


@pytest.mark.parametrize("name", CASES)
def test_says(name: str, live: Router) -> None:
    case = CASES[name]
    case.before(live.desk)
    text = as_text(case.words, live.run(*shlex.split(case.words)))
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE"):
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")


def test_every_text_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


MARKED = re.compile(r"<!-- golden: (?P<name>[a-z-]+) -->\n```console\n(?P<text>.*?)```", re.S)


@pytest.mark.parametrize("page", ["reference/cli.md", "operate/looking.md"])
def test_the_documentation_shows_what_is_printed(page: str) -> None:
    path = ROOT / "docs" / page
    text = path.read_text(encoding="utf-8")
    fresh = MARKED.sub(_fresh, text)
    if os.environ.get("UPDATE"):
        path.write_text(fresh, encoding="utf-8")
    assert text == fresh
    assert (
        text.count("$ fos1ctl") == fresh.count("```console\n$ fos1ctl") == len(MARKED.findall(text))
    )


def _fresh(block: re.Match[str]) -> str:
    said = (GOLDEN / f"{block['name']}.txt").read_text(encoding="utf-8")
    return f"<!-- golden: {block['name']} -->\n```console\n{said}```"

"""fos1ctl with a daemon that answers: plans, waiting, watching, logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fos1d.cli.diff import SIGNS
from fos1d.errors import KernelError
from fos1d.report.desk import PlanView
from fos1d.settings import Settings
from tests.ctl_router import Router, running_router
from tests.fake_desk import BLACKLIST, BROKEN, EDGE, FILTER, PLAN, WAN


@pytest.fixture
def live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Router]:
    with running_router(tmp_path, capsys, monkeypatch) as found:
        yield found


def later(seconds: float, *steps: Callable[[], object]) -> None:
    """Do things, a little after each other."""

    def work() -> None:
        for step in steps:
            time.sleep(seconds)
            step()

    threading.Thread(target=work, daemon=True).start()


# Plans


def test_every_verb_has_its_sign() -> None:
    assert {action.verb for action in PLAN.actions} == set(SIGNS)


def test_a_plan_of_files(live: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "edge.yaml").write_text(EDGE)
    said = live.run("diff", "-f", "policy")
    assert said.code == 1
    assert said.out.startswith("plan for policy: 2 to create (+)")
    asked = [files for what, files in live.desk.asked if what == "plan"]
    assert asked == [{"edge.yaml": EDGE.encode()}]


def test_a_plan_of_invalid_files(
    live: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "typo.yaml").write_text(EDGE)
    live.desk.planned = PlanView("proposed", findings=(_at(BROKEN, "typo.yaml"),))
    said = live.run("diff", "-f", "sub")
    assert (said.code, said.out) == (3, "")
    assert said.err == "sub/typo.yaml:7:3 spec.interfase is not known\n"
    plan = json.loads(live.run("diff", "-f", "sub", "-o", "json").out)
    assert (plan["valid"], plan["findings"][0]["file"]) == (False, "sub/typo.yaml")


def _at(finding: Any, path: str) -> Any:
    return replace(finding, origin=replace(finding.origin, path=path))


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (PlanView("r"), 0),
        (PlanView("r", PLAN.actions[:1]), 1),
        (PlanView("r", conflicts=("x",)), 1),
        (PlanView("r", held=(BLACKLIST,)), 1),
        (PlanView("r", findings=(BROKEN,)), 3),
    ],
)
def test_exit_codes_of_diff(live: Router, plan: PlanView, code: int) -> None:
    live.desk.planned = plan
    assert live.run("diff").code == code


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Put a planner in place that notes what it is asked, and root in front of it."""
    asked: list[object] = []

    def plan_offline(paths: list[Path] | None, settings: Settings) -> PlanView:
        asked.append(paths)
        if paths and paths[0].name == "locked":
            raise KernelError("no CAP_BPF")
        return PLAN

    module = ModuleType("fos1d.cli.offline")
    module.plan_offline = plan_offline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fos1d.cli.offline", module)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return asked


def test_root_plans_without_the_daemon(
    live: Router, tmp_path: Path, offline: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOS1_CONFIG", str(tmp_path / "fos1d.toml"))
    (tmp_path / "fos1d.toml").touch()
    said = live.run("--socket", str(tmp_path / "none.sock"), "diff")
    assert said.code == 1
    assert said.out.startswith("plan for 1a2b3c4d5e6f: 2 to create")
    assert said.err == "fos1ctl: no daemon answers; this looks at the kernel by itself\n"
    (locked := tmp_path / "locked").mkdir()
    said = live.run("--socket", str(tmp_path / "none.sock"), "diff", "-f", str(locked))
    assert said.code == 4
    assert "no plan without the daemon: no CAP_BPF" in said.err
    assert offline == [None, [locked]]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert live.run("--socket", str(tmp_path / "none.sock"), "diff").code == 4
    assert len(offline) == 2


# Waiting and watching


def test_wait_sees_a_change(live: Router) -> None:
    ready = replace(live.desk.now.resources[FILTER], id=WAN)
    later(0.2, lambda: live.desk.set_status(ready))
    said = live.run("wait", "--for=condition=Ready", "ebpf/wan-filter", "--timeout", "5s")
    assert (said.code, said.out) == (
        0,
        "ebpfprogram.networking.fos1.io/wan-filter condition met\n",
    )


def test_wait_for_one_that_is_still_to_come(live: Router) -> None:
    gone = live.desk.now.resources[FILTER]
    live.desk.remove(FILTER)
    later(0.2, lambda: live.desk.set_status(gone))
    words = ("wait", "--for=condition=Ready", "ebpf", "edge-filter", "--timeout=5s")
    assert live.run(*words).code == 0


def test_wait_for_the_end(live: Router) -> None:
    later(0.2, lambda: live.desk.remove(WAN))
    said = live.run("wait", "--for=delete", "ebpf/wan-filter", "--timeout=5s")
    assert (said.code, said.out) == (0, "ebpfprogram.networking.fos1.io/wan-filter deleted\n")


@pytest.mark.parametrize(
    ("until", "code"),
    [
        ("condition=Ready=False", 0),
        ("condition=reconciling", 0),
        ("condition=Programmed=Unknown", 1),
        ("delete", 1),
    ],
)
def test_wait_for_other_things(live: Router, until: str, code: int) -> None:
    assert live.run("wait", f"--for={until}", "ebpf/wan-filter", "--timeout=50ms").code == code


def test_wait_for_several_within_one_timeout(live: Router) -> None:
    began = time.monotonic()
    words = ("wait", "--for=condition=Ready", "ebpf", "edge-filter", "wan-filter", "typo")
    said = live.run(*words, "--timeout", "300ms")
    assert time.monotonic() - began < 1.5
    assert said.code == 1
    assert said.out.count("condition met") == 1
    assert said.err.count("timed out") == 2


def test_get_watch_shows_changes(live: Router) -> None:
    changed = replace(live.desk.now.resources[FILTER], id=WAN)
    later(
        0.3,
        lambda: live.desk.set_status(changed),
        lambda: live.desk.remove(FILTER),
        lambda: live.stop(),
    )
    said = live.run("get", "ebpf", "-w")
    assert said.code == 4
    assert said.out == (
        "NAME          TYPE        INTERFACE   READY   STATUS    AGE\n"
        "edge-filter   xdp         eth0        True    Active    61m\n"
        "typo          <unknown>   <unknown>   False   Failed    61m\n"
        "wan-filter    xdp         wan0        False   Pending   61m\n"
        "wan-filter    xdp         eth0        True    Active    61m\n"
        "edge-filter   xdp         eth0        True    Active    61m   (deleted)\n"
    )


def test_get_watch_as_json(live: Router) -> None:
    later(0.3, lambda: live.desk.remove(WAN), lambda: live.stop())
    lines = live.run("get", "ebpf/wan-filter", "-w", "-o", "json").out.splitlines()
    assert [json.loads(line)["metadata"]["name"] for line in lines] == ["wan-filter"] * 2


# Logs


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a journalctl in front that notes what it is asked."""
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = tools / "journalctl"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tmp_path / "asked"


def test_logs_of_journald(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    journalctl: Path,
) -> None:
    with running_router(tmp_path, capsys, monkeypatch, log="journal") as router:
        assert router.run("logs").code == 0
        assert router.run("logs", "ebpf/edge-filter", "-f", "-o", "json").code == 0
    assert journalctl.read_text().splitlines() == [
        "--output short-iso SYSLOG_IDENTIFIER=fos1d FOS1_NODE=edge-1",
        "--output json SYSLOG_IDENTIFIER=fos1d FOS1_NODE=edge-1 FOS1_KIND=EBPFProgram"
        " FOS1_NAMESPACE=default FOS1_NAME=edge-filter --follow",
    ]


def test_logs_of_a_daemon_that_is_gone(live: Router, tmp_path: Path, journalctl: Path) -> None:
    said = live.run("logs", "--socket", str(tmp_path / "none.sock"))
    assert said.code == 0
    assert "this is what the journal has" in said.err
    assert journalctl.read_text() == "--output short-iso SYSLOG_IDENTIFIER=fos1d\n"


def test_logs_as_json_are_lines(live: Router) -> None:
    lines = live.run("logs", "-o", "json").out.splitlines()
    assert json.loads(lines[0])["reason"] == "Started"


def test_long_details_are_named(live: Router, tmp_path: Path) -> None:
    (tmp_path / "details").mkdir()
    whole = tmp_path / "details" / "EBPFProgram_lab_own-code.log"
    whole.write_text("…")
    said = live.run("describe", "ebpf/own-code", "-n", "lab").out
    assert f"Detail of the last failure (all of it: {whole}):\n  0: (b7) r0 = 2\n" in said


def test_completion_is_a_script() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "fos1d.cli.ctl", "completion", "bash"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    check = f'{script}\nCOMP_WORDS=(fos1ctl desc); COMP_CWORD=1; _fos1ctl; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", check], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "describe\n"

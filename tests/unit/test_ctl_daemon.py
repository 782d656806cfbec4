"""The command line of fos1d: settings, exit codes, what is handed to the daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fos1d
from fos1d.cli import daemon as command_line
from fos1d.errors import KernelError, PermissionMissing, SettingsError
from fos1d.settings import Settings

Ran = list[tuple[str, str]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ran:
    """Put a daemon in place that notes what it is told, and fails as its node's name says."""
    told: Ran = []
    failures: dict[str, BaseException] = {
        "held": SettingsError("api.sock: another fos1d answers there"),
        "barred": PermissionMissing("no CAP_BPF"),
        "broken": KernelError("bpffs is not there"),
        "stopped": KeyboardInterrupt(),
    }

    def work(name: str) -> Callable[[Settings], int]:
        def run(settings: Settings) -> int:
            told.append((name, settings.node.name))
            if error := failures.get(settings.node.name):
                raise error
            return 1 if name == "once" else 0

        return run

    module = ModuleType("fos1d.start")
    for name in ("run", "once", "purge"):
        setattr(module, name, work(name))
    monkeypatch.setitem(sys.modules, "fos1d.start", module)
    monkeypatch.setattr(fos1d, "start", module, raising=False)
    monkeypatch.delenv("FOS1_CONFIG", raising=False)
    return told


def config(folder: Path, name: str) -> str:
    """Return a settings file for a node."""
    path = folder / f"{name}.toml"
    path.write_text(f'[node]\nname = "{name}"\n')
    return str(path)


@pytest.mark.parametrize(("word", "code"), [("run", 0), ("once", 1), ("purge", 0)])
def test_commands(ran: Ran, tmp_path: Path, word: str, code: int) -> None:
    assert command_line.run([word, "--config", config(tmp_path, "edge-1")]) == code
    assert ran == [(word, "edge-1")]


def test_the_environment_may_name_the_settings(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOS1_CONFIG", config(tmp_path, "edge-2"))
    command_line.run(["run"])
    command_line.run(["run", "--config", config(tmp_path, "edge-3")])
    assert ran == [("run", "edge-2"), ("run", "edge-3")]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("held", 2, "fos1d: api.sock: another fos1d answers there\n"),
        ("barred", 5, "fos1d: no CAP_BPF\n"),
        ("broken", 1, "fos1d: bpffs is not there\n"),
        ("stopped", 130, ""),
    ],
)
def test_failures(
    ran: Ran,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: int,
    said: str,
) -> None:
    assert command_line.run(["run", "--config", config(tmp_path, name)]) == code
    assert capsys.readouterr().err == said


def test_wrong_settings(ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fos1d.toml"
    path.write_text("[node]\nnme = 1\n")
    assert command_line.run(["run", "--config", str(path)]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert command_line.run(["run", "--config", str(tmp_path / "none")]) == 2
    assert ran == []


@pytest.mark.parametrize("words", [[], ["walk"], ["run", "--con", "x"], ["run", "x"]])
def test_usage(ran: Ran, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.run(words)
    assert (ended.value.code, ran) == (2, [])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.run(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "fos1d 0.1.0\n")

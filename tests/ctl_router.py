"""fos1ctl against a fake daemon: run a command line in this process, and note all that it says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fos1d.cli import ctl
from fos1d.report.api import ApiServer
from fos1d.report.server import Options
from tests.fake_desk import NOW, FakeDesk

PROCESS = 4711


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Router:
    """A fake daemon, its socket, and a way to run fos1ctl against it."""

    socket: Path
    capsys: pytest.CaptureFixture[str]
    desk: FakeDesk = field(default_factory=FakeDesk)
    stop: Callable[[], None] = lambda: None

    def run(self, *words: str) -> Said:
        """Run fos1ctl."""
        self.capsys.readouterr()
        try:
            code = ctl.run(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = self.capsys.readouterr()
        return Said(int(code), out, err)


@contextmanager
def running_router(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    may_change: Callable[[object], bool] = lambda peer: True,
    log: str = "text",
) -> Iterator[Router]:
    """Run a fake daemon that fos1ctl finds, at a fixed time."""
    router = Router(folder / "api.sock", capsys)
    options = Options(may_change=may_change)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: PROCESS)
        server = ApiServer(router.socket, router.desk, log, lambda: NOW, options)
    monkeypatch.setattr("fos1d.cli.terminal.clock", lambda: NOW)
    monkeypatch.setenv("FOS1_SOCKET", str(router.socket))
    server.start()
    router.stop = server.stop
    yield router
    server.stop()

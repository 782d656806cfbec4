"""The daemon, forked from a process that has already imported it.

A new interpreter takes 1.5 s of CPU for that, and the tests start hundreds of daemons. That the
command starts too is shown by those that run it: test_daemon.py, the demo, tests/systemd.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import fos1d.start  # noqa: F401 (what the server has ready for its children)
from fos1d.cli import daemon
from fos1d.kernel.execute import Executor
from fos1d.plan.actions import Action
from tests.lab import Namespace
from tests.running import ROOT, Router

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([__name__])

Prepare = Callable[[], None]


class Forked:
    """A process with the few methods of Popen that a router needs."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        process.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"process {self.pid} does not end"
        return self._process.exitcode


def forked(router: Router, dies_after: int = 0) -> Forked:
    """Start a daemon; one that kills itself after so many actions, if there are any."""
    environment = {**os.environ, **router.environment}
    words = (router.namespace, router.folder / "log", router.config, environment, dies_after)
    return Forked(_SERVER.Process(target=_run, args=words))


def _run(
    namespace: Namespace, log: Path, config: Path, environment: dict[str, str], dies_after: int
) -> None:
    os.chdir(ROOT)
    os.environ.update(environment)
    with log.open("ab") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    if dies_after:
        _die_after(dies_after)
    with namespace.entered():
        os._exit(daemon.run(["run", "--config", str(config)]))


def _die_after(actions: int) -> None:
    """Have this process killed after so many actions: kill -9 at every place."""
    execute, left = Executor.execute, actions

    def execute_and_count(self: Executor, action: Action) -> str:
        nonlocal left
        remark = execute(self, action)
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return remark

    Executor.execute = execute_and_count  # type: ignore[method-assign]

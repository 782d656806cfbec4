"""The real daemon, started as a process in a namespace, and the commands that people use on it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from unittest import mock

from fos1d.cli import ctl
from tests.lab import Namespace

ROOT = Path(__file__).parents[1]
Launch: TypeAlias = "Callable[[Router], Running]"
PATIENCE = 8
LONGEST_PAUSE_S = 0.2


def until(
    true: Callable[[], object], timeout_s: float = 10.0, what: str = "", pause_s: float = 0.005
) -> float:
    """Wait until something is true; return how long it took, in seconds.

    The timeout is what a machine that does nothing else needs at most; others get more. Who waits
    takes no more than half of a processor from those that are waited for.
    """
    began = asked = time.monotonic()
    while not true():
        now = time.monotonic()
        if now - began > timeout_s * PATIENCE:
            raise AssertionError(f"not within {timeout_s * PATIENCE} s: {what or true}")
        time.sleep(max(pause_s, min(now - asked, LONGEST_PAUSE_S)))
        asked = time.monotonic()
    return time.monotonic() - began


def fos1ctl(
    words: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command line of fos1ctl without a process of its own, which would take 0.3 s."""
    said, complained = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        redirect_stdout(said),
        redirect_stderr(complained),
    ):
        try:
            code = ctl.run(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return subprocess.CompletedProcess(
        ["fos1ctl", *words], code, said.getvalue(), complained.getvalue()
    )


class Running(Protocol):
    """A process, as Popen shows it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


def spawned(router: Router) -> Running:
    """Start the daemon as people do: the command `fos1d run`."""
    words = [str(ROOT / ".venv/bin/fos1d"), "run", "--config", str(router.config)]
    with (router.folder / "log").open("ab") as log:
        return subprocess.Popen(
            [*router.namespace.prefix(), *words],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, **router.environment},
        )


@dataclass
class Router:
    """A namespace with a daemon's folders. The daemon may be started and killed at will."""

    namespace: Namespace
    folder: Path
    bpffs: Path
    settings: str = ""
    cgroup: Path | None = None
    process: Running | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    launch: Launch = spawned

    def __post_init__(self) -> None:
        for name in ("policy", "state", "run", "workloads.d"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.write_settings()

    @property
    def policy(self) -> Path:
        """The folder of manifests."""
        return self.folder / "policy"

    @property
    def workloads(self) -> Path:
        """The folder of workload files."""
        return self.folder / "workloads.d"

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "fos1d.toml"

    def write_settings(self, source: str | None = None) -> None:
        """Write the settings file: a directory source, and no resync that heals what a wake should,
        unless told otherwise."""
        cgroup = f'cgroup = "{self.cgroup}"\n' if self.cgroup else ""
        source = source or f'type = "directory"\npath = "{self.policy}"'
        reconcile = "" if "[reconcile]" in self.settings else '[reconcile]\nresync = "1h"\n'
        self.config.write_text(
            f'[source]\n{source}\n[paths]\nbpffs = "{self.bpffs}"\n'
            f'state = "{self.folder}/state"\nruntime = "{self.folder}/run"\n'
            f'workloads = "{self.workloads}"\n{cgroup}'
            f"{reconcile}{self.settings}\n"
        )

    def write(self, name: str, content: str | bytes) -> None:
        """Put a file into the policy folder in one step."""
        staged = self.folder / f".{Path(name).name}.new"
        staged.write_bytes(content.encode() if isinstance(content, str) else content)
        place = self.policy / name
        place.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(place)

    def start(self, launch: Launch | None = None) -> None:
        """Start the daemon and wait until its first pass is over."""
        self.process = (launch or self.launch)(self)
        socket = self.folder / "run/api.sock"
        until(lambda: self._is_running() and socket.exists(), 20, "the daemon listens")
        until(self._is_up, 20, "the daemon has made a pass", pause_s=0.02)

    def _is_running(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the daemon ended: {self.log()[-3000:]}")
        return True

    def _is_up(self) -> bool:
        self._is_running()
        done = self.ctl("status", "-o", "json", check=None)
        return done.returncode in (0, 1) and json.loads(done.stdout)["passes"]["count"] > 0

    def signal(self, number: signal.Signals) -> None:
        """Send the daemon a signal; wait for its end if that ends it."""
        assert self.process is not None
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(20)
            self.process = None

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it in order."""
        if self.process is not None:
            self.signal(signal.SIGTERM)

    def log(self) -> str:
        """Return what the daemon said."""
        place = self.folder / "log"
        return place.read_text() if place.exists() else ""

    def ctl(self, *words: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run fos1ctl in this process; its exit code must be `check`."""
        done = fos1ctl(words, {"FOS1_SOCKET": f"{self.folder}/run/api.sock", "NO_COLOR": "1"})
        if check is not None:
            assert done.returncode == check, (
                f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def json(self, *words: str, check: int | None = 0) -> Any:
        """Run fos1ctl and read its JSON."""
        return json.loads(self.ctl(*words, "-o", "json", check=check).stdout)

    def status(self) -> Any:
        """Return what `fos1ctl status` says."""
        return self.json("status", check=None)

    def condition(self, kind: str, name: str, condition: str = "Ready") -> Mapping[str, Any]:
        """Return a condition of a resource, empty if there is none."""
        done = self.ctl("get", f"{kind}/{name}", "-o", "json", check=None)
        if done.returncode:
            return {}
        conditions = json.loads(done.stdout)["status"]["conditions"]
        return next((c for c in conditions if c["type"] == condition), {})

    def ready(self, kind: str, name: str) -> bool:
        """Whether a resource is Ready."""
        return self.condition(kind, name).get("status") == "True"

    def ip(self, *words: str) -> str:
        """Run ip(8) in the router."""
        return self.namespace.ip(*words)

    def xdp(self, interface: str) -> str:
        """Return what ip(8) shows of an interface's XDP program."""
        shown = self.namespace.ip("-d", "link", "show", "dev", interface)
        return next((line.strip() for line in shown.splitlines() if "prog/xdp" in line), "")


@contextmanager
def router(
    namespace: Namespace,
    folder: Path,
    bpffs: Path,
    settings: str = "",
    launch: Launch = spawned,
    cgroup: Path | None = None,
) -> Iterator[Router]:
    """Return a router whose daemon is stopped at the end, whatever happens."""
    made = Router(namespace, folder, bpffs, settings, cgroup, launch=launch)
    try:
        yield made
    finally:
        if made.process is not None:
            made.process.kill()
            made.process.wait()

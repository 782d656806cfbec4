"""A machine made of namespaces: systemd as PID 1, on this kernel, above the host's own root.

Nothing is downloaded and nothing of the host is written: the disk is an overlay (disk.sh), and a
boot is a set of new namespaces (boot.sh). What the host has enabled does not run in it. The machine
dies with this process, whatever happens to it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.running import ROOT, until

HERE = Path(__file__).parent
SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "setpriv", "pivot_root", "ip", "systemctl", "make")
BOUND = ("setpriv", "--pdeathsig", "KILL", "--")
NAMESPACES = ("--mount", "--pid", "--cgroup", "--net", "--uts", "--ipc")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "",
}


class NoMachine(Exception):
    """This host cannot run one; the message says what is missing."""


def missing() -> str:
    """Return what this host lacks, "" if nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"commands not found: {', '.join(absent)}"
    if not SYSTEMD.exists():
        return f"no {SYSTEMD}: apt install systemd"
    if _cgroup_mount() is None:
        return "no cgroup2 file system is mounted"
    if "overlay" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "overlay"], check=False, capture_output=True)
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    return ""


def _cgroup_mount() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


class Machine:
    """One machine: switched on by `boot`, off by `cut_power`. `log` is what the boots said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "console.log"
        self.pid = 0
        self._disk = self._make_disk()
        self._running: subprocess.Popen[bytes] | None = None
        mount = _cgroup_mount()
        assert mount
        self._cgroup = mount / f"fos1-test-{os.getpid()}-{folder.name}"

    def _make_disk(self) -> subprocess.Popen[bytes]:
        place = self.folder / "disk"
        place.mkdir(parents=True)
        command = ["unshare", "--mount", "--propagation", "private", "sh", str(HERE / "disk.sh")]
        with self.log.open("wb") as log:
            disk = subprocess.Popen(
                [*BOUND, *command, str(place), str(ROOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert disk.stdout
        if disk.stdout.readline() != b"ready\n":
            raise NoMachine(f"no disk could be made: {self.log.read_text().strip()}")
        return disk

    # Power

    def boot(self) -> float:
        """Switch on and wait until systemd has done all it wants to; return the seconds."""
        began = time.monotonic()
        self._cgroup.mkdir(exist_ok=True)
        # Into the cgroup first: it becomes the root of the new cgroup namespace.
        enter = 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"'
        boot = ["sh", str(HERE / "boot.sh"), str(self.folder / "disk/root")]
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                [
                    *(*BOUND, "nsenter", "-t", str(self._disk.pid), "--mount", "--"),
                    *("sh", "-c", enter, "sh", str(self._cgroup)),
                    *("unshare", *NAMESPACES, "--fork", "--kill-child=KILL", "--", *boot),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._is_up, 30, f"systemd is up: {self.log.read_text()}")
        self.run("systemctl", "is-system-running", "--wait", check=None)
        return time.monotonic() - began

    def _is_up(self) -> bool:
        assert self._running
        if self._running.poll() is not None:
            raise NoMachine(f"systemd ended: {self.log.read_text().strip()}")
        number = self._running.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        if not children:
            return False
        self.pid = int(children[0])
        return self.run("test", "-S", "/run/systemd/private", check=None).returncode == 0

    def cut_power(self) -> None:
        """Switch off without warning."""
        if self._running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            self._running.wait(10)
            self._running = None
            until(self._is_empty, 10, "all its processes are gone")

    def shut_down(self) -> None:
        """Switch off in order."""
        assert self._running
        self.run("systemctl", "poweroff", check=None)
        self._running.wait(30)
        self._running = None
        until(self._is_empty, 10, "all its processes are gone")

    def _is_empty(self) -> bool:
        for place in sorted(self._cgroup.rglob("*"), reverse=True):
            if place.is_dir():
                with suppress(OSError):
                    place.rmdir()
        with suppress(OSError):
            self._cgroup.rmdir()
        return not self._cgroup.exists()

    def destroy(self) -> None:
        """Switch off and throw away the disk."""
        self.cut_power()
        assert self._disk.stdin and self._disk.stdout
        self._disk.stdin.close()
        self._disk.wait(10)
        self._disk.stdout.close()

    # What people do on it

    def run(
        self, *words: str, check: int | None = 0, given: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root; its exit code must be `check`."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", "-r", "-w", "--", *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=ENVIRONMENT,
        )
        if check is not None and done.returncode != check:
            said = f"{done.stdout}{done.stderr}"
            raise AssertionError(f"{' '.join(words)}: {done.returncode}\n{said}\n{self.journal()}")
        return done

    def sh(self, script: str, check: int | None = 0) -> str:
        """Run a shell script in it; return what it printed."""
        return self.run("sh", "-euc", script, check=check).stdout

    def write(self, place: str, text: str, mode: str = "644") -> None:
        """Put a file into place in one step."""
        script = 'mkdir -p "${1%/*}" && cat >"$1.new~" && chmod "$2" "$1.new~" && mv "$1.new~" "$1"'
        self.run("sh", "-c", script, "sh", place, mode, given=text)

    def unit(self, *properties: str) -> Mapping[str, str]:
        """Return properties of fos1d.service."""
        shown = self.run("systemctl", "show", "fos1d", f"--property={','.join(properties)}").stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def active_since_us(self, unit: str) -> int:
        """Return when a unit became active, on the clock of the journal's monotonic times."""
        return int(self.sh(f"systemctl show -P ActiveEnterTimestampMonotonic {unit}"))

    def main_pid(self) -> int:
        """Return the daemon's process, as numbered in the machine; 0 if there is none."""
        return int(self.unit("MainPID")["MainPID"])

    def status(self) -> Any:
        """Return what `fos1ctl status` says; nothing where the daemon does not answer."""
        done = self.run("fos1ctl", "status", "-o", "json", check=None)
        return json.loads(done.stdout) if done.returncode in (0, 1) else {}

    def entries(self, *matches: str) -> list[Mapping[str, Any]]:
        """Return the journal's entries of this boot."""
        shown = self.run("journalctl", "-b", "-o", "json", "--no-pager", *matches, check=None)
        return [json.loads(line) for line in shown.stdout.splitlines()]

    def journal(self) -> str:
        """Return the journal's end, for error messages."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", "-r", "-w", "--", "journalctl", "-n", "40"],
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )
        return done.stdout[-6000:]


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Make a machine and switch it on; raise NoMachine where the host cannot."""
    if lacks := missing():
        raise NoMachine(lacks)
    made = Machine(folder)
    try:
        made.boot()
        yield made
    finally:
        made.destroy()

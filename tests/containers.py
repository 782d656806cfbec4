"""A podman of one's own, in a mount namespace of its own, with its API on a socket.

There the cgroup2 file system is where podman looks for it, and the socket where everybody does. Its
containers' cgroups are below a cgroup of the test. A container's whole content is one program that
waits.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import lab
from tests.running import until

NEEDED = ("podman", "crun", "netavark")
SEARCHED = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/podman"

CONFIG = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = "{folder}/static"
tmp_dir = "{folder}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
[containers]
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=500:500"]
"""
WAIT = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


def missing() -> str:
    """Return what to install, "" if nothing."""
    absent = [name for name in NEEDED if shutil.which(name, path=SEARCHED) is None]
    return f"needs a real podman: apt install {' '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class Podman:
    """A running engine. `socket` speaks its API; `parent` is the cgroup of its containers."""

    folder: Path
    parent: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        """Where the API is."""
        return self.folder / "run/podman/podman.sock"

    def inside(self) -> list[str]:
        """Return the words that make a command run in its namespaces."""
        return ["nsenter", "-t", str(self.process.pid), "--mount", "--net", "--"]

    def words(self) -> list[str]:
        """Return the words that begin a podman command."""
        return [*self.inside(), *podman(self.folder)]

    def __call__(self, *words: str) -> str:
        """Run a podman command."""
        return lab.command(*self.words(), *words, timeout_s=60).strip()

    def start(self, name: str, *words: str) -> str:
        """Start a container that waits; return its id."""
        parent = f"--cgroup-parent=/{self.parent.name}"
        # Without --privileged crun wants CAP_SYS_RESOURCE, for the program that guards devices.
        options = ["run", "-d", "--privileged", f"--name={name}", parent, *words]
        return self(*options, "--rootfs", str(self.folder / "root"), "/wait").splitlines()[-1]

    def cgroup(self, identity: str) -> Path:
        """Return the container's cgroup."""
        return self.parent / f"libpod-{identity}"


def podman(folder: Path) -> list[str]:
    """Return the words that begin a podman command."""
    stores = ["--root", str(folder / "store"), "--runroot", str(folder / "running")]
    config = f"CONTAINERS_CONF={folder}/containers.conf"
    return ["env", config, "podman", "--log-level=error", "--storage-driver=vfs", *stores]


@contextmanager
def engine(folder: Path, parent: Path, namespace: lab.Namespace | None = None) -> Iterator[Podman]:
    """Start podman's service, in a network namespace of its own if none is given, and end it with
    all its containers."""
    (folder / "containers.conf").write_text(CONFIG.format(folder=folder))
    (folder / "root").mkdir()
    (folder / "wait.c").write_text(WAIT)
    lab.command("gcc", "-static", "-o", f"{folder}/root/wait", f"{folder}/wait.c")
    socket = folder / "run/podman/podman.sock"
    socket.parent.mkdir(parents=True)
    ready = "ip link set lo up && mount -t cgroup2 none /sys/fs/cgroup && mount --bind $0 /run"
    apart = [*namespace.prefix(), "unshare", "--mount"] if namespace else ["unshare", "-mn"]
    service = [*podman(folder), "system", "service", "--time=0", f"unix://{socket}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*apart, "sh", "-c", f'{ready} && exec "$@"', f"{folder}/run", *service],
            stdout=log,
            stderr=log,
        )
        made = Podman(folder, parent, process)
        try:
            until(socket.is_socket, 20, f"podman serves; see {folder}/log")
            yield made
            made("rm", "--all", "--force", "--time=0")
        finally:
            process.kill()
            process.wait(10)
            until(lambda: not _still_at_work(folder), 10, "what podman left behind has ended")


def _still_at_work(folder: Path) -> bool:
    """Whether a process, such as one that cleans up after a container, works in the folder."""
    done = subprocess.run(["pgrep", "-f", str(folder)], check=False, capture_output=True)
    return done.returncode == 0

"""A docker of one's own, in mount and network namespaces of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import lab
from tests.containers import SEARCHED, WAIT
from tests.running import until

NEEDED = ("dockerd", "containerd", "runc")


def missing() -> str:
    """Return what to install, "" if nothing."""
    absent = [name for name in NEEDED if shutil.which(name, path=SEARCHED) is None]
    return "needs a real docker: apt install docker.io" if absent else ""


@dataclass(frozen=True)
class Docker:
    """A running engine. `socket` speaks its API; `parent` is the cgroup of its containers."""

    folder: Path
    parent: Path

    @property
    def socket(self) -> Path:
        """Where the API is."""
        return self.folder / "run/docker.sock"

    def __call__(self, *words: str) -> str:
        """Run a docker command."""
        return lab.command("docker", "-H", f"unix://{self.socket}", *words, timeout_s=60).strip()

    def start(self, name: str, *words: str) -> str:
        """Start a container that waits; return its id."""
        options = [f"--name={name}", f"--cgroup-parent=/{self.parent.name}", *words]
        return self("run", "-d", *options, "waiting", "/wait").splitlines()[-1]


@contextmanager
def engine(folder: Path, parent: Path) -> Iterator[Docker]:
    """Start dockerd, and end it with all its containers."""
    made = Docker(folder, parent)
    (folder / "run").mkdir()
    ready = "ip link set lo up && mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs none /run"
    options = ["--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    places = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"-p{folder}/pid"]
    driver = ["--storage-driver=vfs", "--exec-opt=native.cgroupdriver=cgroupfs"]
    words = ["dockerd", *places, *options, *driver, f"-Hunix://{made.socket}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", f'{ready} && exec "$@"', "sh", *words],
            stdout=log,
            stderr=log,
        )
        try:
            until(made.socket.is_socket, 40, "dockerd serves")
            _import_image(made)
            yield made
            for left in made("ps", "-aq").split():
                made("rm", "--force", left)
        finally:
            process.terminate()
            process.wait(20)


def _import_image(docker: Docker) -> None:
    root = docker.folder / "root"
    root.mkdir()
    (docker.folder / "wait.c").write_text(WAIT)
    lab.command("gcc", "-static", "-o", f"{root}/wait", f"{docker.folder}/wait.c")
    lab.command("tar", "-C", str(root), "-cf", f"{root}.tar", ".")
    docker("import", f"{root}.tar", "waiting")

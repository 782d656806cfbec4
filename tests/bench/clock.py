"""A router with a real daemon, and the clock from what an operator does to what the kernel does."""

from __future__ import annotations

import ctypes
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import lab
from tests.bench.objects import lib
from tests.running import Router, router

WAN = "wan0"
PATIENCE_S = 60.0
LOOK_S = 0.0005


@dataclass(frozen=True, slots=True)
class Place:
    """A router's lab: the daemon's folders and the index of its one interface."""

    router: Router
    index: int

    def program(self) -> int:
        """Return the id of the XDP program on the interface, 0 where there is none."""
        found = ctypes.c_uint32()
        with self.router.namespace.entered():
            lib().bpf_xdp_query_id(self.index, 0, ctypes.byref(found))
        return found.value

    def seconds_until_another(self, act: Callable[[], object]) -> float:
        """Do something, and return how long it takes until another XDP program is in force."""
        before = self.program()
        with self.router.namespace.entered():
            began = time.monotonic()
            act()
            return self._wait_for_another(before, began) - began

    def _wait_for_another(self, before: int, began: float) -> float:
        found = ctypes.c_uint32()
        query = lib().bpf_xdp_query_id
        while time.monotonic() < began + PATIENCE_S:
            query(self.index, 0, ctypes.byref(found))
            if found.value not in (0, before):
                return time.monotonic()
            time.sleep(LOOK_S)
        raise RuntimeError(f"no other program in {PATIENCE_S} s: {self.router.log()[-2000:]}")


@contextmanager
def place(settings: str = "") -> Iterator[Place]:
    """Make a router with one interface; its daemon is not started."""
    with (
        lab.bpf_folder() as pins,
        lab.namespaces("isp", "router") as (isp, here),
        tempfile.TemporaryDirectory(prefix="fos1-bench-") as folder,
    ):
        lab.veth(isp, "eth0", here, WAN)
        lab.address(here, WAN, "203.0.113.1/24")
        index = here.ip("-o", "link", "show", "dev", WAN).split(":")[0]
        with router(here, Path(folder), pins / "fos1", settings) as made:
            yield Place(made, int(index))


def process_of(made: Router) -> int:
    """Return the process id of the daemon itself."""
    assert made.process is not None
    return made.process.pid


def memory_mb(process: int) -> tuple[float, float]:
    """Return a process's resident memory now, and the most that it ever was, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    now, most = (
        int(re.findall(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)[0])
        for name in ("VmRSS", "VmHWM")
    )
    return now * 1024 / 1e6, most * 1024 / 1e6


def cpu_s(process: int) -> float:
    """Return the CPU time of all threads of a process since it began."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9


def until_quiet(process: int) -> None:
    """Wait until a process has computed nothing for three seconds."""
    before = -1.0
    while (now := cpu_s(process)) != before:
        before = now
        time.sleep(3)


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in place in one step, as tools do."""
    staged = path.with_name(f".{path.name}.new")
    staged.write_bytes(content)
    staged.replace(path)

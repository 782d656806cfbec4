"""A router with a real daemon, and the clock from what an operator does to what the kernel does."""

from __future__ import annotations

import ctypes
import os
import re
import select
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from tests import frames, lab
from tests.bench.objects import lib
from tests.lab import Namespace
from tests.running import Router, router

WAN = "wan0"
PATIENCE_S = 60.0
LOOK_S = 0.0005
ARRIVAL_S = 0.003
# So many packets in a row decide.
ENOUGH = 5
ETH_P_ALL = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A router's lab: the daemon's folders, the index of its one interface, and who is beyond."""

    router: Router
    index: int
    beyond: Namespace

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

    def seconds_until_judged(self, act: Callable[[], object], source: str, passes: bool) -> float:
        """Do something, and return how long it takes until packets of a source pass, or do not."""
        with Probe.opened(self, source) as probe:
            began = time.monotonic()
            act()
            seen: list[float] = []
            while time.monotonic() < began + PATIENCE_S:
                sent = time.monotonic()
                seen = [*seen, sent] if probe.passes() is passes else []
                if len(seen) == ENOUGH:
                    return seen[0] - began
                time.sleep(LOOK_S)
        raise RuntimeError(f"not within {PATIENCE_S} s: {self.router.log()[-2000:]}")


@dataclass(slots=True)
class Probe:
    """Packets of one source, and whether they get past the XDP hook of the router's interface."""

    sender: socket.socket
    receiver: socket.socket
    source: str
    sent: int = 0

    @classmethod
    @contextmanager
    def opened(cls, here: Place, source: str) -> Iterator[Probe]:
        """Open both ends."""
        with (
            here.beyond.entered(),
            _packet_socket("eth0") as sender,
            here.router.namespace.entered(),
            _packet_socket(WAN) as receiver,
        ):
            yield cls(sender, receiver, source)

    def passes(self) -> bool:
        """Send a packet; tell whether it comes within milliseconds."""
        self.sent += 1
        mark = b"fos1 probe %d" % self.sent
        self.sender.send(_frame(self.source, mark))
        while select.select([self.receiver], [], [], ARRIVAL_S)[0]:
            if self.receiver.recv(2048).endswith(mark):
                return True
        return False


def _packet_socket(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.bind((interface, 0))
    return made


def _frame(source: str, content: bytes) -> bytes:
    datagram = frames.udp(4711, 9, content)
    if ip_address(source).version == 4:
        return frames.ethernet(frames.ipv4(source, "203.0.113.1", frames.UDP, datagram))
    return frames.ethernet(frames.ipv6(source, "2001:db8::1", frames.UDP, datagram))


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
            yield Place(made, int(index), isp)


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


def staged(path: Path, content: bytes) -> Callable[[], object]:
    """Write a file beside its place and to the disk, as careful tools do; return what puts it in
    place in one step."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return partial(beside.replace, path)
